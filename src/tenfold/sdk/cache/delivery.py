"""`tx.invalidate`: recorded with the transaction, and told to every process once it is committed.

Called by transactions (`outward.Invalidator`) and, for what a process that died has left, by `floors`. A row without a
floor is one that nobody has told of yet: who wrote it does so right after the commit, and if it cannot, any process
does a second later. The row alone decides: what was rolled back has none.
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tenfold import errors, position
from tenfold.sdk import counters
from tenfold.sdk.cache import channel, table
from tenfold.sdk.cache.following import OVERDUE_SECONDS
from tenfold.sdk.db import connect, outgoing, primary, tokens, transaction

log = logging.getLogger("tenfold.cache")

TELL_SECONDS = 0.05
"""How long a commit waits for every cache server to acknowledge. After that the others hear of it within a second."""

KEEP_SECONDS = 24 * 3600.0
"""How long a row is kept: a process that starts can use what was cached since then."""

KEEP_ROWS = 250_000
"""No more rows are kept: a process that starts reads all of them."""

PRUNE_SECONDS = 60.0
"""How often one process deletes old rows, about."""

RECORD = f"insert into tenfold.invalidation (id, slots) values ($1, $2) returning {outgoing.FLUSHED}"

MARK = """
update tenfold.invalidation as row set floor_timeline = told.timeline, floor_lsn = '0/0'::pg_lsn + told.lsn::numeric
  from unnest($1::uuid[], $2::integer[], $3::bigint[]) as told (id, timeline, lsn)
 where row.id = told.id and row.floor_lsn is null
"""
"""Its own commit is what the log needs to get beyond the floor, on the primary and then on every replica."""

OVERDUE = """
select id, slots from tenfold.invalidation
 where floor_lsn is null and created_at < now() - $1 * interval '1 second' limit 256 for update skip locked
"""

PRUNE = """
with many as (
    select id from tenfold.invalidation order by id desc offset $2 limit 1
), gone as (
    delete from tenfold.invalidation where id in (
        select id from tenfold.invalidation
         where id > '00000000-0000-0000-0000-000000000000' and floor_lsn is not null
           and (id <= (select id from many) or (id < $1 and created_at < now() - $3 * interval '1 second'))
         order by id limit 10000 for update skip locked)
    returning floor_timeline, floor_lsn
)
insert into tenfold.invalidation as base (id, slots, floor_timeline, floor_lsn)
select '00000000-0000-0000-0000-000000000000', '{}', max(floor_timeline), max(floor_lsn) from gone having count(*) > 0
    on conflict (id) do update
   set floor_timeline = greatest(base.floor_timeline, excluded.floor_timeline),
       floor_lsn = greatest(base.floor_lsn, excluded.floor_lsn)
"""
"""What is deleted is remembered as one row: everything that is not above its floor is stale for who starts later."""


class Delivery:
    """Records invalidations in transactions of one shard, and tells of those that were committed."""

    def __init__(self, shards: primary.Shards, floors: table.Table, caught_short: Callable[[], None]) -> None:
        self._shards = shards
        self._floors = floors
        self._caught_short = caught_short
        self.channel: channel.Channel | None = None
        """How the other processes are told."""
        self._telling = outgoing.Behind("cache-tell", self._tell)
        self._marking = outgoing.Behind("cache-mark", self._mark)
        self._prune_at = math.inf

    async def invalidate(self, tx: transaction.Transaction, *, tags: Sequence[str], keys: Sequence[str]) -> None:
        """`tx.invalidate`: one row, one round trip; the rest happens after the commit."""
        slots = slots_of(tags, keys)
        if tx.token is None:
            raise errors.MisuseError("tx.invalidate: a read-only transaction found, one that may write expected")
        if not slots:
            return
        row = tokens.fresh().id
        await tx.execute(RECORD, row, slots)
        gathered = tx.awaiting_commit(_Committed)
        if gathered is None:
            gathered = _Committed(self)
            tx.after_commit(gathered)
        gathered.rows.append((row, slots))

    async def committed(self, rows: "list[tuple[UUID, list[int]]]", at: position.Position | None) -> None:
        """The transaction of these rows is committed: no entry of this process that is older is used from here on."""
        if at is None:  # the connection died right behind the commit: the rows say what, the database will say when
            self._caught_short()
            return
        slots = sorted({slot for _, slots in rows for slot in slots})
        self._floors.raise_to(at, slots)
        counters.add("cache.invalidations")
        told = _Told([row for row, _ in rows], (at, slots))
        if self.channel is None or not self.channel.is_awaited:
            self._telling.add(told)
            return
        if not await self.channel.tell([told.floor], TELL_SECONDS):
            counters.add("cache.invalidations_unacknowledged")
        self._marking.add(told)

    async def redeliver(self) -> int:
        """Tell of what was committed and never told of; returns how many rows that were."""
        now = asyncio.get_running_loop().time()
        lease = await self._shards.primary(self._floors.shard, now + OVERDUE_SECONDS)
        try:
            async with asyncio.timeout(4 * OVERDUE_SECONDS), lease.connection.transaction():
                found = await lease.connection.fetch(OVERDUE, OVERDUE_SECONDS)
                if found:
                    await self._tell_again(lease, found)
        except BaseException:
            lease.discard()
            raise
        await lease.release()
        counters.add("cache.invalidations_redelivered", len(found))
        return len(found)

    async def prune(self, now: float) -> None:
        """Delete old rows, if it is time; `now` is the loop's."""
        if self._prune_at == math.inf:
            self._prune_at = now + PRUNE_SECONDS * random.random()  # noqa: S311 - spreads work, guards nothing
        if now < self._prune_at:
            return
        self._prune_at = now + PRUNE_SECONDS * (0.5 + random.random())  # noqa: S311
        oldest = tokens.oldest_of(max(0.0, time.time() - KEEP_SECONDS))
        await outgoing.write(self._shards, self._floors.shard, PRUNE, oldest, KEEP_ROWS, KEEP_SECONDS)

    async def stop(self) -> None:
        """Tell and mark what is left, for a moment; what is not, another process tells again."""
        await self._telling.stop()
        await self._marking.stop()

    async def _tell(self, batch: "list[_Told]") -> None:
        if self.channel is not None:
            await self.channel.tell([told.floor for told in batch], OVERDUE_SECONDS)
        self._marking.add(*batch)

    async def _mark(self, batch: "list[_Told]") -> None:
        rows = [(row, told.floor[0]) for told in batch for row in told.rows]
        ids, timelines, lsns = zip(*((row, at.timeline, at.lsn) for row, at in rows), strict=True)
        try:
            await outgoing.write(self._shards, self._floors.shard, MARK, ids, timelines, lsns)
        except (errors.TenfoldError, *connect.ANSWERS) as error:
            log.debug("%d invalidations will be delivered again: %s", len(rows), error)

    async def _tell_again(self, lease: primary.Lease, found: list[Any]) -> None:
        """What is visible here is committed, so a position that is read now is a floor for it."""
        at = lease.position(await lease.connection.fetchval("select (pg_current_wal_flush_lsn() - '0/0')::bigint"))
        slots = sorted({slot for row in found for slot in row["slots"]})
        self._floors.raise_to(at, slots)
        if self.channel is not None:
            await self.channel.tell([(at, slots)], OVERDUE_SECONDS)
        ids = [row["id"] for row in found]
        await lease.connection.execute(MARK, ids, [at.timeline] * len(ids), [at.lsn] * len(ids))


@dataclass(frozen=True, slots=True)
class _Told:
    """The rows of one transaction, and what they say."""

    rows: list[UUID]
    floor: channel.Floor


class _Committed:
    """What one transaction has made stale, told once it is committed."""

    def __init__(self, delivery: Delivery) -> None:
        self.rows: list[tuple[UUID, list[int]]] = []
        self._delivery = delivery

    async def __call__(self, at: position.Position | None) -> None:
        await self._delivery.committed(self.rows, at)


def slots_of(tags: Sequence[str], keys: Sequence[str]) -> list[int]:
    """The slots of these tags and keys. Raises `MisuseError` for what is neither a list nor a tuple of texts."""
    for name, texts in (("tags", tags), ("keys", keys)):
        if isinstance(texts, str) or not all(isinstance(one, str) for one in texts):
            raise errors.MisuseError(f'invalidate: {name}={texts!r} found, texts in a list expected: {name}=["..."]')
    return sorted({*map(table.slot_of_tag, tags), *map(table.slot_of_key, keys)})
