"""The queue on a real PostgreSQL between processes that are killed, stopped and started again."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from support import postgres_cluster, queue_service, write_database
from tenfold import bindings

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

SECONDS = 60.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    with write_database.running(tmp_path_factory.mktemp("queue"), 67) as made:
        yield made


@pytest.fixture
async def connection(cluster: postgres_cluster.Cluster) -> "AsyncIterator[asyncpg.Connection]":
    """The superuser's own, with empty tables."""
    made = await _connected(cluster)
    await made.execute(queue_service.TABLES.format(user=postgres_cluster.USER))
    await made.execute("truncate tenfold.outbox, tenfold.delivery, tenfold.inbox, tenfold.subscription")
    try:
        yield made
    finally:
        await made.close()


async def _connected(cluster: postgres_cluster.Cluster) -> "asyncpg.Connection":
    server = cluster.primary
    return await asyncpg.connect(
        host=server.host, port=server.port, user="postgres", database=postgres_cluster.DATABASE
    )


async def test_what_a_process_committed_and_could_not_send_any_more_is_sent_by_others(
    cluster: postgres_cluster.Cluster, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    bound, told = cluster.bound, bindings.Queue()
    async with queue_service.staff([queue_service.Task("dying", bound, told, 0, 1, at_once=1)], tmp_path) as [dying]:
        assert dying.running is not None
        assert -signal.SIGKILL == await asyncio.wait_for(dying.running.wait(), SECONDS)
        assert 1 == await connection.fetchval("select count(*) from sent")
        assert 1 == await connection.fetchval("select count(*) from tenfold.outbox")
        async with queue_service.staff([queue_service.Task("consumer", bound, told)], tmp_path):
            await queue_service.settled(connection, 1, SECONDS)
            assert 1 == await connection.fetchval("select count(*) from done")


async def test_everything_goes_on_when_the_database_was_away(
    cluster: postgres_cluster.Cluster, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    """A power cut of the database, in the middle of publishing and handling."""
    bound, told = cluster.bound, bindings.Queue()
    publisher = queue_service.Task("publisher", bound, told, 0, 300, at_once=4)
    async with queue_service.staff([publisher, queue_service.Task("consumer", bound, told)], tmp_path) as processes:
        for one in processes:
            await one.ready()
        await cluster.primary.kill()
        await cluster.primary.start()
        again = await _connected(cluster)
        try:
            await queue_service.settled(again, 300, SECONDS)
            found = await again.fetchrow("select count(*), count(distinct number) from done")
        finally:
            await again.close()
    assert (300, 300) == tuple(found), [one.log.read_text()[-2000:] for one in processes]


async def test_a_deploy_loses_no_message_and_waits_for_no_lease(
    cluster: postgres_cluster.Cluster, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    """Consumers are ended by SIGTERM and replaced ; nothing has to wait until a lease ends."""
    bound, told = cluster.bound, bindings.Queue()
    publisher = queue_service.Task("publisher", bound, told, 0, 200, at_once=2)
    consumer = queue_service.Task("consumer", bound, told)
    async with queue_service.staff([publisher, consumer, consumer], tmp_path) as [_, *consumers]:
        for one in consumers:
            assert 0 == await one.end()
            await one.start()
        await queue_service.settled(connection, 200, SECONDS)
        leases = "select count(*) from tenfold.delivery where leased_until is not null"
        assert 0 == await connection.fetchval(leases)
    assert 200 == await connection.fetchval("select count(*) from done")


async def test_every_effect_happens_exactly_once_while_everybody_is_killed(
    cluster: postgres_cluster.Cluster, connection: asyncpg.Connection, tmp_path: Path, seed: int
) -> None:
    await _run(cluster, connection, tmp_path, seed, count=300, most=8)


@pytest.mark.torture
@pytest.mark.timeout(3600)
async def test_20_000_effects_happen_exactly_once_while_everybody_is_killed(
    cluster: postgres_cluster.Cluster, connection: asyncpg.Connection, tmp_path: Path, seed: int
) -> None:
    await _run(cluster, connection, tmp_path, seed, count=20_000, most=1000)


async def _run(
    cluster: postgres_cluster.Cluster,
    connection: asyncpg.Connection,
    folder: Path,
    seed: int,
    *,
    count: int,
    most: int,
) -> None:
    """Publish `count` numbers, each with a row of its own, and count their effects; so many troubles at most."""
    bound, told = cluster.bound, bindings.Queue()
    halves = [(0, count // 2), (count // 2, count)]
    tasks = [queue_service.Task("publisher", bound, told, *half, at_once=4) for half in halves]
    tasks += [queue_service.Task("consumer", bound, told) for _ in range(2)]
    tasks += [queue_service.Task("relay", bound, told)]
    async with queue_service.staff(tasks, folder) as processes:
        trouble = queue_service.Trouble(processes, random.Random(seed))
        while trouble.kills + trouble.stops < most:
            await trouble.once()
            if count == await connection.fetchval("select count(*) from sent"):
                break
        await trouble.calm()
        await queue_service.settled(connection, count, SECONDS + count / 100)
    found = dict(await connection.fetch("select number, count(*) from done group by number"))
    doubled = {number: times for number, times in found.items() if times != 1}
    missing = set(range(count)) - found.keys()
    print(f"{count} messages, {trouble.kills} kills, {trouble.stops} stops")
    assert ({}, set()) == (doubled, missing), [one.log.read_text()[-2000:] for one in processes]
