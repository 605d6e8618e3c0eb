"""Catching up: the floors that this process was not told of, read from the database.

Called by `floors` when a session has come further than the table, when trust is lost, and by the channels every second:
whatever a channel loses is known after that. Rounds of reading are coalesced: one runs, at most one waits for its end.

What a round must read follows from positions alone. A node that had come to N before the read began shows every row
whose floor is below N; so what it did not show has a floor of N or more, or none yet. Transaction ids would not do: a
replica does not say which are under way, and a new primary uses lost ones again.
"""

import asyncio
import logging
from typing import Any, Protocol

import asyncpg

from tenfold import errors, position, request
from tenfold.sdk import counters
from tenfold.sdk.cache import table
from tenfold.sdk.db import connect, deadline, nodes, primary, prober, reads, stamps

log = logging.getLogger("tenfold.cache")

ROUND_SECONDS = 2.0
"""One round takes no longer; then whoever waits loads what it wanted from the cache."""

OVERDUE_SECONDS = 1.0
"""A row without a floor after so long was left by a process that died, or that lost its primary."""

READ = """
select slot, floor_timeline, (max(floor_lsn) - '0/0')::bigint, floor_lsn is null,
       coalesce(bool_or(floor_lsn is null and created_at < now() - $2 * interval '1 second'), false)
  from tenfold.invalidation, unnest(slots) as slot
 where floor_lsn >= '0/0'::pg_lsn + $1::bigint::numeric or floor_lsn is null
 group by slot, floor_timeline, floor_lsn is null
union all
select -1, floor_timeline, (floor_lsn - '0/0')::bigint, false, false
  from tenfold.invalidation where id = '00000000-0000-0000-0000-000000000000'
"""
"""One row a slot and timeline. The last one says how high the floors of deleted rows were."""


class Owner(Protocol):
    """Who is told of what was read."""

    def begins(self) -> object:
        """A reading begins: what is returned is given back at its end."""

    def caught_up(self, mark: object, *, is_primary: bool) -> None:
        """It has read everything, from the primary or from a replica."""

    def overdue(self) -> None:
        """It has met invalidations that nobody delivers."""


class Following:
    """Keeps one process's table up to date with one shard."""

    def __init__(self, shards: primary.Shards, floors: table.Table, owner: Owner) -> None:
        self._shards = shards
        self._floors = floors
        self._running: _Round | None = None
        self._next: _Round | None = None
        self._owner = owner
        self.rounds = 0
        self._has_told = False

    async def reach(self, wanted: position.Position | None, until: float, *, is_primary: bool = False) -> bool:
        """One round that begins after this call, on a node that has come to `wanted`. False when it fails."""
        if self._running is None:
            self._running = found = self._begin(_Round(is_primary))
        elif not self._running.has_begun:
            found = self._running
        else:
            found = self._next = self._next or _Round(is_primary)
        found.want(wanted, is_primary=is_primary)
        return await found.over(until)

    async def read(self, connection: Any, wanted: position.Position | None = None, *, is_primary: bool = False) -> bool:
        """Read what is new on this connection. True: the table is complete up to there, and to what was wanted.

        False as well when a primary was wanted, and it is none or one of the past.

        The position comes first, in a statement of its own: read in the same one, it would be later than the rows.
        """
        shard = self._shards.shard(self._floors.shard)
        mark = self._owner.begins()
        sighting = await prober.ask(connection, shard)
        if sighting.is_primary and sighting.accepts_writes and _is_level(sighting, wanted):
            await stamps.nudge(connection)
            sighting = await prober.ask(connection, shard)
        if not sighting.timeline:
            return False
        self._floors.history = shard.history
        at = position.Position(shard.number, *sighting.branch, sighting.lsn)
        self._floors.enter(*sighting.branch)
        since = self._floors.since
        try:
            rows = await connection.fetch(READ, since or 0, OVERDUE_SECONDS, timeout=ROUND_SECONDS)
        except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError) as error:
            self._tell_unmigrated(error)
            raise
        is_replica = not sighting.is_primary
        is_complete = self._floors.learn(map(_row, rows), at, is_replica=is_replica, since=since)
        self.rounds += 1
        if any(row[4] for row in rows):
            self._owner.overdue()
        if is_complete:
            self._owner.caught_up(mark, is_primary=sighting.is_primary)
        if not is_complete or (is_primary and is_replica):
            return False
        return wanted is None or position.reached(at, wanted, shard.history)

    def _tell_unmigrated(self, error: Exception) -> None:
        """Without the table nothing is ever given from the cache: say so, once."""
        if not self._has_told:
            self._has_told = True
            log.warning("the cache cannot be used: %s; run `tenfold migrate`", error)

    async def stop(self) -> None:
        """End the rounds; whoever waits for one is told False."""
        for one in (self._next, self._running):
            if one is not None:
                await one.cancel()
        self._running = self._next = None

    def _begin(self, one: "_Round") -> "_Round":
        task = asyncio.get_running_loop().create_task(self._run(one), name="tenfold-cache-catch-up")
        one.task = task
        task.add_done_callback(self._go_on)
        return one

    def _go_on(self, _: "asyncio.Task[None]") -> None:
        """A round is over: the next one begins, if somebody waits for it."""
        self._running, self._next = self._next, None
        if self._running is not None:
            if self._shards.is_started:
                self._begin(self._running)
            else:
                self._running.end(is_done=False)
                self._running = None

    async def _run(self, one: "_Round") -> None:
        await asyncio.sleep(0)  # whoever asks in this very turn takes part
        one.has_begun = True
        is_done = False
        try:
            is_done = await self._on_a_node(one.wanted, is_primary=one.is_primary)
        except (errors.TenfoldError, *connect.ANSWERS) as error:
            counters.add("cache.catch_ups_failed")
            log.debug("the floors could not catch up: %s", error)
        finally:
            one.end(is_done=is_done)

    async def _on_a_node(self, wanted: position.Position | None, *, is_primary: bool) -> bool:
        """A round where a session at `wanted` would read; where everybody who has written would, if it must be."""
        number = self._floors.shard
        serving = request.Request(is_known=True)
        if wanted is not None:
            serving.saw(wanted)
        until = asyncio.get_running_loop().time() + ROUND_SECONDS
        is_primary = is_primary and self._shards.shard(number).primary is not None
        with request.serving(serving):
            way = reads.Reads(self._shards, number, None)
            limits = deadline.Limits(until, until)
            return await way.run(
                lambda connection: self.read(connection, wanted), limits, reads.Again(is_primary=is_primary)
            )


class _Round:
    """One reading, and who waits for it."""

    def __init__(self, is_primary: bool) -> None:
        self.is_primary = is_primary
        self.wanted: position.Position | None = None
        self.has_begun = False
        self.task: asyncio.Task[None] | None = None
        self._over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def want(self, wanted: position.Position | None, *, is_primary: bool) -> None:
        """It must come at least so far."""
        self.is_primary = self.is_primary or is_primary
        if wanted is not None:
            self.wanted = wanted if self.wanted is None else position.later(self.wanted, wanted)

    def end(self, *, is_done: bool) -> None:
        """Tell everyone who waits."""
        if not self._over.done():
            self._over.set_result(is_done)

    async def over(self, until: float) -> bool:
        """Whether it has come to its end, and to all that was wanted of it, before `until`."""
        seconds = until - asyncio.get_running_loop().time()
        done, _ = await asyncio.wait([self._over], timeout=max(0.0, seconds))
        return bool(done) and self._over.result()

    async def cancel(self) -> None:
        """End it now."""
        self.end(is_done=False)
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


def _row(found: Any) -> table.Row:
    return table.Row(found[0], found[1], None if found[3] else found[2])


def _is_level(sighting: nodes.Sighting, wanted: position.Position | None) -> bool:
    """The log stands where the session has left it: nobody could say of a floor at this very place what it covers."""
    return wanted is not None and (sighting.timeline, sighting.lsn) == (wanted.timeline, wanted.lsn)
