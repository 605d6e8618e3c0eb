"""Several `Tenfold`s without bindings on one cluster: what processes of a service are to each other. For the cache.

Each has its own database pools and its own floors; only the database, and the cache's servers if there are any, are
common to them.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from support import other_process, postgres_cluster
from tenfold import bindings
from tenfold.kit import clock
from tenfold.sdk import db
from tenfold.sdk.cache import cache as caching
from tenfold.sdk.cache import floors
from tenfold.sdk.valkey import client


@dataclass(slots=True)
class Process:
    """The parts of one `Tenfold` that tests of freshness need."""

    db: db.Database
    cache: caching.Cache
    servers: client.Client

    @property
    def floors(self) -> floors.Floors:
        """What its cache goes by."""
        return self.cache._floors

    async def until_trusted(self, seconds: float = 20) -> None:
        """Return when its channel is whole and its table has caught up."""

        async def look() -> bool:
            return self.floors.is_sure

        assert await clock.until(look, seconds=seconds, pause_seconds=0.005)


@asynccontextmanager
async def running(
    cluster: postgres_cluster.Cluster,
    count: int,
    cache: bindings.Cache | None = None,
    *servers: postgres_cluster.Server,
) -> AsyncIterator[list[Process]]:
    """So many, all of which trust their floors. `servers`: the nodes of the database that they know, else all."""
    bound = cache or bindings.Cache()
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            database = db.Database()
            await database.start(cluster.bound_to(*(servers or cluster.servers)))
            stack.push_async_callback(database.stop)
            valkeys = client.Client()
            await valkeys.start(bound)
            stack.push_async_callback(valkeys.stop)
            one = Process(database, caching.Cache(database, valkeys), valkeys)
            await one.cache.start(bound)
            stack.push_async_callback(one.cache.stop)
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
