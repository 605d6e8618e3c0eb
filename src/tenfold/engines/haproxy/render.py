"""The front door's files: `haproxy.cfg` and the Lua script that lets requests wait.

Called by the runtime before a start and before every change. Pure: the same seat gives the same texts.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from urllib.parse import quote

import jinja2

from tenfold import engines
from tenfold.engines.haproxy import counts, hop, settings

CONFIGURATION = "haproxy.cfg"

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("tenfold.engines.haproxy"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701  these are configuration files, not HTML
)


def render(seat: engines.Seat) -> Mapping[str, str]:
    """The texts by file name."""
    wanted = settings.of(seat)
    return {
        CONFIGURATION: _configuration(wanted, _revision(wanted)),
        "hold.lua": _templates.get_template("hold.lua.j2").render(settings=wanted),
    }


def revision(seat: engines.Seat) -> str:
    """A hash of the configuration, its lists of servers left out: two that differ need a reload, not a new server.

    `admin.revision` says which one a running HAProxy was started or reloaded with.
    """
    return _revision(settings.of(seat))


def _revision(wanted: settings.Settings) -> str:
    groups = tuple(dataclasses.replace(group, upstreams=()) for group in wanted.groups)
    cdn = dataclasses.replace(wanted.cdn, edges=()) if wanted.cdn else None
    text = _configuration(dataclasses.replace(wanted, groups=groups, cdn=cdn), "") + repr(wanted.weights)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _configuration(wanted: settings.Settings, revision: str) -> str:
    return _templates.get_template(f"{CONFIGURATION}.j2").render(
        settings=wanted,
        revision=revision,
        hold=settings.HOLD,
        keep_alive_seconds=settings.KEEP_ALIVE_SECONDS,
        backend=settings.backend,
        origin=settings.ORIGIN,
        condition=_condition,
        counts=counts,
        hop=hop,
    )


def _condition(path: str) -> str:
    """The rule for a path prefix: `/api` means /api and what is below it, never /apiary."""
    safe = quote(path, safe="/%-._~!$&()*+,;=:@")
    return f"{{ path_beg {safe} }}" if safe.endswith("/") else f"{{ path {safe} }} or {{ path_beg {safe}/ }}"
