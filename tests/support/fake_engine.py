"""An engine as small as one can be: a shell that says it is ready by a file, and obeys files that make it fail.

It is a real process with a real probe, so what holds for engines holds for it. Tests of the runtime's own part use it
in place of every engine.
"""

from pathlib import Path
from signal import SIGTERM

from tenfold import engines

_PROGRAM = """
[ ! -e "$1/dies" ] || { echo "told to die"; exit 3; }
[ -e "$1/never-ready" ] || touch "$1/ready"
trap 'rm -f "$1/ready"; exit 0' TERM
while :; do sleep 0.05; done
"""


def engine(name: str) -> engines.Engine:
    """The fake under an engine's name."""
    return engines.Engine(
        name=name,
        install="nothing to install",
        locate=lambda: Path("/bin/sh"),
        render=lambda seat: {"settings": seat.address},
        command=_command,
        probe=_probe,
    )


def _command(seat: engines.Seat) -> engines.Command:
    return engines.Command(
        argv=("sh", "-c", _PROGRAM, "fake", str(seat.data)),
        stop_signal=SIGTERM,
        grace_seconds=2.0,
        start_seconds=1.0,
    )


async def _probe(seat: engines.Seat) -> engines.Health:
    is_ready = (seat.data / "ready").exists()
    return engines.Health(is_ready, detail="" if is_ready else "no file says so")
