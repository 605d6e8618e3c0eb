"""The files of a name server: PowerDNS's own, and the zone that the program beside it reads. Pure."""

from collections.abc import Mapping

import jinja2

from tenfold import engines, zone
from tenfold.engines.powerdns import settings

ZONE = "zone.json"

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("tenfold.engines.powerdns"),
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701 - a configuration file, not HTML
)


def file(seat: engines.Seat) -> str:
    """The name that PowerDNS looks for."""
    return f"pdns-{seat.server.name}.conf"


def render(seat: engines.Seat) -> Mapping[str, str]:
    """PowerDNS's file. It names the domain, which it keeps a list of: with another one it is started anew."""
    text = _templates.get_template("pdns.conf.j2").render(
        domain=seat.topology.service.domain,
        name=seat.server.name,
        socket=settings.socket(seat),
        listens=settings.listens(seat),
        keep_seconds=settings.KEEP_SECONDS,
        run=seat.run,
    )
    return {file(seat): text}


def render_georoute(seat: engines.Seat) -> Mapping[str, str]:
    """The zone: read again by the program whenever it changes."""
    return {ZONE: zone.dump(settings.zone_of(seat)).decode()}
