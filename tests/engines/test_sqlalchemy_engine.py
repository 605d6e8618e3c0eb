"""An ordinary SQLAlchemy engine on `tf.db.connect`: whatever befalls the primary, its pool is never stuck."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from support import postgres_cluster, proxy, write_database
from tenfold import bindings, request
from tenfold.kit import clock
from tenfold.sdk import db
from tenfold.sdk.db import schema

pytestmark = pytest.mark.anyio

NETWORK = 75
CONNECTIONS = 5
WAYS: dict[str, dict[str, Any]] = {
    "plain": {"pool_size": CONNECTIONS},
    "pre-ping": {"pool_size": CONNECTIONS, "pool_pre_ping": True},
    "no pool": {"poolclass": NullPool},
}
LOST = (exc.DBAPIError, OSError)
"""What a request may meet while its primary goes away."""


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[postgres_cluster.Cluster]:
    async with postgres_cluster.cluster(tmp_path, NETWORK, replicas=1) as made:
        await made.primary.script(schema.statements(postgres_cluster.USER))
        await made.primary.script(write_database.TABLE + write_database.OWNER)
        await made.until_caught_up()
        yield made


@asynccontextmanager
async def started(bound: bindings.Database) -> AsyncIterator[db.Database]:
    database = db.Database()
    await database.start(bound)
    try:
        yield database
    finally:
        await database.stop()


@asynccontextmanager
async def engine_on(database: db.Database, **options: Any) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine("postgresql+asyncpg://", async_creator=database.connect, **options)
    try:
        yield engine
    finally:
        async with asyncio.timeout(10):
            await engine.dispose()


async def write(engine: AsyncEngine, name: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("insert into effect (name) values (:name)"), {"name": name})


async def fill(engine: AsyncEngine) -> None:
    """Let the pool hold as many connections as it keeps, all to the primary of this moment."""
    at_once = asyncio.Barrier(CONNECTIONS)

    async def one() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("select 1"))
            await at_once.wait()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


async def failures_until_well(engine: AsyncEngine) -> int:
    """How many requests fail before twice as many as the pool has connections succeed one after the other."""
    failed = written = 0
    async with asyncio.timeout(30):
        while written < 2 * CONNECTIONS:
            try:
                async with asyncio.timeout(5):
                    await write(engine, "after")
                written += 1
            except LOST:
                failed, written = failed + 1, 0
    return failed


@pytest.mark.parametrize("way", WAYS)
async def test_a_pool_full_of_dead_connections_costs_one_request_and_none_with_a_ping(
    cluster: postgres_cluster.Cluster, way: str
) -> None:
    async with started(cluster.bound) as database, engine_on(database, **WAYS[way]) as engine:
        await fill(engine)
        await cluster.fail_over(cluster.replicas[0])

        assert await failures_until_well(engine) <= (1 if way == "plain" else 0)


@pytest.mark.parametrize("way", WAYS)
async def test_an_old_primary_that_lives_on_keeps_nobody(cluster: postgres_cluster.Cluster, way: str) -> None:
    """It answers every ping and refuses every write: a pool that stays with it fails for days."""
    async with started(cluster.bound) as database, engine_on(database, **WAYS[way]) as engine:
        await fill(engine)
        await cluster.primary.fence()
        await cluster.replicas[0].promote()

        assert await failures_until_well(engine) <= (1 if way == "plain" else 0) + CONNECTIONS
        assert 2 * CONNECTIONS <= await cluster.replicas[0].sql("select count(*) from effect", database="shop")


async def test_a_former_primary_that_came_back_as_a_replica_gets_no_write(cluster: postgres_cluster.Cluster) -> None:
    async with started(cluster.bound) as database, engine_on(database, pool_pre_ping=True) as engine:
        await fill(engine)
        old = cluster.primary
        await cluster.fail_over(cluster.replicas[0])
        await cluster.rejoin(old)

        assert await failures_until_well(engine) == 0
        assert await old.sql("select pg_is_in_recovery()")


async def test_a_refused_write_ends_its_connection_before_the_probes_have_seen_anything(
    cluster: postgres_cluster.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(cluster.bound) as database, engine_on(database, pool_size=1, max_overflow=0) as engine:
        await write(engine, "before")
        async with engine.connect() as connection:
            await connection.execute(text("select 1"))
            raw: Any = (await connection.get_raw_connection()).driver_connection
            await cluster.primary.fence()
            await connection.rollback()

            async def is_fenced() -> bool:
                return bool(await connection.scalar(text("show default_transaction_read_only")) == "on")

            assert await clock.until(is_fenced, seconds=5)
            await connection.rollback()
            with pytest.raises(exc.DBAPIError, match="read-only") as caught:
                await connection.execute(text("insert into effect (name) values ('refused')"))
            assert caught.value.connection_invalidated
            assert raw.is_closed()
        await cluster.primary.unfence()

        await write(engine, "after")


async def test_a_transaction_that_is_read_only_on_purpose_keeps_its_connection(
    cluster: postgres_cluster.Cluster,
) -> None:
    async with started(cluster.bound) as database, engine_on(database) as engine:
        async with engine.connect() as connection:
            await connection.execution_options(postgresql_readonly=True)
            with pytest.raises(exc.DBAPIError, match="read-only") as caught:
                await connection.execute(text("insert into effect (name) values ('refused')"))

        assert not caught.value.connection_invalidated


@pytest.mark.parametrize("way", ["plain", "pre-ping"])
async def test_a_cut_cable_that_nobody_hears_of_is_left_when_there_is_a_new_primary(
    cluster: postgres_cluster.Cluster, way: str
) -> None:
    server = cluster.primary
    async with proxy.proxy(server.host, 5433, (server.host, server.port)) as door:
        bound = write_database.through(cluster.bound, {server.name: (door.host, door.port)})
        async with started(bound) as database, engine_on(database, **WAYS[way]) as engine:
            await fill(engine)
            for link in door.links:
                link.is_stalled = True
            door.is_closed = True
            inside = asyncio.create_task(write(engine, "inside"))
            await asyncio.wait([inside], timeout=0.2)
            assert not inside.done(), "it waits for an answer that never comes"
            await cluster.replicas[0].promote()

            await asyncio.wait([inside], timeout=10)
            assert inside.done(), "closed by us: the kernel waits for as long as its acknowledgements come"
            assert way == "pre-ping" or isinstance(inside.exception(), exc.DBAPIError)
            assert await failures_until_well(engine) <= 1


async def test_a_server_ended_by_its_operator_says_farewell_once(cluster: postgres_cluster.Cluster) -> None:
    async with started(cluster.bound) as database, engine_on(database, pool_pre_ping=True) as engine:
        await fill(engine)
        await cluster.primary.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")

        assert await failures_until_well(engine) == 0


async def test_a_commit_that_wrote_raises_the_sessions_position(cluster: postgres_cluster.Cluster) -> None:
    async with started(cluster.bound) as database, engine_on(database) as engine:
        await cluster.replicas[0].pause_replay()
        with request.serving(request.Request()) as serving:
            async with engine.begin() as connection:
                await connection.execute(text("select count(*) from effect"))
            assert not serving.has_written, "it has only read"

            await write(engine, "mine")
            assert serving.has_written
            assert "mine" == await database.fetchval("select name from effect"), "not from the paused replica"
            assert await cluster.primary.lsn() >= serving.seen.get(0).lsn  # type: ignore[union-attr]
        await cluster.replicas[0].resume_replay()


async def test_a_transaction_of_asyncpgs_own_raises_it_too(cluster: postgres_cluster.Cluster) -> None:
    async with started(cluster.bound) as database:
        connection = await database.connect()
        with request.serving(request.Request()) as serving:
            async with connection.transaction():
                await connection.execute("insert into effect (name) values ('raw')")
        await connection.close()

        assert serving.has_written


async def test_a_failed_transaction_is_rolled_back_by_its_commit(cluster: postgres_cluster.Cluster) -> None:
    async with started(cluster.bound) as database:
        connection = await database.connect()
        await connection.execute("begin")
        with pytest.raises(asyncpg.UndefinedTableError):
            await connection.execute("select * from nothing")

        assert "ROLLBACK" == await connection.execute("commit;")
        assert not connection.is_in_transaction()
        await connection.close()


async def test_a_database_without_tenfolds_schema_is_followed_all_the_same(cluster: postgres_cluster.Cluster) -> None:
    await cluster.primary.script("drop schema tenfold cascade")
    async with started(cluster.bound) as database, engine_on(database) as engine:
        await write(engine, "one")

        assert 1 == await cluster.primary.sql("select count(*) from effect", database="shop")
