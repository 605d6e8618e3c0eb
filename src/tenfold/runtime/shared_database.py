"""One PostgreSQL for several processes: the first to come starts it, and it ends when the last has gone or died.

Called by `testing`, whose processes are the workers of one test run. Its data are worth nothing afterwards. Nobody is
in charge: a named pipe in the folder holds PostgreSQL for as long as anybody has it open (`kit/tether`), and a lock on
`members` says whether anybody has.
"""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tenfold import engines, errors
from tenfold.engines.postgres import probe
from tenfold.kit import files, lock, tether
from tenfold.runtime import lone_database
from tenfold.topology import tiers

LINE = "line"
JOINING = "joining"
MEMBERS = "members"

JOIN_SECONDS = 120.0
"""How long one waits for another that starts PostgreSQL at this moment."""


class SharedDatabase(lone_database.Place):
    """A PostgreSQL that we hold together with others, until `leave`."""

    def __init__(self, seat: engines.Seat, near: int, membership: int) -> None:
        super().__init__(seat)
        self._near = near
        self._membership = membership

    async def leave(self) -> bool:
        """Hold it no longer. The last one ends it, deletes the folder and returns True. Twice is once."""
        if self._near < 0:
            return False
        os.close(self._near)
        self._near = -1
        is_last = lock.try_take(self._membership)
        if is_last:
            await lone_database.until_dead(self.folder)
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._membership)
        return is_last


async def join(folder: Path, topology: tiers.Topology, *, app_password: str = "") -> SharedDatabase:
    """The PostgreSQL of this folder, held from now on; started if it does not run. Raises as
    `lone_database.start` does. `app_password`: of the app's role, when the folder is new.
    """
    files.make_private(folder)
    membership = lock.opened(folder / MEMBERS)
    try:
        async with locked(folder / JOINING):
            lock.share(membership)
            if app_password:
                lone_database.give_password(folder, app_password)
            seat = lone_database.seat_in(folder, topology)
            near = tether.join(folder / LINE)
            if near is not None and (await probe.probe(seat)).is_ready:
                return SharedDatabase(seat, near, membership)
            if near is not None:
                os.close(near)
            line = tether.Line.at(folder / LINE)
            near = os.dup(line.near)
            try:
                started = await lone_database.start(folder, topology, durable=False, line=line)
            except BaseException:
                os.close(near)
                raise
            started.let_go()
            return SharedDatabase(seat, near, membership)
    except BaseException:
        os.close(membership)
        raise


def remove_abandoned(folders: Path) -> None:
    """Delete those of these folders that nobody holds: their processes were killed."""
    for folder in folders.iterdir():
        with suppress(OSError):
            membership = os.open(folder / MEMBERS, os.O_RDWR | os.O_CLOEXEC)
            if lock.try_take(membership):
                shutil.rmtree(folder, ignore_errors=True)
            os.close(membership)


@asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Alone among all processes, for the length of the block. Raises RuntimeFailure when another takes too long."""
    handle = lock.opened(path)
    try:
        if not await lock.take(handle, JOIN_SECONDS):
            raise errors.RuntimeFailure(f"{path}: another process has held this for {JOIN_SECONDS:g} s; end it")
        yield
    finally:
        os.close(handle)
