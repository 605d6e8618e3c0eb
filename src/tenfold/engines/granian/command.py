"""How a granian is started and stopped. Pure but for the app's `env_file`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tenfold import bindings, engines
from tenfold.engines.granian import render, settings

ENTRY = "tenfold.sdk.hosting:application"

WORKERS = "--workers"

BACKLOG = 2048
"""Connections the kernel holds while the process is busy."""

BACKPRESSURE = 4096
"""Connections one worker holds. Idle ones count, and the balancers keep many: what a worker *works on* is bounded by
`web.max_requests` in the middleware, which answers early instead of letting requests wait unseen."""


def command(seat: engines.Seat) -> engines.Command:
    """granian, on the server's private address, under the app's own interpreter.

    A worker that dies ends the whole process: starting it again, with a backoff, is the runtime's work, and an app that
    does not import is not tried for ever.
    """
    setup = settings.settings(seat)
    argv = (
        *(str(setup.interpreter), "-m", "granian", ENTRY, "--factory"),
        *("--interface", "asgi", "--host", setup.address, "--port", str(setup.port)),
        *(WORKERS, str(setup.workers), "--working-dir", str(setup.directory)),
        *("--backlog", str(BACKLOG), "--backpressure", str(BACKPRESSURE)),
        *("--no-respawn-failed-workers", "--workers-kill-timeout", str(setup.kill_seconds)),
        *("--log-config", str(seat.config / render.LOGGING), "--no-access-log"),
    )
    return engines.Command(
        argv=argv,
        env={
            bindings.URL_VARIABLE: setup.database_url,
            **setup.env,
            bindings.VARIABLE: str(seat.bindings),
            bindings.SERVER_VARIABLE: seat.server.name,
            **(_of_worker(seat, setup.role) if setup.role else {}),
            **({bindings.RELEASE_VARIABLE: setup.release} if setup.release else {}),
            **({bindings.APP_VARIABLE: setup.app} if setup.app else {bindings.FACTORY_VARIABLE: setup.factory}),
            "PYTHONUNBUFFERED": "1",
        },
        directory=setup.directory,
        grace_seconds=setup.kill_seconds + 2.0,
        start_seconds=20.0,
    )


def processes(argv: Sequence[str]) -> int:
    """How many processes of the app a granian has that was started by this command."""
    return int(argv[argv.index(WORKERS) + 1])


def _of_worker(seat: engines.Seat, role: str) -> dict[str, str]:
    """Its role; and what it imports, so that it is replaced when that changes: a module is imported at the start."""
    workers = seat.topology.workers
    return {bindings.ROLE_VARIABLE: role, bindings.IMPORTS_VARIABLE: ",".join(workers.imports) if workers else ""}


def locate() -> Path | None:
    """granian's program, beside the interpreter that runs tenfold."""
    beside = Path(sys.executable).parent / "granian"
    return beside if beside.exists() else None
