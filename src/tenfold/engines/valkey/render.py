"""Valkey's configuration file. Called by the runtime before every start. Pure."""

import dataclasses
import hashlib
from collections.abc import Mapping

from tenfold import engines
from tenfold.engines import templates
from tenfold.engines.valkey import settings

FILE = "valkey.conf"

_templates = templates.of("valkey")


def render(seat: engines.Seat) -> Mapping[str, str]:
    """`{path: text}`, relative to `seat.config`."""
    text = _templates.get_template(f"{FILE}.j2").render(
        **dataclasses.asdict(settings.settings(seat)),
        node_timeout=settings.NODE_TIMEOUT_MILLISECONDS,
        app=settings.APP,
        app_rights=settings.APP_RIGHTS,
        app_digest=_digest(seat.secrets.cache),
        admin=settings.ADMIN,
        admin_digest=_digest(seat.secrets.cache_admin),
        admin_password=seat.secrets.cache_admin,
    )
    return {FILE: text}


def _digest(password: str) -> str:
    """What Valkey compares a password with."""
    return hashlib.sha256(password.encode()).hexdigest()
