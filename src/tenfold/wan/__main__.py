"""`python -m tenfold.wan FOLDER HOST PORT`: starts the program. Called by nobody but the runtime."""

import asyncio
import resource
import signal
import sys
from pathlib import Path

import uvloop

from tenfold.wan import network, program


def main() -> int:
    """Serve until SIGTERM. 1: it could not, and said why."""
    folder, host, port = sys.argv[1:]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two descriptors a connection, and many addresses
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(program.Program(Path(folder), host, int(port))))
    except (network.BadNetworkError, OSError) as error:
        sys.stderr.write(f"{host}:{port}: {error}\n")
        return 1
    return 0


async def _serve(one: program.Program) -> None:
    running = asyncio.create_task(one.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        if not running.cancelled():
            raise


if __name__ == "__main__":
    sys.exit(main())
