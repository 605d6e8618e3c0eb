"""`python -m tenfold.georoute ZONE SOCKET HOST PORT CONTROL`: starts the program. Called by nobody but the runtime."""

import asyncio
import signal
import sys
from pathlib import Path

import uvloop

from tenfold import errors
from tenfold.georoute import program


def main() -> int:
    """Serve until SIGTERM. 1: it could not, and said why."""
    zone, socket, host, port, control = sys.argv[1:]
    where = program.Places(Path(zone), Path(socket), host, int(port), Path(control))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(where))
    except errors.BadBindings as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{host}:{port} or {socket}: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(where: program.Places) -> None:
    serving = asyncio.current_task()
    assert serving is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    try:
        await program.Program(where).run()
    except asyncio.CancelledError:
        serving.uncancel()


if __name__ == "__main__":
    sys.exit(main())
