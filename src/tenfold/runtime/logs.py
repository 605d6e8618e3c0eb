"""Keeps logs from filling the disk: a log over its limit is copied aside and emptied in place.

Engines append (O_APPEND), so emptying a file under them is safe; the lines written between copy and emptying, a
millisecond's worth, may be lost. Called by the control loop.
"""

import shutil
from pathlib import Path

from tenfold.runtime import paths

MOST_BYTES = 16 * 1024 * 1024

KEPT = 2
"""Older copies of each log."""


def rotate(where: paths.Paths, most_bytes: int = MOST_BYTES) -> tuple[Path, ...]:
    """Rotate every log of the service that is over the limit; returns those."""
    logs = [where.events, where.log, *where.state.glob("servers/*/log/*.log")]
    return tuple(log for log in logs if _rotate(log, most_bytes))


def _rotate(log: Path, most_bytes: int) -> bool:
    if not log.exists() or log.stat().st_size <= most_bytes:
        return False
    for number in range(KEPT, 1, -1):
        older = log.with_name(f"{log.name}.{number - 1}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number}"))
    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    with log.open("r+b") as file:
        file.truncate(0)
    return True
