"""Reads of tf.db on a real primary with two replicas: freshness, levels, routing, asyncpg.Pool's surface."""

import asyncio
import datetime
import io
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from support import postgres_cluster
from tenfold import errors, request
from tenfold.kit import clock
from tenfold.sdk import db
from tenfold.sdk.db import schema

pytestmark = pytest.mark.anyio

NETWORK = 61
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


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """As everywhere, but for the whole module: it shares one cluster."""
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[postgres_cluster.Cluster]:
    folder: Path = tmp_path_factory.mktemp("reads")
    async with postgres_cluster.cluster(folder, NETWORK) as made:
        await made.primary.script(schema.statements(postgres_cluster.USER))
        await made.primary.script(TABLES)
        await made.until_caught_up()
        yield made


@pytest.fixture
async def tf_db(cluster: postgres_cluster.Cluster) -> AsyncIterator[db.Database]:
    async with started(cluster) as database:
        yield database


class started:  # noqa: N801 - reads as a verb where it is used
    """A Database on the cluster, which sees all of its nodes."""

    def __init__(self, cluster: postgres_cluster.Cluster, **options: Any) -> None:
        self.cluster = cluster
        self.database = db.Database(**options)

    async def __aenter__(self) -> db.Database:
        await self.database.start(self.cluster.bound)
        shard = self.database._shards.shard(0)

        async def sees_all() -> bool:
            return shard.writable is not None and len(shard.readable) == len(self.cluster.replicas)

        assert await clock.until(sees_all, seconds=10, pause_seconds=0.01)
        return self.database

    async def __aexit__(self, *_: object) -> None:
        await self.database.stop()


async def test_a_read_goes_to_a_replica_and_a_write_to_the_primary(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    replicas = {one.host for one in cluster.replicas}

    assert await tf_db.fetchval(WHERE) in replicas
    assert "INSERT 0 1" == await tf_db.execute("insert into note (text) values ($1)", "written")
    assert cluster.primary.host == await tf_db.reading("primary").fetchval(WHERE)


async def test_reads_are_spread_over_the_replicas(cluster: postgres_cluster.Cluster, tf_db: db.Database) -> None:
    seen = {await tf_db.fetchval(WHERE) for _ in range(60)}

    assert {one.host for one in cluster.replicas} == seen


async def test_the_reads_of_one_request_stay_on_one_replica(tf_db: db.Database) -> None:
    with request.serving(request.Request()):
        seen = {await tf_db.fetchval(WHERE) for _ in range(60)}

    assert 1 == len(seen)


async def test_a_read_after_a_write_of_the_same_session_sees_it_though_replicas_stand_still(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    for replica in cluster.replicas:
        await replica.pause_replay()
    try:
        with tf_db.session():
            await tf_db.execute("update counter set value = 7 where id = 1")
            fresh = await tf_db.fetchval("select value from counter where id = 1")
        stale = await tf_db.reading("eventual").fetchval("select value from counter where id = 1")
    finally:
        for replica in cluster.replicas:
            await replica.resume_replay()

    assert (7, 0) == (fresh, stale)


async def test_a_script_outside_any_session_reads_what_it_wrote(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    for replica in cluster.replicas:
        await replica.pause_replay()
    try:
        await tf_db.execute("update counter set value = 8 where id = 2")
        seen = await tf_db.fetchval("select value from counter where id = 2")
    finally:
        for replica in cluster.replicas:
            await replica.resume_replay()

    assert 8 == seen


async def stale_reads(
    cluster: postgres_cluster.Cluster, pairs: int, level: str, chance: random.Random
) -> tuple[int, int]:
    """How many of so many write-then-read pairs missed their own write, and how many were read from a replica.

    The write and the read go through different Database objects, as through different web servers; only the
    positions travel between them.
    """
    databases = [started(cluster) for _ in range(3)]
    opened = [await one.__aenter__() for one in databases]
    stale = from_replica = 0
    primary = cluster.primary.host

    async def session(number: int) -> None:
        nonlocal stale, from_replica
        for value in range(1, pairs // 10 + 1):
            first = request.Request()
            with request.serving(first):
                await chance.choice(opened).execute("update counter set value = $1 where id = $2", value, number)
            carried = request.Request(seen=first.seen, is_known=first.is_known)
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() * 0.02)
            with request.serving(carried):
                row = (
                    await chance.choice(opened)
                    .reading(level)
                    .fetchrow("select value, host(inet_server_addr()) as host from counter where id = $1", number)
                )
            stale += row["value"] != value
            from_replica += row["host"] != primary

    try:
        await asyncio.gather(*(session(100 + number) for number in range(10)))
    finally:
        for one in databases:
            await one.__aexit__()
    return stale, from_replica


async def test_write_then_read_pairs_never_miss_their_write_at_session_and_do_at_eventual(
    cluster: postgres_cluster.Cluster, chance: random.Random
) -> None:
    await cluster.primary.script("update counter set value = 0")
    await cluster.replicas[0].delay_replay(15)
    await cluster.replicas[1].delay_replay(300)
    try:
        stale, from_replica = await stale_reads(cluster, 500, "session", chance)
        await cluster.primary.script("update counter set value = 0")
        stale_eventual, _ = await stale_reads(cluster, 200, "eventual", chance)
    finally:
        for replica in cluster.replicas:
            await replica.delay_replay(0)

    assert 0 == stale
    assert from_replica > 0, "no read was answered by a replica: this proves nothing"
    assert stale_eventual > 0, "the check cannot find stale reads"


@pytest.mark.torture
@pytest.mark.timeout(1800)
async def test_ten_thousand_pairs_never_miss_their_write_at_session(
    cluster: postgres_cluster.Cluster, chance: random.Random
) -> None:
    await cluster.replicas[0].delay_replay(10)
    await cluster.replicas[1].delay_replay(200)
    try:
        stale, from_replica = await stale_reads(cluster, 10_000, "session", chance)
    finally:
        for replica in cluster.replicas:
            await replica.delay_replay(0)

    assert 0 == stale
    assert from_replica > 0


async def test_a_replica_that_catches_up_in_time_is_waited_for(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    replicas = {one.host for one in cluster.replicas}
    seen = []
    for _ in range(40):
        with tf_db.session():
            await tf_db.execute("update counter set value = value + 1 where id = 3")
            seen.append(await tf_db.fetchval(WHERE))

    assert sum(host in replicas for host in seen) > 20


async def test_a_bounded_read_misses_nothing_older_than_its_bound(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    for replica in cluster.replicas:
        await replica.pause_replay()
    try:
        await tf_db.execute("update counter set value = 9 where id = 4")
        await asyncio.sleep(0.25)
        bounded = await tf_db.reading("bounded", seconds=0.2).fetchval("select value from counter where id = 4")
        loose = await tf_db.reading("bounded", seconds=60).fetchval("select value from counter where id = 4")
    finally:
        for replica in cluster.replicas:
            await replica.resume_replay()

    assert (9, 0) == (bounded, loose)


async def test_a_bounded_read_is_answered_by_replicas_that_keep_up(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    replicas = {one.host for one in cluster.replicas}

    seen = [await tf_db.reading("bounded", seconds=0.5).fetchval(WHERE) for _ in range(30)]

    assert sum(host in replicas for host in seen) >= 28


async def test_a_client_without_position_reads_as_the_bindings_say(cluster: postgres_cluster.Cluster) -> None:
    database = db.Database()
    await database.start(cluster.bound_to(*cluster.servers, unknown_client="primary"))
    try:
        with request.serving(request.Request()):
            seen = {await database.fetchval(WHERE) for _ in range(10)}
    finally:
        await database.stop()

    assert {cluster.primary.host} == seen


@pytest.mark.parametrize(
    "query",
    [
        "select * from counter where id = 5 for update",
        "select nextval('number')",
        "with changed as (update counter set value = 1 where id = 5 returning *) select * from changed",
        "select touch(3)",
        "select pg_advisory_xact_lock(1)",
        "select txid_current()",
        "values (nextval('number'))",
        "select liar(1)",
    ],
)
async def test_a_select_that_writes_succeeds_on_the_primary(tf_db: db.Database, query: str) -> None:
    with request.serving(request.Request()):
        await tf_db.fetchval("select 1")
        await tf_db.fetch(query)
        await tf_db.fetch(query)


async def test_a_replicas_refusal_teaches_the_router(tf_db: db.Database) -> None:
    query = "select liar(1)  -- says it is stable"
    await until_functions_are_known(tf_db)
    classifier = tf_db._shards.classifier

    before = classifier.reads(query)
    value = await tf_db.fetchval(query)

    assert (True, False) == (before, classifier.reads(query))
    assert value > 0


async def until_functions_are_known(database: db.Database) -> None:
    async def are_known() -> bool:
        return "plus_one" in database._shards.classifier.functions

    assert await clock.until(are_known, seconds=10, pause_seconds=0.01)


async def test_the_services_own_stable_functions_are_read_from_replicas(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    await until_functions_are_known(tf_db)

    row = await tf_db.fetchrow("select plus_one(1) as two, host(inet_server_addr()) as host")

    assert 2 == row["two"]
    assert row["host"] in {one.host for one in cluster.replicas}


async def test_a_write_inside_an_open_transaction_is_a_mistake_and_a_read_is_not(tf_db: db.Database) -> None:
    async with tf_db.transaction() as tx:
        await tx.execute("update counter set value = 5 where id = 6")
        with pytest.raises(errors.InsideTransaction):
            await tf_db.execute("update counter set value = 6 where id = 6")
        with pytest.raises(errors.InsideTransaction):
            await tf_db.execute("vacuum counter")
        assert 1 == await tf_db.fetchval("select 1")


async def test_a_pool_of_asyncpg_can_be_replaced_by_tf_db(tf_db: db.Database) -> None:
    assert [1, 2] == [row["n"] for row in await tf_db.fetch("select n from generate_series(1, 2) as n")]
    assert (1, 2) == tuple(await tf_db.fetchrow("select 1, 2"))
    assert 2 == await tf_db.fetchval("select 1, 2", column=1)
    assert [[1], [2]] == [list(row) for row in await tf_db.fetchmany("select $1::int", [(1,), (2,)])]
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

    async with started(cluster, init=init, setup=setup) as database:
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
