"""What joins what, and what is cut: two files that `engines/wan` writes and `program` reads; and what this one says."""

import hashlib
from pathlib import Path

import msgspec

FILE = "network.json"
CUTS = "cuts.json"


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """What lies between two regions, each way alike."""

    name: str
    """The names of the two regions with a dash between them."""
    delay_seconds: float = 0.0
    """One way."""
    jitter_seconds: float = 0.0
    """What a delivery may take longer, by chance."""
    bandwidth_bytes: int | None = None
    """A second, each way; None: as many as there are."""


class Road(msgspec.Struct, frozen=True, kw_only=True):
    """A server of one region as another one meets it."""

    link: str
    source: str
    """The region that asks."""
    target: str
    """The region that is asked."""
    listen: str
    """The address where it is met."""
    address: str
    """Its own address."""
    ports: tuple[int, ...]


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    links: tuple[Link, ...] = ()
    roads: tuple[Road, ...] = ()


class Direction(msgspec.Struct, frozen=True, kw_only=True):
    """What one link has carried one way since the program began."""

    source: str
    target: str
    open: int = 0
    """Connections that are open, by the region that opened them."""
    opened: int = 0
    refused: int = 0
    """Connections that nobody took at their other end."""
    sent_bytes: int = 0
    """What has arrived in the target, whoever opened the connection."""


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """How one link is."""

    name: str
    is_cut: bool = False
    directions: tuple[Direction, ...] = ()


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What the program says of itself to whoever connects to it."""

    digest: str
    """Of the network that it goes by."""
    links: tuple[Carried, ...] = ()
    troubles: tuple[str, ...] = ()
    """Addresses that it cannot listen on, files that it cannot read."""


class BadNetworkError(Exception):
    """A file that cannot be used; the message says which and why."""


def read(path: Path) -> tuple[Network, str]:
    """The network, and its digest. Raises BadNetworkError."""
    try:
        content = path.read_bytes()
        return msgspec.json.decode(content, type=Network), digest(content)
    except (OSError, msgspec.DecodeError) as error:
        raise BadNetworkError(f"{path}: {error}") from error


def read_cuts(path: Path) -> frozenset[str]:
    """The names of the links that are cut; without a file none is. Raises BadNetworkError."""
    try:
        return frozenset(msgspec.json.decode(path.read_bytes(), type=list[str]))
    except FileNotFoundError:
        return frozenset()
    except (OSError, msgspec.DecodeError) as error:
        raise BadNetworkError(f"{path}: {error}") from error


def digest(content: bytes) -> str:
    """A short name of what a file says."""
    return hashlib.sha256(content).hexdigest()[:16]
