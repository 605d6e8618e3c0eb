"""An engine as small as one can be: a server that says it is ready, and obeys files that make it fail.

It is a real process with a real probe and passes the contract suite, so what holds for engines holds for it. Tests of
the runtime's own part use it in place of every engine.
"""

import asyncio
import json
import sys
from pathlib import Path
from signal import SIGTERM

from tenfold import engines

SETTINGS = "settings.json"

_PROGRAM = """
import json, os, signal, socket, sys
settings, data = json.load(open(sys.argv[1])), sys.argv[2]
if os.path.exists(data + "/dies"):
    sys.exit("told to die")
if not os.path.exists(data + "/deaf"):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with socket.create_server((settings["address"], settings["port"])) as listening:
    while True:
        connection, _ = listening.accept()
        connection.sendall(b"unready" if os.path.exists(data + "/never-ready") else b"ready")
        connection.close()
"""


def engine(name: str) -> engines.Engine:
    """The fake under an engine's name."""
    return engines.Engine(
        name=name,
        install="nothing to install",
        locate=lambda: Path(sys.executable),
        render=lambda seat: {SETTINGS: json.dumps({"address": seat.address, "port": seat.process.port})},
        command=_command,
        probe=_probe,
    )


def _command(seat: engines.Seat) -> engines.Command:
    return engines.Command(
        argv=(sys.executable, "-S", "-c", _PROGRAM, str(seat.config / SETTINGS), str(seat.data)),
        stop_signal=SIGTERM,
        grace_seconds=2.0,
        start_seconds=2.0,
    )


async def _probe(seat: engines.Seat) -> engines.Health:
    try:
        async with asyncio.timeout(1.0):
            said = await _ask(seat)
    except (OSError, TimeoutError) as error:
        return engines.Health(False, detail=f"does not answer: {error}")
    return engines.Health(said == "ready", detail=f"it says {said!r}")


async def _ask(seat: engines.Seat) -> str:
    reader, writer = await asyncio.open_connection(seat.address, seat.process.port)
    try:
        return (await reader.read()).decode()
    finally:
        writer.close()
