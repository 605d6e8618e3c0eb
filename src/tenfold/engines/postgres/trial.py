"""Whether PostgreSQL would start with the topology's memory and connections: asked before anything is stopped for it.

Called by `runtime/actions`. The server's own check mode (what initdb finds its first settings with) takes the shared
memory and the semaphores as a start does, and ends; nothing of the real data is touched, running or not.
"""

import shutil
from pathlib import Path

from tenfold import engines
from tenfold.engines import database
from tenfold.engines.postgres import settings

_FOLDERS = ("pg_notify", "pg_dynshmem")
"""What check mode looks into."""

_LIKE_THE_REAL_ONE = ("shared_buffers", "max_connections", "dynamic_shared_memory_type")


def prepare(seat: engines.Seat) -> None:
    """Make the folder that it takes for its data."""
    folder = _folder(seat)
    remove(seat)
    for name in _FOLDERS:
        (folder / name).mkdir(mode=0o700, parents=True)
    folder.chmod(0o700)
    shutil.copy(settings.data_directory(seat) / "PG_VERSION", folder)
    (folder / "postgresql.conf").touch()


def command(seat: engines.Seat) -> engines.Command:
    """Ends with code 0 when it would start; else its last lines say what it could not get."""
    wanted = database.parameters(seat)
    options = (f"{name}={wanted[name]}" for name in _LIKE_THE_REAL_ONE)
    return engines.Command(
        argv=(
            *(settings.program("postgres"), "--check", "-D", str(_folder(seat)), "-c", "log_min_messages=fatal"),
            *(word for option in options for word in ("-c", option)),
        ),
        env={"LC_ALL": "C"},
        start_seconds=60.0,
    )


def remove(seat: engines.Seat) -> None:
    """Take the folder away again."""
    shutil.rmtree(_folder(seat), ignore_errors=True)


def _folder(seat: engines.Seat) -> Path:
    return settings.data_directory(seat).with_name("postgres.trial")
