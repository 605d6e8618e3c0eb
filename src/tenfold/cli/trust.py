"""Which certificate `tenfold load` expects at an https front door, and a first look before any load is sent."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from tenfold import errors
from tenfold.runtime import paths
from tenfold.topology import tiers
from tenfold.traffic import connection


@dataclass(frozen=True, slots=True)
class Trust:
    """What is believed. `context` None: what this machine believes; `name` empty: the URL's host."""

    context: ssl.SSLContext | None = None
    name: str = ""


def of(
    topology: Path | None, service: tiers.Service | None, url: str | None, *, ca: Path | None, insecure: bool
) -> Trust:
    """What was asked for; else, at the service's own front door, its self-signed certificate and no other.

    A certificate of the user's is for the service's domain, whatever address the front door listens on.
    """
    if insecure:
        return Trust(_anything())
    tls = service.tls if service is not None and topology is not None and url in (None, service.url) else None
    name = service.domain if tls is not None and service is not None and not tls.is_self_signed else ""
    if ca is not None:
        return Trust(_only(ca), name)
    if tls is None or topology is None or not tls.is_self_signed:
        return Trust(None, name)
    copy = paths.Paths(topology).tls / tls.copy_name
    if not copy.exists():
        raise errors.BadInput(f"{copy}: no certificate found; start the service first: tenfold up -d")
    return Trust(_only(copy))


async def ensure(origin: connection.Origin) -> None:
    """Raise BadInput when the front door shows a certificate that is not believed. A refused connection is no such."""
    found = await connection.open_connection(origin)
    if isinstance(found, connection.Connection):
        found.close()
    elif found.reason is connection.Reason.UNTRUSTED:
        advice = "give its authority with --ca FILE, or believe any with --insecure"
        raise errors.BadInput(f"url: {found.detail}; {advice}")


def _only(file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(file))
    except (OSError, ssl.SSLError) as error:
        raise errors.BadInput(f"{file}: no certificate can be read ({error}), a PEM file expected") from error


def _anything() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
