"""An edge's files: its VCL, what it is told before it starts, and its console's secret.

Called by the runtime before a start and before every change. Pure: the same seat gives the same texts.
"""

import hashlib
from collections.abc import Mapping

import jinja2

from tenfold import engines
from tenfold.engines.varnish import settings

VCL = "edge.vcl"
PARTS = ("edge.vcl", "floors.vcl", "keeping.vcl", "purging.vcl")
START = "start.cli"
SECRET = "secret"  # noqa: S105 - a file's name

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("tenfold.engines.varnish"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701 - configuration files, not HTML
)


def render(seat: engines.Seat) -> Mapping[str, str]:
    """`{path: text}`, relative to `seat.config`."""
    name = revision(seat)
    start = f"vcl.load {name} {settings.quoted(seat.config / VCL)}\nvcl.use {name}\n"
    return {**_texts(seat), START: start, SECRET: secret_file(seat)}


def secret_file(seat: engines.Seat) -> str:
    """What the file holds that both sides of the console know."""
    return f"{seat.secrets.edge}\n"


def revision(seat: engines.Seat) -> str:
    """The name under which a running edge has this VCL: a hash of it."""
    text = "".join(_texts(seat).values())
    return f"edge_{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _texts(seat: engines.Seat) -> dict[str, str]:
    wanted = settings.of(seat)
    return {
        part: _templates.get_template(f"{part}.j2").render(
            settings=wanted, ready_path=settings.READY_PATH, origin_path=settings.ORIGIN_PATH
        )
        for part in PARTS
    }
