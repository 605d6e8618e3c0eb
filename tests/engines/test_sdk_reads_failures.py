"""Reads of tf.db while servers die, move, lag, are fenced and come back: on a real primary with two replicas."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from support import postgres_cluster
from tenfold import errors, position, request
from tenfold.kit import clock
from tenfold.sdk import db
from tenfold.sdk.db import nodes, routing, schema

pytestmark = pytest.mark.anyio

NETWORK = 61
TABLES = f"""
create table counter (id int primary key, value int not null);
insert into counter values (1, 0);
grant all on counter to {postgres_cluster.USER};
"""
WHERE = "select host(inet_server_addr())"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[postgres_cluster.Cluster]:
    async with postgres_cluster.cluster(tmp_path, NETWORK) as made:
        await made.primary.script(schema.statements(postgres_cluster.USER))
        await made.primary.script(TABLES)
        await made.until_caught_up()
        yield made


@pytest.fixture
async def tf_db(cluster: postgres_cluster.Cluster) -> AsyncIterator[db.Database]:
    database = db.Database()
    await database.start(cluster.bound)
    assert await clock.until(lambda: readable(database, 2), seconds=10, pause_seconds=0.01)
    try:
        yield database
    finally:
        await database.stop()


def shard_of(database: db.Database) -> nodes.Shard:
    return database._shards.shard(0)


async def readable(database: db.Database, count: int) -> bool:
    return shard_of(database).writable is not None and len(shard_of(database).readable) == count


class Readers:
    """Several tasks that read all the time and note what they saw and what failed."""

    def __init__(self, read: Callable[[], object]) -> None:
        self.read = read
        self.count = 0
        self.failed: list[BaseException] = []
        self.slowest = 0.0
        self.hosts: list[str] = []
        self.is_over = False

    async def work(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.is_over:
            began = loop.time()
            try:
                self.hosts.append(await self.read())  # type: ignore[misc]
                self.count += 1
            except (errors.TenfoldError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                self.failed.append(error)
            self.slowest = max(self.slowest, loop.time() - began)
            await asyncio.sleep(0)

    async def until_more(self, count: int) -> None:
        wanted = self.count + count

        async def have_come() -> bool:
            return self.count >= wanted

        assert await clock.until(have_come, seconds=30, pause_seconds=0.01), self.failed[:3]


@asynccontextmanager
async def reading(read: Callable[[], object], tasks: int = 8) -> AsyncIterator[Readers]:
    readers = Readers(read)
    running = [asyncio.create_task(readers.work()) for _ in range(tasks)]
    try:
        await readers.until_more(100)
        yield readers
        await readers.until_more(100)
    finally:
        readers.is_over = True
        await asyncio.gather(*running)


async def test_a_replicas_power_cut_fails_no_read_and_it_returns_by_itself(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    victim = cluster.replicas[0]

    async with reading(lambda: tf_db.fetchval(WHERE)) as readers:
        await victim.kill()
        await readers.until_more(300)
        assert victim.host not in readers.hosts[-100:]
        await victim.start()
        assert await clock.until(lambda: readable(tf_db, 2), seconds=10, pause_seconds=0.02)
        await readers.until_more(300)
        hosts = set(readers.hosts[-200:])

    assert [] == readers.failed
    assert victim.host in hosts


async def test_every_replica_and_then_the_primary_may_die_under_eventual_reads(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    async with reading(lambda: tf_db.reading("eventual").fetchval(WHERE)) as readers:
        await cluster.primary.kill()
        await readers.until_more(300)
        await cluster.replicas[0].kill()
        await readers.until_more(300)
        hosts = set(readers.hosts[-100:])

    assert [] == readers.failed
    assert {cluster.replicas[1].host} == hosts


async def test_reads_go_on_while_the_primary_moves_to_a_replica(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    first, second = cluster.primary.host, cluster.replicas[0].host

    async with reading(lambda: tf_db.reading("primary").fetchval(WHERE)) as readers:
        await cluster.fail_over(cluster.replicas[0])
        await readers.until_more(300)
        hosts = set(readers.hosts[-100:])

    assert [] == readers.failed
    assert first in readers.hosts
    assert {second} == hosts


async def test_a_session_reads_its_write_across_a_failover(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    with tf_db.session() as session:
        await tf_db.execute("update counter set value = 1 where id = 1")
        wrote = session.seen[0]
        await cluster.until_caught_up()
        await cluster.fail_over(cluster.replicas[0])
        value = await tf_db.fetchval("select value from counter where id = 1")
        await tf_db.execute("update counter set value = 2 where id = 1")
        again = await tf_db.fetchval("select value from counter where id = 1")

    assert (1, 2) == (value, again)
    assert (1, 2) == (wrote.timeline, session.seen[0].timeline)


async def test_after_a_failover_replicas_of_the_new_timeline_serve_sessions_of_the_old_one(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    with tf_db.session() as session:
        await tf_db.execute("update counter set value = 1 where id = 1")
    beyond = position.Position(0, 1, 1, session.seen[0].lsn + 2**40)
    await cluster.until_caught_up()
    await cluster.fail_over(cluster.replicas[0])
    follower = cluster.replicas[0]

    async def is_served_by_the_follower() -> bool:
        carried = request.Request(is_known=True)
        carried.seen = carried.seen.raised([beyond])  # as if other sessions' lost WAL had raised it
        with request.serving(carried):
            return bool(await tf_db.fetchval(WHERE) == follower.host)

    assert await clock.until(is_served_by_the_follower, seconds=15, pause_seconds=0.1)
    assert 1 == len(tf_db._shards.history(0).switches)


async def test_a_former_primary_that_was_rewound_proves_its_freshness_anew(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    old = cluster.primary
    await cluster.fail_over(cluster.replicas[0])
    await cluster.rejoin(old)
    assert await clock.until(lambda: readable(tf_db, 2), seconds=15, pause_seconds=0.05)
    node = shard_of(tf_db).nodes[old.name]
    before = position.Position(0, 1, 1, 2**60)
    assert node.sighting is not None
    timeline = node.sighting.timeline

    with tf_db.session():
        await tf_db.execute("update counter set value = 5 where id = 1")
        values = [await tf_db.fetchval("select value from counter where id = 1") for _ in range(5)]

    assert 2 == timeline
    assert shard_of(tf_db).proves(node, before), "what was beyond the switch point is clamped to it"
    assert [5] * 5 == values


async def test_a_node_that_comes_back_behind_is_not_believed_by_what_was_seen_of_it_before(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    replica = cluster.replicas[0]
    node = shard_of(tf_db).nodes[replica.name]
    await tf_db.execute("update counter set value = 6 where id = 1")
    wanted = tf_db._shards.outside.seen[0]
    await cluster.until_caught_up()

    async def is_fresh() -> bool:
        return shard_of(tf_db).proves(node, wanted)

    assert await clock.until(is_fresh, seconds=5, pause_seconds=0.02)
    await replica.kill()

    async def is_lost() -> bool:
        return node.sighting is None

    assert await clock.until(is_lost, seconds=5, pause_seconds=0.01)
    assert not shard_of(tf_db).proves(node, wanted)


async def test_a_replica_that_lags_leaves_the_reads_and_returns_by_itself(
    cluster: postgres_cluster.Cluster, tf_db: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "MOST_LAG_SECONDS", 1.0)
    lagging = cluster.replicas[0]

    async def write() -> None:
        await tf_db.execute("update counter set value = value + 1 where id = 1")

    async def has_left() -> bool:
        await write()
        return await readable(tf_db, 1)

    async def has_returned() -> bool:
        await write()
        return await readable(tf_db, 2)

    await lagging.pause_replay()
    assert await clock.until(has_left, seconds=10, pause_seconds=0.05)
    hosts = {await tf_db.reading("eventual").fetchval(WHERE) for _ in range(30)}
    await lagging.resume_replay()
    assert await clock.until(has_returned, seconds=10, pause_seconds=0.05)
    later = {await tf_db.reading("eventual").fetchval(WHERE) for _ in range(60)}

    assert lagging.host not in hosts
    assert lagging.host in later


async def test_a_fenced_primary_still_reads_and_gives_no_lease(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    await cluster.primary.fence()
    loop = asyncio.get_running_loop()

    async def is_fenced() -> bool:
        return shard_of(tf_db).writable is None

    assert await clock.until(is_fenced, seconds=5, pause_seconds=0.02)
    assert cluster.primary.host == await tf_db.reading("primary").fetchval(WHERE)
    with pytest.raises(errors.NoPrimary, match="read-only"):
        await tf_db._shards.primary(0, loop.time() + 0.2)
    with request.serving(request.Request()) as serving:
        waiting = asyncio.create_task(tf_db._shards.primary(0, loop.time() + 10))

    async def is_waiting() -> bool:
        return serving.is_waiting

    assert await clock.until(is_waiting, seconds=5, pause_seconds=0.01)
    await cluster.primary.unfence()
    lease = await waiting
    await lease.release()

    assert not serving.is_waiting
    assert cluster.primary.name == lease.node


async def test_of_two_primaries_the_one_on_the_newer_timeline_counts(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    await cluster.replicas[0].promote()  # nobody has stopped the old one

    async def is_found() -> bool:
        writable = shard_of(tf_db).writable
        return writable is not None and writable.name == cluster.replicas[0].name

    assert await clock.until(is_found, seconds=5, pause_seconds=0.02)
    assert cluster.replicas[0].host == await tf_db.reading("primary").fetchval(WHERE)


async def test_a_demoted_lease_makes_its_node_wait_for_a_new_probe(tf_db: db.Database) -> None:
    loop = asyncio.get_running_loop()
    lease = await tf_db._shards.primary(0, loop.time() + 5)
    lease.demoted()

    assert shard_of(tf_db).writable is None
    assert lease.connection.is_closed()
    again = await tf_db._shards.primary(0, loop.time() + 5)
    await again.release()
    assert lease.node == again.node


async def test_backends_that_are_terminated_fail_no_read(cluster: postgres_cluster.Cluster, tf_db: db.Database) -> None:
    terminate = (
        f"select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = '{postgres_cluster.USER}'"
    )

    async with reading(lambda: tf_db.fetchval(WHERE)) as readers:
        for _ in range(5):
            for server in cluster.servers:
                await server.sql(terminate)
            await readers.until_more(50)

    assert [] == readers.failed


async def test_a_server_that_stops_answering_is_noticed_and_its_reads_move(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    frozen = cluster.replicas[0]
    assert frozen.machine is not None

    async with reading(lambda: tf_db.fetchval(WHERE)) as readers:
        until = asyncio.get_running_loop().time() + 6
        await frozen.freeze()
        try:
            while asyncio.get_running_loop().time() < until:
                await readers.until_more(10)
        finally:
            await frozen.thaw()

    assert [] == readers.failed
    assert readers.slowest < 4.0


async def test_when_nothing_answers_a_read_says_so_at_its_deadline(
    cluster: postgres_cluster.Cluster, tf_db: db.Database
) -> None:
    for server in cluster.servers:
        await server.kill()
    loop = asyncio.get_running_loop()
    began = loop.time()

    with request.serving(request.Request(deadline=began + 0.7)), pytest.raises(errors.NoPrimary) as caught:
        await tf_db.fetchval("select 1")

    assert loop.time() - began < 1.5
    assert all(server.name in str(caught.value) for server in cluster.servers)


async def test_an_app_may_start_before_its_database(cluster: postgres_cluster.Cluster) -> None:
    for server in cluster.servers:
        await server.kill()
    database = db.Database()
    await database.start(cluster.bound)
    try:
        waiting = asyncio.create_task(database.reading("primary").fetchval("select 1"))
        await cluster.primary.start()
        assert 1 == await waiting
    finally:
        await database.stop()
