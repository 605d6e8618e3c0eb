"""What etcd is told. Called by render and command. Pure."""

import shutil
from pathlib import Path

from tenfold import engines
from tenfold.engines import coordination

HEARTBEAT_MILLISECONDS = 300
"""Slower than etcd's own 100: three idle servers are mostly heartbeats."""

ELECTION_MILLISECONDS = 1500
"""How long until a dead leader is missed. An election must end well within Patroni's `retry_timeout` (3 s)."""

BCRYPT_COST = 4
"""The lowest: the password is 96 random bits or more, and every log-in costs a server this computation."""


def locate() -> Path | None:
    """The program, or None when it is not installed."""
    found = shutil.which("etcd")
    return Path(found) if found else None


def client_url(address: str) -> str:
    """Where clients ask."""
    return f"http://{address}:{coordination.CLIENT_PORT}"


def peer_url(address: str) -> str:
    """Where the other servers ask."""
    return f"http://{address}:{coordination.PEER_PORT}"


def peers(seat: engines.Seat) -> str:
    """`initial-cluster`: every server of the region, by name."""
    return ",".join(f"{one.name}={peer_url(one.address(seat.network))}" for one in coordination.servers(seat))
