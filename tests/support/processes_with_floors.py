"""Several `Tenfold`s without bindings on one cluster: what processes of a service are to each other. For the cache.

Each has its own database pools and its own floors; only the database, and the cache's servers if there are any, are
common to them.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from support import other_process, postgres_cluster, routed_reads
from tenfold import bindings
from tenfold.kit import clock
from tenfold.sdk import db
from tenfold.sdk.cache import floors
from tenfold.sdk.valkey import client


@dataclass(slots=True)
class Process:
    """The parts of one `Tenfold` that tests of freshness need."""

    db: db.Database
    floors: floors.Floors
    servers: client.Client

    async def until_trusted(self, seconds: float = 20) -> None:
        """Return when its channel is whole and its table has caught up."""

        async def look() -> bool:
            return self.floors.is_sure

        assert await clock.until(look, seconds=seconds, pause_seconds=0.005)


@asynccontextmanager
async def running(
    cluster: postgres_cluster.Cluster, count: int, cache: bindings.Cache | None = None
) -> AsyncIterator[list[Process]]:
    """So many, all of which trust their floors."""
    bound = cache or bindings.Cache()
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            database = await stack.enter_async_context(routed_reads.started(cluster))
            servers = client.Client()
            await servers.start(bound)
            stack.push_async_callback(servers.stop)
            one = Process(database, floors.Floors(database, servers), servers)
            await one.floors.start()
            stack.push_async_callback(one.floors.stop)
            made.append(one)
        await asyncio.gather(*(one.until_trusted() for one in made))
        yield made


async def delays(process: Process, other: other_process.Other, rounds: int) -> list[float]:
    """How long after a commit had returned another process knew of it, in seconds; less than 0: before it did."""
    assert "ready" == await other.line()
    seen = []
    for number in range(rounds):
        async with process.db.transaction() as tx:
            await tx.invalidate(tags=[f"round:{number}"])
        returned = time.monotonic_ns()
        assert tx.at is not None
        heard = [""]
        while heard[0] != str(tx.at.lsn):
            heard = (await other.line()).split()
        seen.append((int(heard[1]) - returned) / 1e9)
    return seen
