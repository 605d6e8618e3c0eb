"""How Patroni is started and stopped. Called by the runtime. Pure."""

import sys

from tenfold import engines
from tenfold.engines.patroni import render


def command(seat: engines.Seat) -> engines.Command:
    """Patroni, by the interpreter that runs tenfold. SIGTERM stops PostgreSQL too, unless Patroni is paused.

    A replica is ready after it has copied the primary: the time for that is the time to start.
    """
    return engines.Command(
        argv=(sys.executable, "-m", "patroni", str(seat.config / render.FILE)),
        grace_seconds=60.0,
        start_seconds=1800.0,
    )
