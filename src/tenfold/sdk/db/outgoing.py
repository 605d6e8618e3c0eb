"""What a part that tells others of a commit needs: work behind it, and small writes of its own.

Used by `sdk/cache` (invalidations) and `sdk/cdn` (purges). It decides nothing about either.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from tenfold.sdk.db import primary, transaction

Item = TypeVar("Item")

PARTING_SECONDS = 0.5
"""How long a process that stops still finishes what is behind."""

FLUSHED = """case when current_setting('synchronous_commit') = 'off'
               then set_config('synchronous_commit', 'local', true) end"""
"""For a statement of the transaction whose commit is told of: one that is not flushed when it returns is beyond the
position that is read then."""


class Behind(Generic[Item]):
    """Work that nobody waits for: as much at once as has come together meanwhile."""

    def __init__(self, name: str, work: Callable[[list[Item]], Awaitable[None]]) -> None:
        self._name = name
        self._work = work
        self._waiting: list[Item] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, *more: Item) -> None:
        """Do this too."""
        self._waiting += more
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"tenfold-{self._name}")

    async def stop(self, seconds: float = PARTING_SECONDS) -> None:
        """Finish, for a moment."""
        task, self._task = self._task, None
        if task is not None:
            await asyncio.wait([task], timeout=seconds)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._work(batch)


async def write(shards: primary.Shards, shard: int, statement: str, *args: Any) -> list[Any]:
    """One statement on the primary, as its own transaction: repeating it would do no harm. Its rows, if it has any."""
    until = asyncio.get_running_loop().time() + transaction.ANSWER_SECONDS
    lease = await shards.primary(shard, until)
    try:
        found: list[Any] = await lease.connection.fetch(statement, *args, timeout=transaction.ANSWER_SECONDS)
    except BaseException:
        lease.discard()
        raise
    await lease.release()
    return found
