"""Watches the bindings file: the runtime rewrites it while the app runs.

Owned by `sdk/service`. One look is one stat(2); the file is read only when it has changed. A file that is broken or
missing for a moment changes nothing: what was read last holds.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from tenfold import bindings, errors

log = logging.getLogger("tenfold")

LOOK_SECONDS = 0.2

Stamp = tuple[int, int, int]
"""What changes when a file is replaced or written: inode, time, size."""


class Watch:
    """Calls `changed` with the new bindings, on the loop that it was started on, until it is stopped."""

    def __init__(self, path: Path, changed: Callable[[bindings.Bindings], None]) -> None:
        self._path = path
        self._changed = changed
        self._stamp: Stamp | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> bindings.Bindings:
        """The bindings as they are now; watched from now on. Raises `BadBindings` when there are none."""
        self._stamp = _stamp(self._path)
        loaded = bindings.load(self._path)
        self._again()
        return loaded

    def stop(self) -> None:
        """Look no more. Twice is once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._again()
        stamp = _stamp(self._path)
        if stamp is None or stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            loaded = bindings.load(self._path)
        except errors.BadBindings as error:
            log.error("the bindings have changed and cannot be used; the last ones hold: %s", error)
            return
        self._changed(loaded)


def _stamp(path: Path) -> Stamp | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_mtime_ns, seen.st_size
