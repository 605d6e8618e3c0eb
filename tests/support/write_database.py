"""A database to write to in tests: the cluster with tenfold's schema and one table, the SDK's pools, and proxies.

Used by the tests of the write half of `tf.db`. The cluster lives as long as a test module, the pools as long as a test.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from support import postgres_cluster
from tenfold import bindings
from tenfold.sdk.db import connect, primary, schema

TABLE = """
create table effect (id bigint generated always as identity, name text not null);
create table account (name text primary key, balance bigint not null check (balance >= 0));
"""

OWNER = f"alter table effect owner to {postgres_cluster.USER}; alter table account owner to {postgres_cluster.USER};"


@contextmanager
def running(folder: Path, network: int, replicas: int = 0) -> Iterator[postgres_cluster.Cluster]:
    """A cluster outside any event loop, so that many tests can share it."""
    made = postgres_cluster.Cluster(folder / "cluster", network)
    try:
        asyncio.run(_start(made, replicas))
        yield made
    finally:
        asyncio.run(made.stop())


async def _start(made: postgres_cluster.Cluster, replicas: int) -> None:
    await made.start(0)
    await made.primary.script(schema.statements(postgres_cluster.USER))
    await made.primary.script(TABLE + OWNER)
    for _ in range(replicas):
        await made.add_replica()


@asynccontextmanager
async def connected(bound: bindings.Database) -> AsyncIterator[primary.Shards]:
    """The SDK's pools over these nodes."""
    made = primary.Shards(connect.Connector())
    await made.start(bound)
    try:
        yield made
    finally:
        await made.stop()


def through(bound: bindings.Database, addresses: dict[str, tuple[str, int]]) -> bindings.Database:
    """The same bindings with some nodes reached by other addresses: a proxy's."""
    nodes = tuple(
        bindings.DatabaseNode(name=node.name, host=address[0], port=address[1])
        for node in bound.shards[0].nodes
        for address in [addresses.get(node.name, (node.host, node.port))]
    )
    return bindings.Database(
        shards=(bindings.Shard(nodes=nodes),), name=bound.name, user=bound.user, password=bound.password
    )
