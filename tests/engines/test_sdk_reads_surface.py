"""tf.db as asyncpg.Pool's double, on a real cluster: its surface, its deadlines, its pools and its nodes."""

import asyncio
import datetime
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from support import postgres_cluster, routed_reads
from support.routed_reads import WHERE
from tenfold import errors, request
from tenfold.kit import clock
from tenfold.sdk import db

pytestmark = pytest.mark.anyio

NETWORK = 61


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """As everywhere, but for the whole module: it shares one cluster."""
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[postgres_cluster.Cluster]:
    async with routed_reads.cluster(tmp_path_factory.mktemp("reads"), NETWORK) as made:
        yield made


@pytest.fixture
async def tf_db(cluster: postgres_cluster.Cluster) -> AsyncIterator[db.Database]:
    async with routed_reads.started(cluster) as database:
        yield database


async def test_a_pool_of_asyncpg_can_be_replaced_by_tf_db(tf_db: db.Database) -> None:
    assert [1, 2] == [row["n"] for row in await tf_db.fetch("select n from generate_series(1, 2) as n")]
    assert (1, 2) == tuple(await tf_db.fetchrow("select 1, 2"))
    assert 2 == await tf_db.fetchval("select 1, 2", column=1)
    assert [[1], [2]] == [list(row) for row in await tf_db.fetchmany("select $1::int", [(1,), (2,)])]
    inserted = await tf_db.fetchmany("insert into note (text) values ($1) returning text", [("one",), ("two",)])
    assert ["one", "two"] == [row["text"] for row in inserted]
    await tf_db.executemany("insert into note (text) values ($1)", [("many",), ("many",)])
    with tf_db.session():
        await tf_db.copy_records_to_table("note", records=[("many",)], columns=["text"])
        await tf_db.copy_to_table("note", source=io.BytesIO(b"many\n"), columns=["text"])
        out = io.BytesIO()
        await tf_db.copy_from_query("select text from note where text = $1", "many", output=out)
        assert b"many\n" * 4 == out.getvalue()
        out = io.BytesIO()
        assert "COPY" in await tf_db.copy_from_table("note", output=out)
    assert "VACUUM" == await tf_db.execute("vacuum counter")
    assert tf_db.get_size() >= tf_db.get_idle_size() > 0
    assert tf_db.get_min_size() == 0
    assert 60 == tf_db.get_max_size()
    await tf_db.expire_connections()
    assert 0 == tf_db.get_idle_size()
    assert 1 == await tf_db.fetchval("select 1")


async def test_an_acquired_connection_writes_is_reset_and_counts_for_the_session(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    for replica in cluster.replicas:
        await replica.pause_replay()
    try:
        with tf_db.session():
            async with tf_db.acquire() as connection:
                assert isinstance(connection, asyncpg.Connection)
                pid = connection.get_server_pid()
                async with connection.transaction():
                    await connection.execute("update counter set value = 4 where id = 7")
                await connection.execute("set search_path = nowhere")
            seen = await tf_db.fetchval("select value from counter where id = 7")
    finally:
        for replica in cluster.replicas:
            await replica.resume_replay()
    again = await tf_db.acquire()
    path = await again.fetchval("show search_path")
    same = again.get_server_pid()
    await tf_db.release(again)
    await tf_db.release(again)

    assert 4 == seen
    assert pid == same, "the connection was not reused: this proves nothing"
    assert "nowhere" not in path
    with pytest.raises(asyncpg.InterfaceError, match="released"):
        await again.fetchval("select 1")


async def test_a_connection_closed_by_its_user_is_replaced(
    tf_db: db.Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with tf_db.acquire() as connection:
        await connection.close()

    assert "closed by its user" in caplog.text
    async with tf_db.acquire() as connection:
        assert 1 == await connection.fetchval("select 1")


async def test_acquire_at_eventual_gives_a_replica(cluster: postgres_cluster.Cluster, tf_db: db.Database) -> None:
    async with tf_db.reading("eventual").acquire() as connection:
        assert await connection.fetchval("select pg_is_in_recovery()")


async def test_init_runs_on_every_connection_and_setup_around_every_use(cluster: postgres_cluster.Cluster) -> None:
    async def init(connection: Any) -> None:
        await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)

    async def setup(connection: Any) -> None:
        await connection.execute("set tenfold.tenant = 'blue'")

    async with routed_reads.started(cluster, init=init, setup=setup) as database:
        value = await database.fetchval("select $1::jsonb", {"a": [1]})
        tenant = await database.fetchval("select current_setting('tenfold.tenant')")

    assert {"a": [1]} == value
    assert "blue" == tenant


async def test_connect_gives_a_connection_of_ones_own_to_the_primary(tf_db: db.Database) -> None:
    connection = await tf_db.connect()
    try:
        assert not await connection.fetchval("select pg_is_in_recovery()")
    finally:
        await connection.close()


async def test_a_read_is_cut_at_the_requests_deadline_on_the_server_too(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with request.serving(request.Request(deadline=began + 0.5)), pytest.raises(errors.DeadlineExceeded):
        await tf_db.fetchval("select pg_sleep(60) as deadline_test")
    took = loop.time() - began

    async def has_ended() -> bool:
        running = "select count(*) from pg_stat_activity where query like '%deadline_test%' and pid <> pg_backend_pid()"
        return all([await one.sql(running) == 0 for one in cluster.servers])

    assert took < 1.5
    assert await clock.until(has_ended, seconds=5, pause_seconds=0.05)


async def test_a_timeout_of_ones_own_raises_what_asyncpg_raises(tf_db: db.Database) -> None:
    with pytest.raises(TimeoutError):
        await tf_db.fetchval("select pg_sleep(60)", timeout=0.1)


async def test_an_error_of_the_statement_is_asyncpgs_and_costs_no_connection(tf_db: db.Database) -> None:
    await tf_db.reading("primary").fetchval("select 1")
    size = tf_db.get_size()

    for _ in range(3):
        with pytest.raises(asyncpg.UndefinedTableError):
            await tf_db.reading("primary").fetchval("select * from nowhere")
        with pytest.raises(asyncpg.InterfaceError):
            await tf_db.reading("primary").fetchval("select $1::int")
        with pytest.raises(asyncpg.DataError):
            await tf_db.reading("primary").fetchval("select $1::int", datetime.date(2026, 1, 1))

    assert size == tf_db.get_size()


async def test_a_full_pool_makes_readers_wait_their_turn_and_no_longer_than_their_deadline(
    cluster: postgres_cluster.Cluster,
) -> None:
    database = db.Database()
    await database.start(cluster.bound_to(cluster.primary, pool_size=2))
    loop = asyncio.get_running_loop()
    try:
        many = await asyncio.gather(*(database.fetchval("select $1::int from pg_sleep(0.02)", n) for n in range(20)))
        async with database.acquire(), database.acquire():
            with (
                request.serving(request.Request(deadline=loop.time() + 0.2)),
                pytest.raises(errors.Overloaded),
            ):
                await database.fetchval("select 1")
        after = await database.fetchval("select 1")
        size = database.get_size()
    finally:
        await database.stop()

    assert list(range(20)) == many
    assert 1 == after
    assert size <= 2


async def test_nodes_join_and_leave_while_reads_run(cluster: postgres_cluster.Cluster) -> None:
    database = db.Database()
    await database.start(cluster.bound_to(cluster.primary, cluster.replicas[0]))
    seen: list[str] = []
    is_over = False

    async def reader() -> None:
        while not is_over:
            seen.append(await database.fetchval(WHERE))

    async def is_read(host: str) -> bool:
        return host in seen[-5:]

    try:
        readers = [asyncio.create_task(reader()) for _ in range(4)]
        assert await clock.until(lambda: is_read(cluster.replicas[0].host), seconds=5, pause_seconds=0.01)
        database.update(cluster.bound_to(cluster.primary, cluster.replicas[1]))
        assert await clock.until(lambda: is_read(cluster.replicas[1].host), seconds=5, pause_seconds=0.01)
        database.update(cluster.bound_to(cluster.primary))
        assert await clock.until(lambda: is_read(cluster.primary.host), seconds=5, pause_seconds=0.01)
        is_over = True
        await asyncio.gather(*readers)
    finally:
        await database.stop()

    assert {cluster.replicas[0].host, cluster.replicas[1].host, cluster.primary.host} == set(seen)


async def test_before_start_and_after_stop_a_call_says_what_to_do(cluster: postgres_cluster.Cluster) -> None:
    database = db.Database()
    for call in (database.fetchval("select 1"), database.execute("delete from note"), database.run(print)):
        with pytest.raises(errors.NotStarted, match="lifespan"):
            await call
    await database.start(cluster.bound)
    await database.stop()
    await database.stop()
    with pytest.raises(errors.NotStarted):
        await database.fetchval("select 1")
    with pytest.raises(errors.NotStarted):
        await database.acquire()


async def test_a_server_without_room_for_another_connection_is_waited_for_not_forgotten(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    await cluster.primary.sql(f"alter role {postgres_cluster.USER} connection limit 5")
    try:
        values = await asyncio.gather(
            *(tf_db.reading("primary").fetchval("select $1::int from pg_sleep(0.05)", number) for number in range(30))
        )
    finally:
        await cluster.primary.sql(f"alter role {postgres_cluster.USER} connection limit -1")

    assert list(range(30)) == values
