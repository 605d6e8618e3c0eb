"""Write-through: the database and the cache in one call.

Called by `cache`. The value goes into the cache only when it is certain that it is the newest: after the commit it is
stamped, and then nobody else may have committed an invalidation of the same key or tags since the writing statements
ran. Whoever commits one later raises a floor that is not below the stamp; whoever did so before is seen by the question
below. So a value that lost a race is never kept, and never served.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tenfold import errors, position
from tenfold.sdk import db
from tenfold.sdk.cache import fetching
from tenfold.sdk.db import connect, deadline, transaction

log = logging.getLogger("tenfold.cache")

BEFORE = """
select pg_current_wal_flush_lsn()::text as lsn, array(
    select id from tenfold.invalidation where floor_lsn is null and changed_by = pg_current_xact_id()) as own
"""
"""Asked at the end of the transaction. It holds the locks of the rows that it wrote: who writes them later commits
later, and has a floor that is not below this."""

MARK = """
update tenfold.invalidation
   set floor_timeline = $2, floor_lsn = pg_current_wal_flush_lsn()
 where id = any($1) and floor_lsn is null
"""
"""As `delivery` does it, a moment earlier: while it has no floor it counts as one of this moment, and the stamp must be
above it. The commit of this, or of the delivery's own, is what the log needs to get there."""

LSN = "select pg_current_wal_flush_lsn()::text"

RIVALS = """
select exists (select from tenfold.invalidation
                where (floor_lsn >= $1::text::pg_lsn or floor_lsn is null) and slots && $2::int[] and id <> all($3))
"""


STAMP_SECONDS = 1.0
"""How long the primary is waited for, and each of its answers: the value is written, its caller waits for the cache."""

NOT_STAMPED = "cache: a value was written and not cached, because it could not be stamped: %s"


@dataclass(frozen=True, slots=True)
class Commit:
    """How a value was committed: how far the log was before, and the rows that made its predecessors stale."""

    lsn: str
    own: list[UUID]


async def write(
    database: db.Database, work: Callable[..., Awaitable[Any]], args: tuple[Any, ...], ask: fetching.Ask
) -> tuple[Any, Commit | None]:
    """What `work(tx, *args)` returns, committed with an invalidation of the key and the tags.

    Without a `Commit` when it was committed before, and this is the repeat of a request.
    """
    seen: list[Commit] = []

    async def both(tx: transaction.Transaction, *given: Any) -> Any:
        seen.clear()
        value = await work(tx, *given)
        ask.packed(value)  # what cannot be kept must be found out before it is committed
        await tx.invalidate(keys=[ask.key], tags=ask.tags)
        found = await tx.fetchrow(BEFORE)
        seen.append(Commit(found["lsn"], found["own"]))
        return value

    value = await database.run(both, *args)
    return value, seen[0] if seen else None


async def stamp(database: db.Database, slots: Sequence[int], commit: Commit | None) -> position.Position | None:
    """The stamp of what was committed so; None when somebody else may have written after it, or nobody knows."""
    if commit is None:
        return None
    until = min(deadline.limits(None).wait, asyncio.get_running_loop().time() + STAMP_SECONDS)
    try:
        lease = await database.shards.primary(0, until)
    except errors.TryAgain as error:
        log.warning(NOT_STAMPED, error)
        return None
    try:
        await lease.connection.execute(MARK, commit.own, lease.timeline, timeout=STAMP_SECONDS)
        lsn = position.parse_lsn(await lease.connection.fetchval(LSN, timeout=STAMP_SECONDS))
        said = (commit.lsn, list(slots), commit.own)
        has_rivals = await lease.connection.fetchval(RIVALS, *said, timeout=STAMP_SECONDS)
    except connect.ANSWERS as error:
        log.warning(NOT_STAMPED, error)
        lease.discard()
        return None
    except BaseException:
        lease.discard()
        raise
    await lease.release()
    return None if has_rivals else lease.position(lsn)
