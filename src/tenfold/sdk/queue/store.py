"""Statements of the queue's own, on the primary, each a transaction of its own.

Called by everything in this package that keeps its books in the database. All its statements may be run again when the
answer was lost: so it needs no tokens, and a lost connection costs a second try.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

from tenfold import errors
from tenfold.kit import backoff
from tenfold.sdk.db import connect, deadline, primary

SECONDS = 10.0
"""How long one statement may take, the wait for a primary and all tries included."""

PAUSE = backoff.Backoff(first_seconds=0.02, most_seconds=0.5)

Result = TypeVar("Result")
Work = Callable[[primary.Lease], Awaitable[Result]]


async def run(shards: primary.Shards, work: Work[Result], seconds: float | None = None) -> Result:
    """What `work` returns, given a lease on the primary; tried again when the connection or the primary goes away.

    Raises `StoreUnavailable` when there was none before the time (or the request's) was over: what `work` does may have
    happened.
    """
    seconds = SECONDS if seconds is None else seconds
    until = deadline.limits(seconds).wait
    tries = 0
    while True:
        try:
            async with asyncio.timeout_at(until):
                return await _once(shards, work, until)
        except errors.TryAgain as error:
            seen: BaseException = error
        except connect.ANSWERS as error:
            if not (connect.is_trouble(error) or isinstance(error, asyncpg.ReadOnlySQLTransactionError)):
                raise
            seen = error
        tries += 1
        pause = PAUSE.seconds(tries)
        if asyncio.get_running_loop().time() + pause >= until:
            raise errors.StoreUnavailable(
                f"queue: the database did not answer within {seconds:g} s ({seen or type(seen).__name__})"
            ) from seen
        await asyncio.sleep(pause)


async def fetch(shards: primary.Shards, query: str, *arguments: Any, seconds: float | None = None) -> list[Any]:
    """The rows of one statement."""
    return await run(shards, lambda lease: lease.connection.fetch(query, *arguments), seconds)


async def execute(shards: primary.Shards, query: str, *arguments: Any, seconds: float | None = None) -> str:
    """The status of one statement."""
    return await run(shards, lambda lease: lease.connection.execute(query, *arguments), seconds)


def origin(lease: primary.Lease) -> str:
    """How a position of the lease's node begins, as text; the log's address completes it."""
    return f"{lease.shard}.{lease.epoch}.{lease.timeline}"


async def _once(shards: primary.Shards, work: Work[Result], until: float) -> Result:
    lease = await shards.primary(0, until)
    try:
        result = await work(lease)
    except asyncpg.ReadOnlySQLTransactionError:
        lease.demoted()
        raise
    except BaseException:
        lease.discard()
        raise
    await lease.release()
    return result
