"""A writer that never stops: inserts numbers on whichever node takes them, and knows what was acknowledged.

Used by tests that kill or switch a primary under it.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from support import databases
from tenfold import engines
from tenfold.kit import clock

_LOST = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

GIVE_UP_SECONDS = 60.0


class Writer:
    """Writes to one node until it refuses, then to the first other one that does not."""

    def __init__(self, nodes: list[engines.Seat]) -> None:
        self.nodes = nodes
        self.acknowledged: list[int] = []
        self.longest_seconds = 0.0
        self._connection: databases.Connection | None = None

    async def write(self) -> None:
        """One more number, however long it takes."""
        number = len(self.acknowledged)
        started = time.monotonic()

        async def is_written() -> bool:
            return await self._try(number)

        assert await clock.until(is_written, seconds=GIVE_UP_SECONDS, pause_seconds=0.01), "no node takes a write"
        self.longest_seconds = max(self.longest_seconds, time.monotonic() - started)
        self.acknowledged.append(number)

    async def lost(self, seat: engines.Seat) -> set[int]:
        """Acknowledged numbers that the primary on this seat does not have."""
        async with databases.app_connection(seat) as connection:
            found = await connection.fetch("select number from ledger")
        return set(self.acknowledged) - {row["number"] for row in found}

    def close(self) -> None:
        """Cut the connection."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _try(self, number: int) -> bool:
        """A node that was lost is asked again last; an insert that is repeated finds its number and changes nothing."""
        if self._connection is not None and await self._insert(number):
            return True
        for node in self.nodes:
            if await self._connect(node) and await self._insert(number):
                return True
        return False

    async def _connect(self, node: engines.Seat) -> bool:
        self.close()
        try:
            self._connection = await asyncpg.connect(
                host=node.address, user="shop", password=node.secrets.app, database="shop", ssl=False, timeout=1
            )
        except _LOST:
            return False
        return True

    async def _insert(self, number: int) -> bool:
        assert self._connection is not None
        try:
            await self._connection.execute("insert into ledger values ($1) on conflict do nothing", number, timeout=5)
        except _LOST:
            self.close()
            return False
        return True


@asynccontextmanager
async def writing(nodes: list[engines.Seat]) -> AsyncIterator[Writer]:
    """A writer at work on the nodes, the primary first. At the end it must get another write through."""
    async with databases.app_connection(nodes[0]) as connection:
        await connection.execute("create table if not exists ledger (number int primary key)")
    writer = Writer(nodes)

    async def work() -> None:
        while True:
            await writer.write()
            await asyncio.sleep(0.002)

    task = asyncio.create_task(work())
    try:
        assert await clock.until(lambda: _wrote(writer, task, 10), seconds=20, pause_seconds=0.02)
        yield writer
        wanted = len(writer.acknowledged) + 3
        assert await clock.until(lambda: _wrote(writer, task, wanted), seconds=40, pause_seconds=0.02), "writes ended"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        writer.close()


async def _wrote(writer: Writer, task: "asyncio.Task[None]", count: int) -> bool:
    if task.done():
        task.result()
    return len(writer.acknowledged) >= count
