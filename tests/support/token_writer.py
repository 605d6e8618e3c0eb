"""A writer through the SDK that knows the token of every transaction that was acknowledged.

Used by tests that move or lose the region it writes to.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tenfold import bindings, errors
from tenfold.kit import clock
from tenfold.sdk.db import database


class Writer:
    """Writes one number after the other; each waits for a primary."""

    def __init__(self, db: database.Database) -> None:
        self.db = db
        self.acknowledged: dict[uuid.UUID, int] = {}
        self.longest_seconds = 0.0
        """The longest wait of a write."""
        self._number = 0

    async def write(self) -> None:
        """One more number. A transaction whose outcome nobody knows is not acknowledged, and not repeated."""
        self._number += 1
        started = time.monotonic()
        try:
            async with self.db.options(timeout=60).transaction() as tx:
                await tx.execute("insert into ledger values ($1)", self._number)
        except (errors.OutcomeUnknown, errors.NotCommitted, OSError):
            return
        finally:
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - started)
        assert tx.token is not None
        self.acknowledged[tx.token.id] = self._number

    async def lost(self) -> set[uuid.UUID]:
        """Acknowledged tokens that the primary of now does not have."""
        rows = await self.db.reading("primary").fetch("select token from tenfold.commit where not is_void")
        return set(self.acknowledged) - {row["token"] for row in rows}


@asynccontextmanager
async def connected(bound: bindings.Database, region: str = "seoul") -> AsyncIterator[database.Database]:
    """`tf.db` as an app has it."""
    db = database.Database(ssl=False)
    await db.start(bound, region)
    try:
        yield db
    finally:
        await db.stop()


@asynccontextmanager
async def writing(bound: bindings.Database, region: str = "seoul") -> AsyncIterator[Writer]:
    """Writes before, during and after the block."""
    async with connected(bound, region) as db:
        await db.execute("create table if not exists ledger (number integer)")
        writer = Writer(db)

        async def work() -> None:
            while True:
                await writer.write()
                await asyncio.sleep(0.005)

        task = asyncio.create_task(work())
        try:
            await _more(writer, task, 10)
            yield writer
            await _more(writer, task, 5)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _more(writer: Writer, task: "asyncio.Task[None]", count: int) -> None:
    wanted = len(writer.acknowledged) + count

    async def has_written() -> bool:
        if task.done():
            task.result()
        return len(writer.acknowledged) >= wanted

    assert await clock.until(has_written, seconds=60, pause_seconds=0.02), "no writes get through"
