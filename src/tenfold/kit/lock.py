"""Locks on files that the kernel keeps (flock): whoever dies holds none, so no lock is ever stale.

Called by whoever must be alone in a folder. A lock belongs to the open file: a child that inherits the handle holds it
too, and closing the last one lets it go.
"""

import fcntl
import os
from pathlib import Path

from tenfold.kit import clock


def opened(path: Path) -> int:
    """A handle of the lock's file, which is made when there is none; no child inherits it unasked."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_take(handle: int) -> bool:
    """Hold it alone from now on; False when somebody else holds it. Never waits."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def take(handle: int, seconds: float) -> bool:
    """`try_take`, again and again for so long. A cancellation takes nothing."""

    async def look() -> bool:
        return try_take(handle)

    return bool(await clock.until(look, seconds=seconds, pause_seconds=0.01))


def share(handle: int) -> None:
    """Hold it together with others who share it; waits for one who is alone."""
    fcntl.flock(handle, fcntl.LOCK_SH)


def sign(handle: int) -> None:
    """Write who holds it, for `signer`."""
    os.truncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)


def signer(handle: int) -> int:
    """The pid of whoever signed last, alive or dead; 0 when nobody did."""
    text = os.pread(handle, 32, 0).strip()
    return int(text) if text.isdigit() else 0
