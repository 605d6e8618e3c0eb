"""tenfold.relayed: messages that queue servers have taken, until every group has handled them.

Used where other regions have queue servers too. The database is copied there, its transactions in their order: a row
goes only after the effects of its handlers were committed, so that whatever state a new home begins with has, of each
message, the row or the effects. Filled by `outbox.in_hand`, emptied by `nats/keeping`, given back by `nats/transport`.
"""

from datetime import timedelta
from uuid import UUID

from tenfold.sdk.db import primary
from tenfold.sdk.queue import store

KEEP = """
with gone as (
    delete from tenfold.outbox o using unnest($1::uuid[], $2::bigint[]) as sent (id, sequence)
     where o.id = sent.id returning o.*, sent.sequence)
insert into tenfold.relayed (id, subject, key, payload, headers, available_at, created_at, stream, sequence)
select id, subject, key, payload, headers, available_at, created_at, $3, sequence from gone
    on conflict (id) do update set stream = excluded.stream, sequence = excluded.sequence
"""
"""Out of the outbox, in the transaction that has had the rows in hand."""

MOST = 1_000_000
"""More rows than this, and the oldest are let go, handled or not: a home goes on, whatever its groups do."""

MOST_AT_ONCE = 5_000
"""Rows that one statement moves or deletes."""

_CLAIM = """
insert into tenfold.stream as known (name, keeper, kept_until) values ($1, $2, now() + $3::interval)
    on conflict (name) do update set keeper = excluded.keeper, kept_until = excluded.kept_until
 where known.keeper = excluded.keeper or known.kept_until < now()
returning settled
"""

_SETTLE = """
with known as (update tenfold.stream set settled = $2 where name = $1 and settled < $2)
delete from tenfold.relayed where stream = $1 and sequence <= $2
"""

_SETTLED = "select settled from tenfold.stream where name = $1"

_ENDS = "select min(stream), max(stream) from tenfold.relayed"

_GIVE_BACK = """
with gone as (
    delete from tenfold.relayed where id in (
        select id from tenfold.relayed where stream <> $1 order by available_at, id limit $2 for update skip locked)
    returning *)
insert into tenfold.outbox (id, subject, key, payload, headers, available_at, created_at)
select id, subject, key, payload, headers, available_at, created_at from gone
    on conflict (id) do nothing
"""

_COUNT = "select pg_stat_get_live_tuples('tenfold.relayed'::regclass)"

_LET_GO = """
delete from tenfold.relayed where id in (
    select id from tenfold.relayed where stream = $1 order by sequence limit $2 for update skip locked)
"""

_FORGET = "delete from tenfold.relayed where stream = $1"

_HOME = "select region from tenfold.epoch order by number desc limit 1"


async def claim(shards: primary.Shards, stream: str, keeper: UUID, seconds: float) -> int | None:
    """Up to which message every group had handled all; None while another process looks after this stream."""
    rows = await store.fetch(shards, _CLAIM, stream, keeper, timedelta(seconds=seconds))
    return int(rows[0][0]) if rows else None


async def settle(shards: primary.Shards, stream: str, sequence: int) -> int:
    """Every group has handled all up to here; returns how many rows went."""
    return _number(await store.execute(shards, _SETTLE, stream, sequence))


async def settled(shards: primary.Shards, stream: str) -> int:
    """Up to which message every group had handled all, as far as it was noted down."""
    rows = await store.fetch(shards, _SETTLED, stream)
    return int(rows[0][0]) if rows else 0


async def give_back(shards: primary.Shards, stream: str) -> int:
    """What another stream had taken is in the outbox again, to be passed on to this one; returns how many rows.

    Which of them were handled nobody knows: the inbox does, for groups that have one.
    """
    first, last = (await store.fetch(shards, _ENDS))[0]
    if first is None or first == last == stream:
        return 0
    total = 0
    while True:
        moved = _number(await store.execute(shards, _GIVE_BACK, stream, MOST_AT_ONCE))
        total += moved
        if moved < MOST_AT_ONCE:
            return total


async def let_go(shards: primary.Shards, stream: str) -> int:
    """Delete the oldest rows of more than `MOST`; returns how many."""
    excess = int((await store.fetch(shards, _COUNT))[0][0]) - MOST
    if excess <= 0:
        return 0
    return _number(await store.execute(shards, _LET_GO, stream, min(excess, MOST_AT_ONCE)))


async def forget(shards: primary.Shards, stream: str) -> None:
    """What this stream had is elsewhere in the database now."""
    await store.execute(shards, _FORGET, stream)


async def is_home(shards: primary.Shards, region: str) -> bool:
    """Whether the database, asked now, has its primary in this region, as the last promotion has written down."""
    rows = await store.fetch(shards, _HOME)
    return not rows or rows[0][0] == region


def _number(status: str) -> int:
    return int(status.rpartition(" ")[2])
