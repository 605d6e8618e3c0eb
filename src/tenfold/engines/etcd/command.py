"""How etcd is started and stopped. Called by the runtime. Pure."""

from tenfold import engines, errors
from tenfold.engines.etcd import render, settings


def command(seat: engines.Seat) -> engines.Command:
    """The server. SIGTERM makes a leader hand over first. Raises EngineMissing."""
    program = settings.locate()
    if program is None:
        raise errors.EngineMissing("etcd: not found on PATH; install it: apt-get install etcd-server")
    return engines.Command(argv=(str(program), "--config-file", str(seat.config / render.FILE)))
