"""What tests of the queue on a real PostgreSQL begin with: a database, a queue that runs, a subject of their own."""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from support import postgres_cluster
from tenfold import bindings
from tenfold.kit import clock
from tenfold.sdk import db
from tenfold.sdk.queue import queue

NETWORK = 8

SECONDS = 30.0
"""How long anything may take on a slow machine."""

_numbers = itertools.count()


def fresh_subject() -> str:
    """A subject of a test's own: all tests of a module share one database."""
    return f"test{next(_numbers)}.happened"


@asynccontextmanager
async def connected(cluster: postgres_cluster.Cluster) -> AsyncIterator[db.Database]:
    """`tf.db` on this cluster."""
    made = db.Database()
    await made.start(cluster.bound)
    try:
        yield made
    finally:
        await made.stop()


@asynccontextmanager
async def running(made: queue.Queue, **said: Any) -> AsyncIterator[queue.Queue]:
    """The queue, started by bindings that say so."""
    await made.start(bindings.Queue(**said))
    try:
        yield made
    finally:
        await made.stop()


async def until(look: Callable[[], object]) -> None:
    """Returns when something is so; fails when it is not for long."""

    async def asked() -> bool:
        return bool(look())

    assert await clock.until(asked, seconds=SECONDS, pause_seconds=0.01)
