"""What NATS is told. Called by render and command. Pure but for looking where the program is."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tenfold import engines
from tenfold.topology import layout

APP, ADMIN = "app", "admin"
"""The users: of the app, and of the system account, the servers' routes and their links between regions."""

MESSAGES = "tenfold.>"
"""What messages are published to: never carried between regions. Two streams that both take messages, before a region
that returns has become a copy again, would both keep each."""

FIRST_REGION = 1

ROUTE_PORT = 6222
MONITOR_PORT = 8222

HEADER_BYTES = 64 * 1024
"""Room for a message's headers and the reply subject, on top of the largest message."""

PENDING_BYTES = 64 * 1024**2
"""What a client may leave unread: NATS's own default, more where messages are larger."""

MEMORY_BYTES = 64 * 1024**2
"""For what JetStream keeps in memory alone: short-lived consumers. Messages are in files."""

PING_SECONDS, PING_MAX = 5, 2

SYNC_SECONDS = 1
"""NATS's own two minutes are long for a single server, or for a power cut of all of them at once."""

DEFAULT_STORAGE_BYTES = 1024**3
DEFAULT_MESSAGE_BYTES = 1024**2
"""Of a server that is about to leave: the topology says nothing of it any more."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One server's settings."""

    name: str
    cluster: str
    address: str
    port: int
    data: Path
    domain: str
    """The name of its region's JetStream: fixed, whether there are other regions or not."""
    peers: tuple[str, ...]
    """The addresses of all queue servers of its region, its own included."""
    hub: tuple[str, ...]
    """The addresses at which it meets the queue servers of the first region; empty: it is one of them."""
    payload_bytes: int
    pending_bytes: int
    storage_bytes: int


def settings(seat: engines.Seat) -> Settings:
    """The settings of this seat's server."""
    queue = seat.topology.queue
    payload_bytes = (queue.message_size_bytes if queue else DEFAULT_MESSAGE_BYTES) + HEADER_BYTES
    servers = seat.neighbours.running(layout.NATS.engine)
    return Settings(
        name=seat.server.name,
        cluster=f"{seat.topology.service.name}-{seat.server.scope}",
        domain=seat.server.scope,
        address=seat.address,
        port=seat.process.port,
        data=seat.data,
        peers=tuple(server.address(seat.network) for server in servers),
        hub=_hub(seat),
        payload_bytes=payload_bytes,
        pending_bytes=max(PENDING_BYTES, 2 * payload_bytes),
        storage_bytes=queue.storage_bytes if queue else DEFAULT_STORAGE_BYTES,
    )


def _hub(seat: engines.Seat) -> tuple[str, ...]:
    """Every region is joined to the first one: NATS refuses a ring of leaf nodes."""
    number = seat.server.region_number
    first = (one for one in seat.layout.running(layout.NATS.engine) if one.region_number == FIRST_REGION != number)
    return tuple(one.address(seat.network, seen_from=number) for one in first)


def monitor_url(seat: engines.Seat) -> str:
    """Where the server says how it is."""
    return f"http://{seat.address}:{MONITOR_PORT}"


def locate() -> Path | None:
    """The program: the wheel's, beside the interpreter that runs tenfold, then PATH; None when it is not installed."""
    beside = Path(sys.executable).parent / "nats-server"
    if beside.exists():
        return beside
    found = shutil.which("nats-server")
    return Path(found) if found else None
