"""The client's address and scheme, restored from what the balancer says; what anybody else says is taken away.

Called by `exchange` for requests that carry such headers. Pure but for the scope that it is handed.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable

from tenfold.sdk.asgi import protocol

FORWARDING = frozenset(
    (
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        b"x-forwarded-server",
        b"x-real-ip",
    )
)
"""Headers by which proxies say who is behind them."""

SECURE = {"http": "https", "https": "https", "ws": "wss", "wss": "wss"}
PLAIN = {"http": "http", "https": "http", "ws": "ws", "wss": "ws"}
CHANGES = {b"https": SECURE, b"wss": SECURE, b"http": PLAIN, b"ws": PLAIN}
"""By what X-Forwarded-Proto says, and by the scheme that we were called with, the scheme that the client used."""


def scheme(forwarded_proto: bytes, served: str) -> str:
    """The client's scheme: `served`, changed to what the last proxy has named, when it is one that we know."""
    changes = CHANGES.get(forwarded_proto) or CHANGES.get(forwarded_proto.rpartition(b",")[2].strip().lower(), {})
    return changes.get(served, served)


def original(forwarded_for: str, trusts: Callable[[str], bool]) -> str:
    """From the right, the first address that is not a proxy of ours: what stands left of it, the client made up.

    Empty when the header holds no address, or something that is none where one was expected.
    """
    found = ""
    for part in reversed(forwarded_for.split(",")):
        address = part.strip().strip("[]")
        if not _is_address(address):
            return found
        found = address
        if not trusts(address):
            return found
    return found


def strip(scope: protocol.Scope) -> None:
    """Take away what a peer that is not trusted says about who is behind it."""
    scope["headers"] = [(name, value) for name, value in scope["headers"] if name not in FORWARDING]


def is_inside(address: str, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    """Whether the text is an address in one of the networks."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def _is_address(text: str) -> bool:
    """By the C library: `ipaddress` takes ten times as long, and this is asked for every request."""
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return False
    return True
