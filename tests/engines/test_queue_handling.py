"""Messages in the hands of subscribers, on a real PostgreSQL: again, dead, in order, once, given back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from support import postgres_cluster, queues, write_database
from tenfold import Discard, Message, Retry, Transaction, bindings, errors
from tenfold.kit import clock
from tenfold.sdk import db
from tenfold.sdk.queue import handling, queue, subscriptions

pytestmark = pytest.mark.anyio

SECONDS = queues.SECONDS
running, until = queues.running, queues.until


@dataclass
class SignedUp:
    id: int


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    with write_database.running(tmp_path_factory.mktemp("queue"), queues.NETWORK) as made:
        yield made


@pytest.fixture
def subject() -> str:
    return queues.fresh_subject()


@pytest.fixture
async def database(cluster: postgres_cluster.Cluster) -> AsyncIterator[db.Database]:
    async with queues.connected(cluster) as made:
        yield made


async def test_what_cannot_be_handled_becomes_a_dead_letter_and_blocks_nobody(
    database: db.Database, subject: str
) -> None:
    tf_queue = queue.Queue(database)
    good: list[int] = []

    @tf_queue.subscriber(subject, group=subject, retries=1, backoff=0.01, timeout=0.2, concurrency=1)
    async def work(message: Message[SignedUp]) -> None:
        if message.payload.id == 1:
            raise ValueError("one is not\0 welcome")
        if message.payload.id == 2:
            await asyncio.sleep(60)
        if message.payload.id == 3:
            raise Discard
        good.append(message.payload.id)

    async with running(tf_queue):
        async with database.transaction() as tx:
            for payload in ("poison", SignedUp(1), SignedUp(2), SignedUp(3), SignedUp(4)):
                await tx.publish(subject, payload)

        async def dead() -> Any:
            return await database.reading("primary").fetch(
                "select attempts, reason from tenfold.dead_letter where group_name = $1 order by id", subject
            )

        async def all_dead() -> bool:
            return len(await dead()) == 3

        assert await clock.until(all_dead, seconds=SECONDS)
        await until(lambda: good == [4])
    found = await dead()
    assert [row["attempts"] for row in found] == [1, 2, 2]
    assert "Expected `object`, got `str`" in found[0]["reason"]
    assert found[1]["reason"] == "ValueError: one is not\\0 welcome"
    assert found[2]["reason"] == "no end after 0.2 s"
    left = "select count(*) from tenfold.delivery where group_name = $1"
    assert await database.reading("primary").fetchval(left, subject) == 0


async def test_trouble_of_the_world_does_not_count_against_a_message(database: db.Database, subject: str) -> None:
    tf_queue = queue.Queue(database)
    tries: list[int] = []

    @tf_queue.subscriber(subject, retries=0, backoff=0.01, most_backoff=0.01)
    async def work(message: Message[None]) -> None:
        tries.append(message.attempt)
        if len(tries) < 4:
            raise errors.StoreUnavailable("the cache is away")

    async with running(tf_queue):
        await tf_queue.publish(subject)
        await until(lambda: tries == [1, 2, 3, 4])


async def test_a_message_that_ends_each_process_that_has_it_is_a_dead_letter_in_the_end(
    database: db.Database, subject: str
) -> None:
    tf_queue = queue.Queue(database)

    @tf_queue.subscriber(subject, group=subject, retries=0)
    async def work(message: Message[None]) -> None:
        raise AssertionError("no try too many")

    async with running(tf_queue, handled_by="nobody"):
        await tf_queue.publish(subject)
        await tf_queue._relay.finish(SECONDS)
        await database.execute("update tenfold.delivery set attempt = 50 where group_name = $1", subject)
        tf_queue.update(bindings.Queue())

        async def is_dead() -> bool:
            query = "select exists (select from tenfold.dead_letter where group_name = $1 and attempts = 51)"
            return bool(await database.reading("primary").fetchval(query, subject))

        assert await clock.until(is_dead, seconds=SECONDS)


async def test_a_handler_chooses_when_to_be_tried_again(database: db.Database, subject: str) -> None:
    tf_queue = queue.Queue(database)
    times: list[float] = []

    @tf_queue.subscriber(subject, backoff=300)
    async def work(message: Message[None]) -> None:
        times.append(asyncio.get_running_loop().time())
        if message.attempt == 1:
            raise Retry(after=0.3)

    async with running(tf_queue):
        await tf_queue.publish(subject)
        await until(lambda: len(times) == 2)
    assert times[1] - times[0] >= 0.25


async def test_messages_of_a_key_come_one_at_a_time_in_order_through_failures(
    database: db.Database, subject: str
) -> None:
    """Two queues stand for two processes: each has its own claims, leases and workers."""
    busy: set[str] = set()
    seen: dict[str, list[int]] = {key: [] for key in "abc"}

    async def work(message: Message[int]) -> None:
        assert message.key is not None
        assert message.key not in busy, "two at once"
        busy.add(message.key)
        await asyncio.sleep(0.001)
        busy.remove(message.key)
        if message.payload % 7 == 3 and message.attempt == 1:
            raise ValueError("the others of this key must wait")
        seen[message.key].append(message.payload)

    async with running(queue.Queue(database)) as first, running(queue.Queue(database)) as second:
        for one in (first, second):
            await one.stop()
            one._subscribers.is_closed = False
            one.subscriber(subject, group=subject, ordered=True, backoff=0.01, most_backoff=0.02)(work)
            await one.start(bindings.Queue())
        for number in range(30):
            for key in "abc":
                async with database.transaction() as tx:
                    await tx.publish(subject, number, key=key)
        await until(lambda: all(len(numbers) == 30 for numbers in seen.values()))
    assert seen == {key: list(range(30)) for key in "abc"}


async def test_what_a_dead_process_left_behind_is_not_overtaken_by_the_same_key(
    database: db.Database, subject: str
) -> None:
    dead, living = queue.Queue(database), queue.Queue(database)
    got: list[int] = []

    @living.subscriber(subject, group=subject, ordered=True)
    async def work(message: Message[int]) -> None:
        got.append(message.payload)

    async with running(living, handled_by="nobody"):
        dead.declare(subject)
        async with database.transaction() as tx:  # whose process commits, and passes nothing on
            await dead._publishing.publish(tx, subject, 1, key="k", at=None, delay=None, headers=None)
        async with database.transaction() as tx:
            await tx.publish(subject, 2, key="k")
        await living._relay.finish(SECONDS)
        rows = "select payload from tenfold.delivery where group_name = $1 order by number"
        assert [b"1", b"2"] == [row[0] for row in await database.reading("primary").fetch(rows, subject)]
        living.update(bindings.Queue())
        await until(lambda: got == [1, 2])


async def test_a_stalled_process_that_wakes_up_late_does_nothing_twice(database: db.Database, subject: str) -> None:
    """The inbox's own test: the second try of a message commits first, the first one then finds it handled."""
    tf_queue = queue.Queue(database)
    effects = "select count(*) from effect where name = $1"

    @tf_queue.subscriber(subject, group=subject, transaction=True)
    async def work(message: Message[None], tx: Transaction) -> None:
        await tx.execute("insert into effect (name) values ($1)", subject)

    async with running(tf_queue, handled_by="nobody"):
        await tf_queue.publish(subject)
        await tf_queue._relay.finish(SECONDS)
        subscriber = next(iter(tf_queue._subscribers))
        consumer = tf_queue._carrier_of("postgres").consume(subscriber.subscription)
        copies = []
        for _ in range(4):  # each time the lease of the one before has ended
            free = "update tenfold.delivery set available_at = now() where group_name = $1"
            await database.execute(free, subject)
            copies += await asyncio.wait_for(consumer.take(1), SECONDS)
        work_on = handling.Handling(subscriber, consumer, database.shards)
        await asyncio.gather(*(work_on.handle(one) for one in copies))
        await consumer.close()
    assert await database.reading("primary").fetchval(effects, subject) == 1
    assert [one.attempt for one in copies] == [1, 2, 3, 4]


async def test_draining_ends_what_is_under_way_and_gives_the_rest_back_untouched(
    database: db.Database, subject: str
) -> None:
    tf_queue = queue.Queue(database)
    begun: list[int] = []
    ended: list[int] = []

    @tf_queue.subscriber(subject, group=subject, concurrency=2)
    async def work(message: Message[int]) -> None:
        begun.append(message.payload)
        await asyncio.sleep(0.3)
        ended.append(message.payload)

    async with running(tf_queue):
        async with database.transaction() as tx:
            for number in range(8):
                await tx.publish(subject, number)
        await until(lambda: len(begun) == 2)
    assert begun == ended
    rows = await database.reading("primary").fetch(
        "select attempt, available_at <= now() as is_free from tenfold.delivery where group_name = $1", subject
    )
    assert [tuple(row) for row in rows] == [(0, True)] * (8 - len(ended))


async def test_a_handler_that_does_not_end_is_cut_at_the_end_and_its_message_given_back(
    database: db.Database, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenfold.sdk.queue.crew.DRAIN_SECONDS", 0.1)
    tf_queue = queue.Queue(database)
    begun: list[int] = []

    @tf_queue.subscriber(subject, group=subject)
    async def work(message: Message[None]) -> None:
        begun.append(message.attempt)
        await asyncio.sleep(60)

    async with running(tf_queue):
        await tf_queue.publish(subject)
        await until(lambda: begun)
    row = "select attempt, available_at <= now() from tenfold.delivery where group_name = $1"
    assert tuple(await database.reading("primary").fetchrow(row, subject)) == (0, True)


async def test_a_process_handles_no_more_at_once_than_it_may(database: db.Database, subject: str) -> None:
    tf_queue = queue.Queue(database)
    busy, most, done = 0, 0, 0

    async def work(message: Message[int]) -> None:
        nonlocal busy, most, done
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.01)
        busy -= 1
        done += 1

    for number in range(2):
        tf_queue.subscriber(subject, group=f"{subject}.{number}", concurrency=4)(work)
    async with running(tf_queue, concurrency=5):
        async with database.transaction() as tx:
            for number in range(20):
                await tx.publish(subject, number)
        await until(lambda: done == 40)
    assert 1 < most <= 5


async def test_the_inbox_forgets_what_was_handled_long_ago(database: db.Database, subject: str) -> None:
    old = "insert into tenfold.inbox select $1, gen_random_uuid(), now() - $2::interval from generate_series(1, $3)"
    await database.execute(old, subject, timedelta(hours=25), 5001)
    await database.execute(old, subject, timedelta(hours=23), 3)
    assert 5001 == await subscriptions.prune(database.shards)
    left = "select count(*) from tenfold.inbox where group_name = $1"
    assert 3 == await database.reading("primary").fetchval(left, subject)
