"""NATS's configuration file. Called by the runtime before every start. Pure."""

import dataclasses
from collections.abc import Mapping

from tenfold import engines
from tenfold.engines import templates
from tenfold.engines.nats import settings
from tenfold.topology import layout

FILE = "nats.conf"

_templates = templates.of("nats")


def render(seat: engines.Seat) -> Mapping[str, str]:
    """`{path: text}`, relative to `seat.config`."""
    text = _templates.get_template(f"{FILE}.j2").render(
        **dataclasses.asdict(settings.settings(seat)),
        route_port=settings.ROUTE_PORT,
        monitor_port=settings.MONITOR_PORT,
        link_port=layout.QUEUE_LINK_PORT,
        messages=settings.MESSAGES,
        memory_bytes=settings.MEMORY_BYTES,
        ping_seconds=settings.PING_SECONDS,
        ping_max=settings.PING_MAX,
        silent_seconds=settings.PING_SECONDS * (settings.PING_MAX + 1),
        sync_seconds=settings.SYNC_SECONDS,
        app=settings.APP,
        app_password=seat.secrets.queue,
        admin=settings.ADMIN,
        admin_password=seat.secrets.queue_admin,
    )
    return {FILE: text}
