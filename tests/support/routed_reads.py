"""One real cluster with the SDK's tables, and Database objects on it that see all of its nodes. For tests of reads."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from support import postgres_cluster
from tenfold.kit import clock
from tenfold.sdk import db
from tenfold.sdk.db import schema

TABLES = f"""
create table counter (id int primary key, value int not null);
insert into counter select i, 0 from generate_series(0, 999) as i;
create table note (id int generated always as identity primary key, text text);
create sequence number;
create function plus_one(a int) returns int language sql stable as 'select a + 1';
create function touch(a int) returns int language sql volatile as
    'update counter set value = a where id = 999 returning value';
create function liar(a int) returns int language plpgsql stable as $$ begin return nextval('number') + a; end $$;
grant all on all tables in schema public to {postgres_cluster.USER};
grant all on all sequences in schema public to {postgres_cluster.USER};
"""
WHERE = "select host(inet_server_addr())"
"""Which node answered."""


@asynccontextmanager
async def cluster(folder: Path, network: int) -> AsyncIterator[postgres_cluster.Cluster]:
    """A primary and two replicas with tenfold's schema and the tables above."""
    async with postgres_cluster.cluster(folder, network) as made:
        await made.primary.script(schema.statements(postgres_cluster.USER))
        await made.primary.script(TABLES)
        await made.until_caught_up()
        yield made


@asynccontextmanager
async def started(cluster: postgres_cluster.Cluster, **options: Any) -> AsyncIterator[db.Database]:
    """A Database on the cluster, stopped afterwards."""
    database = db.Database(**options)
    await database.start(cluster.bound)

    async def sees_all() -> bool:
        shard = database._shards.shard(0)
        return shard.writable is not None and len(shard.readable) == len(cluster.replicas)

    try:
        assert await clock.until(sees_all, seconds=10, pause_seconds=0.01)
        yield database
    finally:
        await database.stop()
