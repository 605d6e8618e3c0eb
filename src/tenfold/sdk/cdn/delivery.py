"""`tx.purge`: recorded with the transaction, told to every edge once it is committed, and again until it has settled.

Made by `cdn`. The row alone decides: what was rolled back has none. What an edge had asked for before a purge and gets
after it, it does not keep; but what it asks for just after a purge may still be older than the commit, so it is told
three times:

    at once             what it kept before
    after the replicas  once every replica that may be read has passed the commit's position: what it fetched since from
                        a web server that read from a slower one. Edges of this region hear of it when its own replicas
                        have, however far the others are
    at the end          `SETTLE_SECONDS` after that: what was made of values that a process had cached, whose floors
                        are read every second at the latest

Then the row is settled. A row that is nobody's for too long (`taken_until`) begins anew in any process: its own has
died, or an edge did not acknowledge.
"""

import asyncio
import contextlib
import dataclasses
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from tenfold import errors, position, request
from tenfold.sdk import counters
from tenfold.sdk.cdn import edges, purges, settling, visits
from tenfold.sdk.db import connect, nodes, outgoing, primary, routing, tokens, transaction

log = logging.getLogger("tenfold.cdn")

TELL_SECONDS = 0.05
"""How long a commit waits for the edges of its own region to acknowledge. Those of others are told at the same moment,
and nobody waits: to them it may be far."""

SETTLE_SECONDS = 1.25
"""From the second purge to the last: a process's cached values follow within a second."""

PASS_SECONDS = routing.MOST_LAG_SECONDS + 1.0
"""How long replicas are waited for: who is further behind is not read from."""

TAKE_SECONDS = 5.0
"""How long a process that is at a row is left alone. When it is at it for longer, two are: that does no harm."""

AGAIN_SECONDS = 1.0
"""After an edge has not acknowledged, when it is told again."""

LOOK_SECONDS = 1.0
"""How often a process looks for rows that are nobody's, about."""

MOST_OWED = 256
"""With more rows than this unsettled, edges that are owed them are told to forget everything instead."""

MOST_TAKEN = 100_000
"""Rows that one look takes at most."""

KEEP_SECONDS = 600.0
"""How long a settled row is kept: no request takes so long."""

RECORD = f"""
insert into tenfold.purge (id, tags, urls, is_everything, is_soft) values ($1, $2, $3, $4, $5)
returning {outgoing.FLUSHED}
"""

TAKE = """
update tenfold.purge set taken_until = clock_timestamp() + $1 * interval '1 second'
 where id in (select id from tenfold.purge where settled_at is null and taken_until < clock_timestamp()
               order by taken_until limit $2 for update skip locked)
returning id, tags, urls, is_everything, is_soft, owed, (pg_current_wal_flush_lsn() - '0/0')::bigint as lsn
"""

HOLD = """
update tenfold.purge set taken_until = clock_timestamp() + $2 * interval '1 second'
 where id = any($1) and settled_at is null
"""

SETTLE = """
update tenfold.purge
   set owed = $2::text[], settled_at = case when cardinality($2::text[]) = 0 then clock_timestamp() end,
       taken_until = clock_timestamp() + $3 * interval '1 second'
 where id = any($1) and settled_at is null
"""

PRUNE = """
delete from tenfold.purge where id in (
    select id from tenfold.purge where settled_at < clock_timestamp() - $1 * interval '1 second'
     order by settled_at limit 10000 for update skip locked)
"""
PRUNE_SECONDS = 60.0

TROUBLE = (errors.TenfoldError, *connect.ANSWERS)


@dataclass(frozen=True, slots=True)
class Committed:
    """Purges of one transaction, or rows of others: what, up to which position, since when."""

    rows: tuple[UUID, ...]
    wanted: tuple[purges.Purge, ...]
    at: position.Position
    since: float
    """`loop.time()` of the commit, then of the second purge."""


class Delivery:
    """Records purges in transactions of one shard, and sees those that were committed through to their end."""

    def __init__(self, shards: primary.Shards, told: edges.Edges, settled: settling.Settled, shard: int = 0) -> None:
        self._shards = shards
        self._edges = told
        self._settled = settled
        self._shard = shard
        self._passing = outgoing.Behind("cdn-pass", self._pass)
        self._crossing = outgoing.Behind("cdn-cross", self._cross)
        self._ending = outgoing.Behind("cdn-end", self._end)
        self.watcher: Callable[[purges.Purge], None] | None = None
        """For tests: told of each purge whose transaction was committed."""
        self._mine: set[UUID] = set()
        """What this process sees to now."""
        self._looking: asyncio.Task[None] | None = None
        self._prune_at = 0.0

    async def purge(
        self, tx: transaction.Transaction, *, tags: Sequence[str], urls: Sequence[str], everything: bool, soft: bool
    ) -> None:
        """`tx.purge`: one row, one round trip, the rest after the commit; without edges nothing at all."""
        wanted = purges.purge(tags, urls, everything=everything, soft=soft)
        if tx.token is None:
            raise errors.MisuseError("tx.purge: a read-only transaction found, one that may write expected")
        if wanted and self.watcher is not None:
            tx.after_commit(_Watched(self.watcher, wanted))
        if not wanted or not self._edges:
            return
        row = tokens.fresh().id
        await tx.execute(RECORD, row, wanted.tags, wanted.urls, wanted.everything, wanted.is_soft)
        gathered = tx.awaiting_commit(_Gathered)
        if gathered is None:
            gathered = _Gathered(self)
            tx.after_commit(gathered)
        gathered.rows.append((row, wanted))

    @property
    def is_wanted(self) -> bool:
        """Whether anybody has to be told: without edges nothing is recorded."""
        return bool(self._edges) or self.watcher is not None

    async def committed(self, rows: list[tuple[UUID, purges.Purge]], at: position.Position | None) -> None:
        """The transaction of these rows is committed: told to every edge, and not settled yet."""
        ids, wanted = zip(*rows, strict=True)
        counters.add("cdn.purges", len(rows))
        _note(ids)
        since = asyncio.get_running_loop().time()
        told = self._edges.send(wanted, only=self._edges.names - self._edges.troubles.keys())
        near = {name: done for name, done in told.items() if name in self._edges.near}
        if await edges.missing(near, TELL_SECONDS):
            counters.add("cdn.purges_late")
        if at is not None:  # else the connection died right behind the commit: whoever finds the row sees to it
            self._see_to(Committed(ids, wanted, at, since))

    def start(self) -> None:
        """Look after rows that are nobody's from now on."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look_again(), name="tenfold-cdn-redeliver")
            self._looking.add_done_callback(_report)

    async def stop(self) -> None:
        """End everything; what is not settled another process begins anew, at once. Twice is once."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        await self._passing.stop(0.0)
        await self._crossing.stop(0.0)
        await self._ending.stop(0.0)
        mine, self._mine = self._mine, set()
        if mine:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(outgoing.PARTING_SECONDS):
                    await self._try(HOLD, list(mine), 0.0)

    async def redeliver(self) -> int:
        """Begin anew what is nobody's; returns how many rows that were."""
        rows = await outgoing.write(self._shards, self._shard, TAKE, TAKE_SECONDS, MOST_OWED + 1)
        if not rows:
            return 0
        since = asyncio.get_running_loop().time()
        counters.add("cdn.purges_redelivered", len(rows))
        if len(rows) > MOST_OWED:
            rows += await outgoing.write(self._shards, self._shard, TAKE, TAKE_SECONDS, MOST_TAKEN)
        await self._begin_anew([row for row in rows if row["owed"] is None], since)
        old = [row for row in rows if row["owed"] is not None]
        for owed in {tuple(row["owed"]) for row in old}:
            alike = [row for row in old if tuple(row["owed"]) == owed]
            await self._settle([row["id"] for row in alike], _briefly(alike), owed)
        return len(rows)

    async def _begin_anew(self, rows: list[Any], since: float) -> None:
        """Rows that nobody has followed to their end: all of it, from the first purge on."""
        primary_now = self._shards.shard(self._shard).primary
        known = primary_now.position() if primary_now is not None else None
        if rows and known is not None:
            wanted = _briefly(rows)
            await self._edges.tell(wanted)
            at = dataclasses.replace(known, lsn=max(row["lsn"] for row in rows))
            self._see_to(Committed(tuple(row["id"] for row in rows), wanted, at, since))

    def _see_to(self, one: Committed) -> None:
        self._mine.update(one.rows)
        self._passing.add(one)

    async def _pass(self, batch: list[Committed]) -> None:
        """The second purge of this region's edges, once its replicas have passed all of it."""
        ids = [row for one in batch for row in one.rows]
        await self._try(HOLD, ids, TAKE_SECONDS)
        await self._passed(batch, self._is_near)
        await self._edges.tell(_wanted(batch), only=self._edges.near)
        self._crossing.add(*batch)

    async def _cross(self, batch: list[Committed]) -> None:
        """The same for those of other regions: their replicas may be far, or cut off."""
        await self._passed(batch, lambda _: True)
        if far := self._edges.names - self._edges.near:
            await self._edges.tell(_wanted(batch), only=far)
        now = asyncio.get_running_loop().time()
        self._ending.add(*(dataclasses.replace(one, since=now) for one in batch))

    async def _end(self, batch: list[Committed]) -> None:
        """The last purge of what has come together, when all of it is old enough."""
        until = max(one.since for one in batch) + SETTLE_SECONDS
        await asyncio.sleep(until - asyncio.get_running_loop().time())
        await self._settle([row for one in batch for row in one.rows], _wanted(batch), self._edges.names)

    async def _settle(
        self, ids: list[UUID], wanted: Sequence[purges.Purge], owing: Sequence[str] | frozenset[str]
    ) -> None:
        """Tell those who are owed these rows; settled is what all of them have acknowledged."""
        missing = sorted(await self._edges.tell(wanted, only=owing))
        if await self._try(SETTLE, ids, missing, AGAIN_SECONDS) and not missing:
            self._settled.add(ids)
        self._mine.difference_update(ids)

    async def _passed(self, batch: list[Committed], is_meant: Callable[[nodes.Node], bool]) -> None:
        """Wait until every one of these nodes that may be read shows all that was committed, for a while."""
        until = max(one.since for one in batch) + PASS_SECONDS
        for one in batch:
            shard = self._shards.shard(one.at.shard)
            while not all(_has_passed(shard, node, one.at) for node in shard.nodes.values() if is_meant(node)):
                if not await shard.freshness.wait(until):
                    return

    def _is_near(self, node: nodes.Node) -> bool:
        """Whether web servers of this region read from it: from any one where there is none of its own."""
        shard = self._shards.shard(self._shard)
        has_own = any(one.where.region == shard.region for one in shard.nodes.values())
        return node.where.region == shard.region or not has_own

    async def _try(self, statement: str, *args: Any) -> bool:
        try:
            await outgoing.write(self._shards, self._shard, statement, *args)
        except TROUBLE as error:
            log.log(_level(error), "purges will be delivered again: %s", error)
            return False
        return True

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS * (0.5 + random.random()))  # noqa: S311 - spreads work, guards nothing
            if not self._edges:
                continue
            try:
                await self.redeliver()
                await self._prune(asyncio.get_running_loop().time())
            except TROUBLE as error:
                log.log(_level(error), "purges that nobody has settled were not looked after: %s", error)

    async def _prune(self, now: float) -> None:
        if now >= self._prune_at:
            self._prune_at = now + PRUNE_SECONDS * (0.5 + random.random())  # noqa: S311
            await outgoing.write(self._shards, self._shard, PRUNE, KEEP_SECONDS)


@dataclass(frozen=True, slots=True)
class _Watched:
    """A purge that a test wants to hear of."""

    watcher: Callable[[purges.Purge], None]
    wanted: purges.Purge

    async def __call__(self, _: position.Position | None) -> None:
        self.watcher(self.wanted)


class _Gathered:
    """What one transaction purges, told once it is committed."""

    def __init__(self, delivery: Delivery) -> None:
        self.rows: list[tuple[UUID, purges.Purge]] = []
        self._delivery = delivery

    async def __call__(self, at: position.Position | None) -> None:
        await self._delivery.committed(self.rows, at)


def _note(ids: Sequence[UUID]) -> None:
    """The session of this request bypasses the edges until these are settled."""
    serving = request.current()
    if serving is not None and not serving.has_responded:
        visits.of(serving).purged += ids


def _wanted(batch: Sequence[Committed]) -> tuple[purges.Purge, ...]:
    return tuple(purge for one in batch for purge in one.wanted)


def _has_passed(shard: nodes.Shard, node: nodes.Node, at: position.Position) -> bool:
    return node is shard.primary or shard.proves(node, at)


def _briefly(rows: Sequence[Any]) -> tuple[purges.Purge, ...]:
    """What these rows purge; too many of them purge everything."""
    if len(rows) > MOST_OWED:
        counters.add("cdn.purges_of_everything_instead")
        return (purges.EVERYTHING,)
    return tuple(
        purges.Purge(tuple(row["tags"]), tuple(row["urls"]), row["is_everything"], row["is_soft"]) for row in rows
    )


def _level(error: Exception) -> int:
    """A database that is away comes back; one that refuses the statement wants a person."""
    return logging.WARNING if isinstance(error, asyncpg.SyntaxOrAccessError) else logging.DEBUG


def _report(task: "asyncio.Task[None]") -> None:
    """A look that ends by itself is a flaw of ours: say so, loudly, with its traceback."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical(
            "%s ended: purges of processes that died are not delivered from here", task.get_name(), exc_info=error
        )
