"""The queue on a real PostgreSQL: with the transaction or not at all, to each group, in order, again, dead.

What several processes and kills do to it is in `test_queue_processes`.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from support import postgres_cluster, write_database
from tenfold import Discard, Message, Retry, Transaction, bindings, current, errors
from tenfold.kit import clock
from tenfold.sdk import db
from tenfold.sdk.queue import handling, queue

pytestmark = pytest.mark.anyio

SECONDS = 30.0
"""How long anything may take on a slow machine."""


@dataclass
class SignedUp:
    id: int


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    with write_database.running(tmp_path_factory.mktemp("queue"), 67) as made:
        yield made


numbers = itertools.count()


@pytest.fixture
def subject() -> str:
    """A subject of the test's own: all share one database."""
    return f"test{next(numbers)}.happened"


@pytest.fixture
async def database(cluster: postgres_cluster.Cluster) -> AsyncIterator[db.Database]:
    made = db.Database()
    await made.start(cluster.bound)
    try:
        yield made
    finally:
        await made.stop()


@asynccontextmanager
async def running(made: queue.Queue, **said: Any) -> AsyncIterator[queue.Queue]:
    await made.start(bindings.Queue(**said))
    try:
        yield made
    finally:
        await made.stop()


async def until(look: Any) -> None:
    async def asked() -> bool:
        return bool(look())

    assert await clock.until(asked, seconds=SECONDS, pause_seconds=0.01)


async def test_a_message_goes_with_its_transaction_or_not_at_all(database: db.Database, subject: str) -> None:
    tf_queue = queue.Queue(database)
    got: list[Message[SignedUp]] = []

    @tf_queue.subscriber(subject)
    async def welcome(message: Message[SignedUp]) -> None:
        got.append(message)

    async with running(tf_queue):
        undone = database.transaction()
        await undone.start()
        await undone.publish(subject, SignedUp(1))
        await undone.rollback()
        async with database.transaction() as tx:
            published = await tx.publish(subject, SignedUp(2), key="two", headers={"Tenant": "blue"})
        await until(lambda: got)
        await asyncio.sleep(0)
    assert [(one.id, one.payload, one.key, one.attempt) for one in got] == [(published, SignedUp(2), "two", 1)]
    assert got[0].headers["tenant"] == "blue"
    assert got[0].headers["ce-type"] == subject
    assert got[0].position[0].lsn >= tx.at.lsn


async def test_processes_wake_each_other(
    database: db.Database, cluster: postgres_cluster.Cluster, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("POLL_SECONDS", "DEAF_SECONDS"):
        monkeypatch.setattr(f"tenfold.sdk.queue.postgres.transport.{name}", 600.0)
    here, there = queue.Queue(database), queue.Queue(database)
    got: list[int] = []

    @there.subscriber(subject)
    async def work(message: Message[int]) -> None:
        got.append(message.payload)

    async with running(there), running(here):
        await until(lambda: _consumer(there).is_hungry and _postgres(there)._listening.is_alive)
        await here.publish(subject, 7)
        await until(lambda: got == [7])


def _postgres(of: queue.Queue) -> Any:
    return of._carrier_of("postgres")


def _consumer(of: queue.Queue) -> Any:
    return _postgres(of)._poll.consumers[0]


async def test_publishing_adds_one_round_trip_and_the_commit_waits_for_nothing(
    database: db.Database, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tf_queue = queue.Queue(database)
    tf_queue.declare(subject)
    async with database.transaction() as tx:
        asked: list[str] = []
        tx.connection.add_query_logger(lambda one: asked.append(one.query))
        await tx.publish(subject, {"first": "prepares its statement"})
        asked.clear()
        await tx.publish(subject, {"second": True}, key="key", delay=60)
        assert len(asked) == 1


async def test_every_group_gets_every_message_and_one_that_fails_delays_only_its_own(
    database: db.Database, subject: str
) -> None:
    tf_queue = queue.Queue(database)
    mailed: list[int] = []
    counted: list[int] = []

    @tf_queue.subscriber(subject, group=f"{subject}.mailer", backoff=0.05, most_backoff=0.05)
    async def mail(message: Message[int]) -> None:
        if message.attempt < 3:
            raise ConnectionError("the mail server is down")
        mailed.append(message.attempt)

    @tf_queue.subscriber(subject.replace("happened", "*"), group=f"{subject}.statistics")
    async def count(message: Message[int]) -> None:
        assert not mailed
        counted.append(message.payload)

    async with running(tf_queue):
        async with database.transaction() as tx:
            for number in range(5):
                await tx.publish(subject, number)
        await until(lambda: len(mailed) == 5)
    assert sorted(counted) == [0, 1, 2, 3, 4]
    assert mailed == [3] * 5


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


async def test_a_delayed_message_comes_when_it_is_due(database: db.Database, subject: str) -> None:
    tf_queue = queue.Queue(database)
    came: dict[str, float] = {}
    loop = asyncio.get_running_loop()

    @tf_queue.subscriber(subject)
    async def work(message: Message[str]) -> None:
        came[message.payload] = loop.time()

    async with running(tf_queue):
        began = loop.time()
        async with database.transaction() as tx:
            await tx.publish(subject, "in the transaction", delay=0.7)
        await tf_queue.publish(subject, "alone", delay=0.7)
        await tf_queue.publish(subject, "at once")
        await until(lambda: len(came) == 3)
    assert came["at once"] - began < 0.7
    assert min(came["alone"], came["in the transaction"]) - began >= 0.65


async def test_a_handler_sees_what_its_publisher_wrote_and_has_what_a_request_has(
    database: db.Database, subject: str
) -> None:
    tf_queue = queue.Queue(database)
    found: list[Any] = []

    @tf_queue.subscriber(subject, timeout=5)
    async def work(message: Message[None]) -> None:
        serving = current()
        assert serving is not None
        left = serving.deadline - asyncio.get_running_loop().time()
        found.append((serving.seen[0], serving.is_known, 0 < left <= 5, serving.trace))

    async with running(tf_queue):
        with database.session() as session:
            session.trace = "request-7"
            async with database.transaction() as tx:
                await tx.publish(subject)
        await until(lambda: found)
    seen, is_known, is_bounded, trace = found[0]
    assert seen.lsn >= tx.at.lsn
    assert (is_known, is_bounded, trace) == (True, True, "request-7")


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


async def test_only_processes_of_the_role_handle_and_that_can_change_while_they_run(
    database: db.Database, subject: str
) -> None:
    tf_queue = queue.Queue(database)
    got: list[int] = []

    @tf_queue.subscriber(subject)
    async def work(message: Message[int]) -> None:
        got.append(message.payload)

    async with running(tf_queue, handled_by="workers"):
        await tf_queue.publish(subject, 1)
        await tf_queue._relay.finish(SECONDS)
        await asyncio.sleep(0.2)
        assert not got
        tf_queue.update(bindings.Queue(handled_by="web"))
        await until(lambda: got == [1])
        tf_queue.update(bindings.Queue(handled_by="workers"))
        await until(lambda: not tf_queue._crew._runners)
        await tf_queue.publish(subject, 2)
        await tf_queue._relay.finish(SECONDS)
        await asyncio.sleep(0.2)
    assert got == [1]


async def test_a_message_waits_for_its_first_group_and_not_for_ever(
    database: db.Database, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tf_queue = queue.Queue(database)
    got: list[int] = []
    async with running(tf_queue):
        with pytest.raises(errors.BadSubject, match="no subscriber has"):
            await tf_queue.publish(subject, 0)
        with pytest.raises(errors.BadSubject, match="no subscriber has"):
            async with database.transaction() as tx:
                await tx.publish(subject, 0)
        tf_queue.declare(subject)
        await tf_queue.publish(subject, 1)
        await tf_queue._relay.finish(SECONDS)
    later = queue.Queue(database)

    @later.subscriber(subject)
    async def work(message: Message[int]) -> None:
        got.append(message.payload)

    async with running(later):
        await until(lambda: got == [1])
        later.declare("nobody.ever")
        await later.publish("nobody.ever", delay=0.001)
        monkeypatch.setattr("tenfold.sdk.queue.outbox.UNHEARD", __import__("datetime").timedelta(0))
        monkeypatch.setattr("tenfold.sdk.queue.relay.UNHEARD_EVERY", 1)

        async def is_gone() -> bool:
            query = "select not exists (select from tenfold.outbox where subject = 'nobody.ever')"
            return bool(await database.reading("primary").fetchval(query))

        assert await clock.until(is_gone, seconds=SECONDS)


async def test_publishers_are_refused_while_too_much_waits(
    database: db.Database, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenfold.sdk.queue.outbox.MOST_DELIVERIES", 10)
    tf_queue = queue.Queue(database)

    @tf_queue.subscriber(subject, group=subject)
    async def work(message: Message[int]) -> None:
        pass

    async with running(tf_queue, handled_by="nobody"):

        async def fill() -> bool:
            try:
                await tf_queue.publish(subject, 1)
            except errors.Overloaded:
                return True
            return False

        assert await clock.until(fill, seconds=SECONDS, pause_seconds=0.02)
        tf_queue.update(bindings.Queue())

        async def has_room() -> bool:
            return not await fill()

        assert await clock.until(has_room, seconds=SECONDS, pause_seconds=0.1)


async def test_what_cannot_be_published_is_refused_before_anything_is_written(
    database: db.Database, subject: str
) -> None:
    tf_queue = queue.Queue(database)
    tf_queue.declare(subject)
    async with running(tf_queue, most_bytes=1000):
        with pytest.raises(errors.TooLarge, match="1002 bytes found, at most 1000"):
            await tf_queue.publish(subject, "x" * 1000)
        with pytest.raises(errors.NotEncodable, match="an object of object"):
            await tf_queue.publish(subject, {"inside": object()})
        with pytest.raises(errors.BadSubject, match="'no spaces'"):
            await tf_queue.publish("no spaces")
        async with database.transaction() as tx:
            with pytest.raises(errors.InsideTransaction, match=r"tx\.publish"):
                await tf_queue.publish(subject)
        assert tx.at is not None
    with pytest.raises(errors.NotStarted):
        await queue.Queue(db.Database()).publish(subject)
