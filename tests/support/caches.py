"""Caches as apps have them, several beside each other as if each were a process of its own, on one real database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from support import postgres_cluster, routed_reads
from tenfold import bindings, request
from tenfold.kit import clock
from tenfold.sdk import db, valkey
from tenfold.sdk.cache import cache

TABLE = f"""
create table product (id int primary key, name text not null);
insert into product select i, 'product ' || i from generate_series(1, 300) as i;
grant all on product to {postgres_cluster.USER};
"""


class Process:
    """What one process has: its database, its cache, and how often its loader ran."""

    def __init__(self, database: db.Database, made: cache.Cache) -> None:
        self.db = database
        self.cache = made
        self.loads = 0

    async def load(self, pid: int) -> str | None:
        """The name of a product, as a loader reads it."""
        self.loads += 1
        found: str | None = await self.db.fetchval("select name from product where id = $1", pid)
        return found

    async def rename(self, pid: int, name: str, *tags: str) -> None:
        """A write, and what becomes stale with it."""
        async with self.db.transaction() as tx:
            await tx.execute("update product set name = $2 where id = $1", pid, name)
            if tags:
                await tx.invalidate(tags=tags)

    def counts(self, *names: str) -> list[int]:
        """What its cache has counted."""
        found = self.cache._counts()
        return [found[f"cache.{name}"] for name in names]


@asynccontextmanager
async def process(cluster: postgres_cluster.Cluster, bound: bindings.Cache | None = None) -> AsyncIterator[Process]:
    """A process whose cache has caught up."""
    bound = bound or bindings.Cache()
    async with routed_reads.started(cluster) as database:
        servers = valkey.Client()
        made = cache.Cache(database, servers)
        await servers.start(bound)
        await made.start(bound)

        async def is_trusted() -> bool:
            return made._floors.is_sure if bound.nodes else made._floors.is_trusted

        try:
            assert await clock.until(is_trusted, seconds=20, pause_seconds=0.01)
            yield Process(database, made)
        finally:
            await made.stop()
            await servers.stop()


def visitor() -> request.Request:
    """Somebody who has written nothing, and whose requests have no deadline."""
    return request.Request()
