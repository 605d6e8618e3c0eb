"""Publishing on a real PostgreSQL: with the transaction or not at all, to each group, later, or refused.

What becomes of messages in the hands of subscribers is in `test_queue_handling`, what kills do in
`test_queue_processes`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from support import postgres_cluster, queues, write_database
from tenfold import Message, bindings, current, errors
from tenfold.kit import clock
from tenfold.sdk import db
from tenfold.sdk.queue import queue

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
        monkeypatch.setattr("tenfold.sdk.queue.outbox.UNHEARD", timedelta(0))
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


def test_a_queue_begins_again_on_another_loop(cluster: postgres_cluster.Cluster, subject: str) -> None:
    database = db.Database()
    tf_queue = queue.Queue(database)
    got: list[int] = []

    @tf_queue.subscriber(subject, concurrency=1)
    async def work(message: Message[int]) -> None:
        got.append(message.payload)

    async def once(number: int) -> None:
        await database.start(cluster.bound)
        async with running(tf_queue):
            for _ in range(20):
                await tf_queue.publish(subject, number)
            await until(lambda: got.count(number) == 20)
        await database.stop()

    for number in range(2):
        asyncio.run(once(number))
