"""What the runtime tells a name server: the name it answers for, the regions, and where each of them is checked.

Written by `engines/powerdns`, read by the program `tenfold.georoute`, which watches the file. Plain values: who is
healthy is not in it, for name servers find that out themselves and go on when the runtime is dead.
"""

import hashlib
from pathlib import Path

import msgspec

from tenfold import errors


class Location(msgspec.Struct, frozen=True):
    """A place on the map, in degrees."""

    latitude: float
    longitude: float


class Check(msgspec.Struct, frozen=True):
    """A door of a region, as one reaches it from where the name server is."""

    host: str
    port: int
    is_tls: bool = False


class Region(msgspec.Struct, frozen=True):
    """One region that can be answered."""

    name: str
    addresses: tuple[str, ...]
    """What clients are told: IPv4 and IPv6."""
    checks: tuple[Check, ...]
    """It is healthy when one of these doors says that it is ready."""
    networks: tuple[str, ...] = ()
    """Networks of clients that belong here."""
    location: Location | None = None
    weight: int | None = None
    """Its share of the clients whose place nobody knows; None: nobody said."""


class Zone(msgspec.Struct, frozen=True):
    """The whole file."""

    name: str
    """The one name that is answered."""
    life_seconds: int
    """The time to live of every answer."""
    regions: tuple[Region, ...]
    home: str
    """The region with the primaries."""
    here: str
    """The region that this name server is in."""
    servers: tuple[str, ...]
    """The addresses of all name servers, of which ns1, ns2, ... tell."""
    maxmind: str = ""
    """The path of a MaxMind file; empty: there is none."""
    locates_resolvers: bool = True
    """Whether a query without its client's network is located by its resolver's address."""
    has_spare: bool = False
    """Whether a single address is followed by one of the next region."""
    version: int = 1


def load(path: Path) -> Zone:
    """The zone in the file. Raises BadBindings when it is missing or not of this form."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Zone)
    except OSError as error:
        raise errors.BadBindings(f"{path}: cannot be read ({error.strerror})") from error
    except msgspec.DecodeError as error:
        raise errors.BadBindings(f"{path}: {error} found, a zone of version 1 expected") from error


def dump(zone: Zone) -> bytes:
    """The file's content for this zone."""
    return msgspec.json.format(msgspec.json.encode(zone), indent=2)


def digest(zone: Zone) -> str:
    """A short name of this zone, by which a name server says which one it answers by."""
    return hashlib.sha256(dump(zone)).hexdigest()[:16]
