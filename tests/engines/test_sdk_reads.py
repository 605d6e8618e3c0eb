"""Reads of tf.db on a real primary with two replicas: freshness, levels, classification."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

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

    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(routed_reads.started(cluster)) for _ in range(3)]
        await asyncio.gather(*(session(100 + number) for number in range(10)))
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


@pytest.mark.parametrize("is_warm", [False, True], ids=["on a new connection", "on a free connection"])
async def test_a_replicas_refusal_teaches_the_router(tf_db: db.Database, is_warm: bool) -> None:
    query = "select liar(1)  -- says it is stable"
    await until_functions_are_known(tf_db)
    for _ in range(20 if is_warm else 0):
        await tf_db.fetchval("select 1")
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
