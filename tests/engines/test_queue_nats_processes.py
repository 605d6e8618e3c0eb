"""The queue on three real NATS servers: processes and servers are killed, the service moves there and back again."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import msgspec
import pytest

from support import nats_servers, postgres_cluster, queue_service, write_database
from tenfold import Message, Transaction, bindings, errors
from tenfold.kit import clock
from tenfold.sdk import db
from tenfold.sdk.queue import draining, queue
from tenfold.sdk.queue.nats import naming

pytestmark = pytest.mark.anyio
NETWORK = 9
STORAGE = 64 * 1024**2

BURST = 1_000_000
"""Numbers from here on take their time: some wait while the service moves."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    with write_database.running(tmp_path_factory.mktemp("database"), NETWORK) as made:
        yield made


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nats_servers.Servers]:
    with nats_servers.running(tmp_path_factory.mktemp("nats"), NETWORK, count=3) as made:
        yield made


@pytest.fixture
async def connection(cluster: postgres_cluster.Cluster) -> "AsyncIterator[asyncpg.Connection]":
    """The superuser's own, with empty tables."""
    server = cluster.primary
    made = await asyncpg.connect(
        host=server.host, port=server.port, user="postgres", database=postgres_cluster.DATABASE
    )
    await made.execute(queue_service.TABLES.format(user=postgres_cluster.USER))
    await made.execute(
        "truncate tenfold.outbox, tenfold.delivery, tenfold.inbox, tenfold.subscription, tenfold.dead_letter"
    )
    try:
        yield made
    finally:
        await made.close()


def bound(servers: nats_servers.Servers, **changes: object) -> bindings.Queue:
    return msgspec.structs.replace(servers.bound, **{"storage_bytes": STORAGE, **changes})


async def test_every_effect_happens_exactly_once_while_everybody_is_killed(
    cluster: postgres_cluster.Cluster,
    servers: nats_servers.Servers,
    connection: asyncpg.Connection,
    tmp_path: Path,
    seed: int,
) -> None:
    await _run(cluster, servers, connection, tmp_path, seed, count=500, most=10)


@pytest.mark.torture
@pytest.mark.timeout(3600)
async def test_20_000_effects_happen_exactly_once_while_everybody_is_killed(
    cluster: postgres_cluster.Cluster,
    servers: nats_servers.Servers,
    connection: asyncpg.Connection,
    tmp_path: Path,
    seed: int,
) -> None:
    await _run(cluster, servers, connection, tmp_path, seed, count=20_000, most=1000)


async def _run(
    cluster: postgres_cluster.Cluster,
    servers: nats_servers.Servers,
    connection: asyncpg.Connection,
    folder: Path,
    seed: int,
    *,
    count: int,
    most: int,
) -> None:
    """Publish `count` numbers, each with a row of its own, and count their effects; so many troubles at most."""
    told, name = bound(servers), f"torture{count}"
    halves = [(0, count // 2), (count // 2, count)]
    tasks = [queue_service.Task("publisher", cluster.bound, told, *half, at_once=4, name=name) for half in halves]
    tasks += [queue_service.Task("consumer", cluster.bound, told, name=name) for _ in range(2)]
    tasks += [queue_service.Task("relay", cluster.bound, told, name=name)]
    async with queue_service.staff(tasks, folder) as processes:
        trouble = queue_service.Trouble(processes, random.Random(seed))
        while trouble.kills + trouble.stops < most:
            await trouble.once()
            if count == await connection.fetchval("select count(*) from sent"):
                break
        await trouble.calm()
        await queue_service.settled(connection, count, 60 + count / 100)
    found = dict(await connection.fetch("select number, count(*) from done group by number"))
    doubled = {number: times for number, times in found.items() if times != 1}
    missing = set(range(count)) - found.keys()
    print(f"{count} messages, {trouble.kills} kills, {trouble.stops} stops")
    assert ({}, set()) == (doubled, missing), [one.log.read_text()[-2000:] for one in processes]


async def test_killing_the_leader_under_load_loses_no_message(
    cluster: postgres_cluster.Cluster, servers: nats_servers.Servers, connection: asyncpg.Connection
) -> None:
    """What `tf.queue.publish` has acknowledged is handled; what it has refused may be, and publishers try again."""
    handled: dict[str, set[int]] = {"plain": set()}
    async with service(cluster, bound(servers), "bereft", handled) as (_, made):
        acknowledged: set[int] = set()
        is_over = False

        async def publish(first: int) -> None:
            number = first
            while not is_over:
                with contextlib.suppress(errors.TryAgain):
                    await made.publish("number.drawn", number)
                    acknowledged.add(number)
                number += 8
                await asyncio.sleep(0.002)

        publishers = [asyncio.create_task(publish(number)) for number in range(8)]
        assert await clock.until(lambda: asyncio.sleep(0, len(acknowledged) > 200), seconds=30)
        leader = await servers.leader_of(naming.of("bereft").stream)
        await leader.kill()
        before = len(acknowledged)
        assert await clock.until(lambda: asyncio.sleep(0, len(acknowledged) > before + 200), seconds=60)
        is_over = True
        await asyncio.gather(*publishers)
        print(f"{len(acknowledged)} acknowledged")
        assert await clock.until(lambda: asyncio.sleep(0, acknowledged <= handled["plain"]), seconds=60), len(
            acknowledged - handled["plain"]
        )
    await servers.restart(leader)


@asynccontextmanager
async def service(
    cluster: postgres_cluster.Cluster, told: bindings.Queue, name: str, plain: dict[str, set[int]]
) -> AsyncIterator[tuple[db.Database, queue.Queue]]:
    """A process of a service: it publishes, and handles numbers in groups with a transaction and without."""
    database = db.Database()
    made = queue.Queue(database)
    await database.start(cluster.bound)
    try:
        made.subscriber("number.drawn", group="effects", transaction=True, backoff=0.05)(_count)

        async def note(message: Message[int]) -> None:
            plain.setdefault("all", set())
            if message.payload in plain["plain"]:
                plain["all"].add(message.payload)
            plain["plain"].add(message.payload)

        made.subscriber("number.drawn", group="plain")(note)
        await made.start(told, name)
        yield database, made
    finally:
        await made.stop()
        await database.stop()


async def _count(message: Message[int], tx: Transaction) -> None:
    if message.payload % 17 == 0 and message.attempt == 1:
        raise ValueError("again, please")
    if message.payload >= BURST:
        await asyncio.sleep(0.05)
    await tx.execute("insert into done (number, pid) values ($1, 0)", message.payload)


async def test_the_service_moves_to_nats_and_back_and_loses_and_doubles_nothing(
    cluster: postgres_cluster.Cluster, servers: nats_servers.Servers, connection: asyncpg.Connection
) -> None:
    """Two processes publish and handle all the time; their bindings change one after the other, as files do."""
    plain: dict[str, set[int]] = {"plain": set(), "all": set()}
    at_first = bindings.Queue()
    async with (
        service(cluster, at_first, "mover", plain) as first,
        service(cluster, at_first, "mover", plain) as second,
    ):
        both = [first, second]
        sent, is_over = 0, False

        async def publish(database: db.Database, made: queue.Queue, number: int) -> None:
            nonlocal sent
            while not is_over:
                if number % 4 < 2:
                    await database.run(_draw, number)
                else:
                    await _until_published(made, number, database)
                number += 2
                sent += 1

        async def more() -> None:
            before = sent
            assert await clock.until(lambda: asyncio.sleep(0, sent > before + 100), seconds=30)

        publishers = [asyncio.create_task(publish(*one, number)) for number, one in enumerate(both)]
        await more()
        nats = bound(servers)
        await _told(both, msgspec.structs.replace(nats, former="postgres"))
        await more()
        await _told(both, nats)
        await more()
        await asyncio.gather(*(_until_published(first[1], BURST + number, first[0]) for number in range(300)))
        await _told(both, msgspec.structs.replace(nats, transport="postgres", former="nats"))
        drained = await draining.drain(cluster.bound, nats, "mover", 30)
        assert 0 == drained.left
        assert 0 < drained.moved
        await more()
        await _told(both, at_first)
        await more()
        is_over = True
        await asyncio.gather(*publishers)
        count = await connection.fetchval("select count(*) from sent")

        async def is_done() -> bool:
            done = await connection.fetchval("select count(distinct number) from done")
            return bool(done == count == len(plain["plain"]))

        assert await clock.until(is_done, seconds=30), (count, len(plain["plain"]))
    print(f"{count} messages, {drained.moved} moved")
    assert count == await connection.fetchval("select count(*) from done")
    assert set() == plain["all"], "a plain group saw them twice"
    assert 0 == await connection.fetchval("select count(*) from tenfold.dead_letter")


async def _draw(tx: Transaction, number: int) -> None:
    await tx.execute("insert into sent (number) values ($1)", number)
    await tx.publish("number.drawn", number)


async def _until_published(made: queue.Queue, number: int, database: db.Database) -> None:
    """Without a transaction, until it is taken: while the service moves a publisher may be refused."""
    while True:
        try:
            await made.publish("number.drawn", number)
            break
        except errors.StoreUnavailable:
            await asyncio.sleep(0.02)
    await database.execute("insert into sent (number) values ($1)", number)


async def _told(processes: Sequence[tuple[db.Database, queue.Queue]], told: bindings.Queue) -> None:
    for _, made in processes:
        made.update(told)
        await asyncio.sleep(0.2)
