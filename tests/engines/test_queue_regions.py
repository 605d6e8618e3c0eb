"""Two regions with queue servers of their own: the home is lost, moves, returns.

Whatever state of the database the other region begins with, no message of a transaction in it is lost or done twice.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import nats
import pytest

from support import nats_regions, nats_servers, postgres_cluster, write_database
from tenfold import Message, Transaction, bindings, errors
from tenfold.engines.nats import admin
from tenfold.kit import clock
from tenfold.sdk import db
from tenfold.sdk.db import schema
from tenfold.sdk.queue import queue

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]
NETWORK = 251
SECONDS = 60.0

TABLES = """
drop table if exists sent, done;
create table sent (number integer primary key);
create table done (number integer not null);
alter table sent owner to {user}; alter table done owner to {user};
"""

COPIED = {
    "public": ("sent", "done"),
    "tenfold": ("outbox", "relayed", "stream", "subscription", "delivery", "inbox", "dead_letter"),
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    with write_database.running(tmp_path_factory.mktemp("database"), NETWORK) as made:
        yield made


def bound(home: nats_servers.Servers, far: nats_servers.Servers, *, is_moved: bool = False) -> bindings.Queue:
    """What the app of the home region is told: of `seoul`, or after a move of `virginia`."""
    regions = [("seoul", "home", home), ("virginia", "virginia", far)]
    (name, domain, here), (other, other_domain, there) = regions[::-1] if is_moved else regions
    return msgspec.structs.replace(
        here.bound,
        storage_bytes=64 * 1024**2,
        nodes=tuple(msgspec.structs.replace(one, region=name) for one in here.bound.nodes),
        domain=domain,
        mirrors=(bindings.QueueRegion(name=other, domain=other_domain, nodes=there.bound.nodes),),
    )


async def connect(cluster: postgres_cluster.Cluster, database: str) -> "asyncpg.Connection":
    server = cluster.primary
    return await asyncpg.connect(host=server.host, port=server.port, user="postgres", database=database)


async def made(cluster: postgres_cluster.Cluster, name: str) -> bindings.Database:
    """A database of this name, empty."""
    await cluster.primary.script(f"create database {name} owner {postgres_cluster.USER}", "postgres")
    await cluster.primary.script(schema.statements(postgres_cluster.USER), name)
    await cluster.primary.script(TABLES.format(user=postgres_cluster.USER), name)
    return msgspec.structs.replace(cluster.bound, name=name)


async def copied(cluster: postgres_cluster.Cluster, source: str, target: str) -> bindings.Database:
    """What another region has of the database, as of one moment."""
    bound = await made(cluster, target)
    one, other = await connect(cluster, source), await connect(cluster, target)
    try:
        async with one.transaction(isolation="repeatable_read", readonly=True):
            for folder, tables in COPIED.items():
                for table in tables:
                    rows = await one.fetch(f"select * from {folder}.{table}")
                    if rows:
                        columns = list(rows[0].keys())
                        await other.copy_records_to_table(table, schema_name=folder, columns=columns, records=rows)
    finally:
        await one.close()
        await other.close()
    return bound


@asynccontextmanager
async def service(
    database: bindings.Database, told: bindings.Queue, seen: list[int] | None = None, seconds: float = 0.0
) -> AsyncIterator[tuple[db.Database, queue.Queue]]:
    """A process that publishes, and handles in a group with a transaction; with `seen` in one without, too."""
    opened = db.Database()
    running = queue.Queue(opened)

    @running.subscriber("number.drawn", group="effects", transaction=True, backoff=0.05)
    async def count(message: Message[int], tx: Transaction) -> None:
        await tx.execute("insert into done (number) values ($1)", message.payload)
        await asyncio.sleep(seconds)

    if seen is not None:

        @running.subscriber("letter.written", group="plain")
        async def note(message: Message[int]) -> None:
            seen.append(message.payload)

    await opened.start(database)
    try:
        await running.start(told, "shop")
        yield opened, running
    finally:
        await running.stop()
        await opened.stop()


async def draw(tx: Transaction, number: int) -> None:
    await tx.execute("insert into sent (number) values ($1)", number)
    await tx.publish("number.drawn", number)


async def until_done(cluster: postgres_cluster.Cluster, name: str) -> None:
    """Until each number that is in the database was done once, and nothing is kept for another home any more."""
    connection = await connect(cluster, name)
    try:

        async def look() -> bool:
            return bool(
                await connection.fetchval(
                    "select not exists (select number from sent except select number from done) "
                    "and not exists (select from tenfold.outbox) and not exists (select from tenfold.relayed)"
                )
            )

        is_done = await clock.until(look, seconds=SECONDS, pause_seconds=0.1)
        missing = await connection.fetch("select number from sent except select number from done order by 1")
        kept = await connection.fetchval("select count(*) from tenfold.relayed")
        assert is_done, (name, [row[0] for row in missing][:20], len(missing), kept)
        doubled = await connection.fetch("select number from done group by number having count(*) > 1")
        assert [] == doubled
    finally:
        await connection.close()


async def test_a_lost_home_takes_no_message_along_that_the_other_region_has(
    cluster: postgres_cluster.Cluster, tmp_path: Path, seed: int
) -> None:
    """Its state is taken at any moment, also while the link is cut; the servers of the home die with all they kept."""
    chance = random.Random(seed)
    async with nats_regions.started(tmp_path, NETWORK, 1) as regions:
        home, far = regions.near, regions.far
        database = await made(cluster, "home")
        states: list[bindings.Database] = []
        async with service(database, bound(home, far), seconds=0.02) as (opened, _):
            publishing = asyncio.create_task(publish(opened, range(100_000)))
            for number in range(3):
                await asyncio.sleep(chance.uniform(0.3, 1.0))
                if number == 1:
                    regions.cut()
                states.append(await copied(cluster, "home", f"far{number}"))
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
            await home.kill()
        left = 0
        for number, state in enumerate(states):
            left += await waiting(cluster, state.name)
            async with service(state, bound(home, far, is_moved=True)):
                await until_done(cluster, state.name)
            if number < len(states) - 1:  # the next one's servers know nothing of these messages
                await far.stop()
                await far.restart()
        print(f"{left} messages passed on again")
        assert left > 50


async def publish(opened: db.Database, numbers: range) -> None:
    left = iter(numbers)

    async def work() -> None:
        for number in left:
            await opened.run(draw, number)

    await asyncio.gather(*(work() for _ in range(8)))


async def waiting(cluster: postgres_cluster.Cluster, name: str) -> int:
    """Messages in this state that the home's servers had taken, and that were not handled."""
    connection = await connect(cluster, name)
    try:
        return int(
            await connection.fetchval(
                "select count(*) from tenfold.relayed r"
                " where not exists (select from tenfold.inbox i where i.id = r.id)"
            )
        )
    finally:
        await connection.close()


async def test_what_was_published_without_a_transaction_is_in_the_copy_and_a_home_that_returns_becomes_one(
    cluster: postgres_cluster.Cluster, tmp_path: Path
) -> None:
    """The home is lost, the other region goes on, the lost one returns and is the home again."""
    async with nats_regions.started(tmp_path, NETWORK, 1) as regions:
        home, far = regions.near, regions.far
        database = await made(cluster, "moving")
        seen: list[int] = []
        at_seoul = bound(home, far)
        nobody = msgspec.structs.replace(at_seoul, handled_by="workers")
        at_virginia = bound(home, far, is_moved=True)
        async with service(database, nobody, seen) as (opened, made_queue):
            await published(made_queue, range(20))
            for number in range(20):
                await opened.run(draw, number)
            await until_copied(far, "tenfold-shop-from-seoul", 20)
            [stream] = await admin.streams([home.servers[0].seat])
            assert 2 == len(stream.consumers), "what other regions have not got yet waits for no worker"
            await home.kill()
            made_queue.update(at_virginia)
            await until_seen(seen, range(20))
            await published(made_queue, range(20, 40))
            await until_seen(seen, range(40))
            await until_done(cluster, "moving")

            await home.restart()
            await until_copied(home, "tenfold-shop-from-virginia", 1)
            assert "tenfold-shop" not in await streams_of(home)
            assert "tenfold-shop-from-seoul" not in await streams_of(far)

            made_queue.update(at_seoul)  # both are there: nothing needs to be waited for
            await published(made_queue, range(40, 60))
            for number in range(20, 40):
                await opened.run(draw, number)
            await until_seen(seen, range(60))
            await until_done(cluster, "moving")
            await until_copied(far, "tenfold-shop-from-seoul", 1)
            assert "tenfold-shop" not in await streams_of(far)


async def published(made_queue: queue.Queue, numbers: range) -> None:
    """Without a transaction, until each is taken."""

    async def attempt(number: int) -> bool:
        try:
            await made_queue.publish("letter.written", number)
        except errors.StoreUnavailable:
            return False
        return True

    for number in numbers:
        assert await clock.until(lambda number=number: attempt(number), seconds=SECONDS)  # type: ignore[misc]


async def until_seen(seen: list[int], numbers: range) -> None:
    async def look() -> bool:
        return set(numbers) <= set(seen)

    assert await clock.until(look, seconds=SECONDS), sorted(set(numbers) - set(seen))


async def until_copied(servers: nats_servers.Servers, stream: str, count: int) -> None:
    async def look() -> bool:
        found = await streams_of(servers)
        return stream in found and found[stream] >= count

    assert await clock.until(look, seconds=SECONDS, pause_seconds=0.2), await streams_of(servers)


async def streams_of(servers: nats_servers.Servers) -> dict[str, int]:
    """By name, how many messages each has had."""
    opened = await nats.connect(servers.urls, user=nats_servers.USER, password=nats_servers.PASSWORD)
    try:
        found: Any = await opened.jetstream().streams_info()
        return {one.config.name: one.state.last_seq for one in found}
    finally:
        await opened.close()
