"""Write-through: the database and the cache in one call.

Called by `cache`. The value goes into the cache only when it is certain that it is the newest: after the commit it is
stamped, and then nobody else may have committed an invalidation of the same key or tags since the writing statements
ran. Whoever commits one later raises a floor above the stamp; whoever did so before is seen by the question below. So
a value that lost a race is never kept, and never served.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tenfold import position
from tenfold.sdk import db
from tenfold.sdk.db import connect, deadline, stamps, transaction

SNAPSHOT = "select pg_current_snapshot()::text as snapshot, pg_current_xact_id()::text as writer"
"""Asked at the end of the transaction: it holds the locks of the rows that it wrote, so that who writes them later
commits later, and is not in this snapshot."""

RIVALS = """
select exists (
    select from tenfold.invalidation
    where slots && $1::int[] and changed_by <> $2::text::xid8
      and changed_by >= pg_snapshot_xmin($3::text::pg_snapshot)
      and not pg_visible_in_snapshot(changed_by, $3::text::pg_snapshot)
)
"""

LSN = "select pg_current_wal_flush_lsn()::text"


async def write(
    database: db.Database, work: Callable[..., Awaitable[Any]], args: tuple[Any, ...], key: str, tags: Sequence[str]
) -> tuple[Any, Any]:
    """What `work(tx, *args)` returns, committed with an invalidation of the key and tags; and how it was committed."""
    seen: list[Any] = []

    async def both(tx: transaction.Transaction, *given: Any) -> Any:
        seen.clear()
        value = await work(tx, *given)
        await tx.invalidate(keys=[key], tags=tags)
        seen.append(await tx.fetchrow(SNAPSHOT))
        return value

    value = await database.run(both, *args)
    return value, seen[0] if seen else None


async def stamp(database: db.Database, slots: Sequence[int], commit: Any) -> position.Position | None:
    """The stamp of what was committed so; None when somebody else may have written after it, or nobody knows."""
    if commit is None:
        return None
    lease = await database.shards.primary(0, deadline.limits(None).wait)
    try:
        await stamps.nudge(lease.connection)  # the stamp must be above the floor of this very commit
        lsn = position.parse_lsn(await lease.connection.fetchval(LSN))
        has_rivals = await lease.connection.fetchval(RIVALS, list(slots), commit["writer"], commit["snapshot"])
    except connect.ANSWERS:
        lease.discard()
        return None
    except BaseException:
        lease.discard()
        raise
    await lease.release()
    return None if has_rivals else lease.position(lsn)
