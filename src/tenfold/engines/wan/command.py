"""How the network is started and stopped. Called by the runtime. Pure."""

import sys
from pathlib import Path

from tenfold import engines


def locate() -> Path | None:
    """The interpreter: the program is our own, and always there."""
    return Path(sys.executable)


def command(seat: engines.Seat) -> engines.Command:
    """The program, by the interpreter that runs tenfold. What it carries breaks off when it ends."""
    argv = (sys.executable, "-m", "tenfold.wan", str(seat.config), seat.address, str(seat.process.port))
    return engines.Command(argv=argv, grace_seconds=2.0)
