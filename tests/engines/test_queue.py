"""The queue on a real PostgreSQL: with the transaction or not at all, to each group, in order, again, dead.

What several processes and kills do to it is in `test_queue_processes`.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import postgres_cluster, write_database
from tenfold import Discard, Message, Retry, Transaction, bindings, current, errors
from tenfold.kit import clock
from tenfold.sdk import db
from tenfold.sdk.queue import queue

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
        with pytest.raises(ZeroDivisionError):
            async with database.transaction() as tx:
                await tx.publish(subject, SignedUp(1))
                raise ZeroDivisionError
        async with database.transaction() as tx:
            published = await tx.publish(subject, SignedUp(2), key="two", headers={"Tenant": "blue"})
        await until(lambda: got)
        await asyncio.sleep(0)
    assert [(one.id, one.payload, one.key, one.attempt) for one in got] == [(published, SignedUp(2), "two", 1)]
    assert got[0].headers["tenant"] == "blue"
    assert got[0].headers["ce-type"] == subject
    assert got[0].position[0].lsn >= tx.at.lsn
