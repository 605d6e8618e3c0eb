"""Commits that count only when a copy in another region has them: `[database] synchronous = "regions"`.

Owned by `primary.Shards`, one `Witness` for a shard whose bindings ask for it; `transaction` asks it before and after a
COMMIT, `settle` before it calls anything committed. PostgreSQL itself commits at home, and others see the row then:
what waits here is the acknowledgement. The primary knows how far each standby that streams from it has flushed; it is
asked one question at a time, however many commits wait. Never decides who is primary, nor what was committed.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tenfold import errors, position, request
from tenfold.sdk.db import connect, nodes, signal

FIRST_PAUSE_SECONDS = 0.001
"""Between two questions while a commit waits: a copy nearby has it within a millisecond or two."""

MOST_PAUSE_SECONDS = 0.02

SHARE = 20
"""A pause is this part of how long nothing has come: what comes from far away is found a twentieth of that too late."""

IDLE_SECONDS = 1.0
"""Between two questions while no commit waits: a region that has gone is known before the next one."""

ANSWER_SECONDS = 1.0

PATIENCE_SECONDS = 5.0
"""For so long a region may be away, or not move, before writes are refused: a failover at home is over by then."""

QUESTION = """
select pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::int8 as flushed,
       (select pg_wal_lsn_diff(max(flush_lsn), '0/0')::int8 from pg_stat_replication
         where application_name = any($1) and state = 'streaming') as held
"""
"""How far the primary is, and the one of these standbys that has most of it; null: none of them streams."""


NOT_HELD = (
    "database: committed at {at}, and no other region was known to have it before the deadline: it stands as long as "
    "the home is not lost; {look}"
)


class Held(Enum):
    """What became of the wait for another region."""

    YES = "yes"
    MOVED = "moved"
    """Another primary took over meanwhile, or other regions count: by its token it must be settled anew."""
    NOT_IN_TIME = "not in time"


@dataclass(slots=True)
class Progress:
    """What the other regions' copies have, look by look. Pure; times are handed in."""

    good_at: float
    """When they last had more than before, or all that there was."""
    held: int = -1
    """How far the first of them has flushed; -1: none streams."""
    is_hopeless: bool = False
    """Whether none has come any further for `PATIENCE_SECONDS`, although there was more to come."""

    def saw(self, now: float, flushed: int, held: int | None) -> None:
        """The answer to one question."""
        has_moved = held is not None and (held > self.held or held >= flushed)
        self.held = -1 if held is None else held
        if has_moved:
            self.good_at = now
        self.is_hopeless = now - self.good_at > PATIENCE_SECONDS

    @property
    def can_follow(self) -> bool:
        """Whether a commit that is made now may soon be elsewhere, too."""
        return self.held >= 0 and not self.is_hopeless


@dataclass(slots=True)
class Waiting:
    """A commit that waits."""

    at: position.Position
    done: asyncio.Future[Held]


class Witness:
    """Watches one shard's primary from `run` until that is cancelled, and then lets go whoever still waits."""

    def __init__(self, shard: nodes.Shard, connector: connect.Connector, regions: Iterable[str]) -> None:
        self.regions = frozenset(regions)
        """The regions that count. Another one than the primary's must have a commit."""
        self.is_dismissed = False
        """Whether the bindings ask for other regions by now, or for none. Else it ends because the process does."""
        self._shard = shard
        self._connector = connector
        self._connection: Any = None
        self._node: nodes.Node | None = None
        self._branch = (0, 0)
        self._progress = Progress(float("-inf"))
        self._heap: list[tuple[int, int, Waiting]] = []
        self._numbers = itertools.count()
        self._began_at = 0.0
        """When the first of those that wait began to."""
        self._news = signal.Signal()
        self._poked = asyncio.Event()

    async def run(self) -> None:
        """Ask, pause, until cancelled. Who waits then is told nothing that is not proven."""
        try:
            while True:
                await self.look()
                await self._pause()
        finally:
            self._disconnect()
            self._release(lambda _: Held.MOVED if self.is_dismissed else Held.NOT_IN_TIME)
            self._news.fire()

    async def ensure_followed(self, until: float) -> None:
        """Before a transaction begins: another region follows, or is waited for.

        Raises `NoOtherRegion` when it is known that none does. Without a primary there is nothing to say.
        """
        while self._shard.primary is not None and not self._progress.can_follow and not self.is_dismissed:
            await asyncio.sleep(0)  # who tries again at once must not keep the next question from being asked
            self.ensure_hope()
            if not await self._wait_for_news(until):
                raise errors.NoOtherRegion(f"database: {self._missing()} before the deadline; nothing was done")

    def ensure_hope(self) -> None:
        """Raises `NoOtherRegion` when a COMMIT would wait in vain."""
        if self._progress.is_hopeless:
            raise errors.NoOtherRegion(
                f'database: {self._missing()}, and synchronous = "regions" asks for it; nothing was written; '
                "to let writes go on without, set synchronous to true in tenfold.toml, and: tenfold apply",
            )

    async def until_held(self, at: position.Position, until: float) -> Held:
        """Whether another region has what was committed up to `at`: returns as soon as it does, or at `until`."""
        if self._is_held(at) or self.is_dismissed:
            return Held.YES if self._is_held(at) else Held.MOVED
        loop = asyncio.get_running_loop()
        one = Waiting(at, loop.create_future())
        if not self._heap:
            self._began_at = loop.time()
        heapq.heappush(self._heap, (at.lsn, next(self._numbers), one))
        timer = loop.call_at(until, _finish, one, Held.NOT_IN_TIME)
        self._poked.set()
        try:
            return await one.done
        finally:
            timer.cancel()

    async def look(self) -> None:
        """One question, and all that follows from its answer; nothing when the primary does not answer."""
        node = self._shard.primary
        seen = node.sighting if node is not None else None
        if node is None or seen is None:
            self._disconnect()
            return
        names = [one.name for one in self._shard.nodes.values() if self._counts(one, node)]
        try:
            connection = await self._connected(node)
            row = await connection.fetchrow(QUESTION, names, timeout=ANSWER_SECONDS)
        except (*connect.ANSWERS, connect.UnreachableError):
            self._disconnect()
            return
        if self._shard.primary is node and node.sighting is not None and node.sighting.branch == seen.branch:
            self.saw(seen.branch, row["flushed"], row["held"])

    def saw(self, branch: tuple[int, int], flushed: int, held: int | None) -> None:
        """An answer of the primary of this epoch and timeline."""
        now = asyncio.get_running_loop().time()
        if branch != self._branch:
            self._branch, self._progress = branch, Progress(good_at=now)
            self._release(self._judge)
        self._progress.saw(now, flushed, held)
        self._release(self._judge, self._progress.held)
        self._news.fire()

    def _counts(self, node: nodes.Node, primary: nodes.Node) -> bool:
        return node.where.region in self.regions and node.where.region != primary.where.region

    def _is_held(self, at: position.Position) -> bool:
        return (at.epoch, at.timeline) == self._branch and at.lsn <= self._progress.held

    def _judge(self, one: Waiting) -> Held | None:
        if (one.at.epoch, one.at.timeline) < self._branch:
            return Held.MOVED
        return Held.YES if self._is_held(one.at) else None

    def _release(self, judge: Callable[[Waiting], Held | None], up_to: float = float("inf")) -> None:
        """Let go everyone up to this LSN of whom `judge` knows what became of him; the others keep their place."""
        kept: list[tuple[int, int, Waiting]] = []
        while self._heap and self._heap[0][0] <= up_to:
            entry = heapq.heappop(self._heap)
            one = entry[-1]
            answer = judge(one)
            if answer is not None:
                _finish(one, answer)
            elif not one.done.done():
                kept.append(entry)
        for entry in kept:
            heapq.heappush(self._heap, entry)

    async def _wait_for_news(self, until: float) -> bool:
        """True after the next answer. Meanwhile the request waits and does not count as load."""
        serving = request.current()
        self._poked.set()
        if serving is not None:
            serving.is_waiting = True
        try:
            return await self._news.wait(until)
        finally:
            if serving is not None:
                serving.is_waiting = False

    async def _connected(self, node: nodes.Node) -> Any:
        if self._node is not node or self._connection is None or self._connection.is_closed():
            self._disconnect()
            self._connection = await self._connector.open(node.where, connect.CONNECT_SECONDS)
            self._node = node
        return self._connection

    async def _pause(self) -> None:
        if self._heap or self._news.waiting:
            since = asyncio.get_running_loop().time() - max(self._began_at, self._progress.good_at)
            await asyncio.sleep(min(MOST_PAUSE_SECONDS, max(FIRST_PAUSE_SECONDS, since / SHARE)))
            return
        self._poked.clear()
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                await self._poked.wait()
        except TimeoutError:
            return

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
        self._connection = self._node = None

    def _missing(self) -> str:
        primary = self._shard.primary
        home = primary.where.region if primary is not None else ""
        others = " or ".join(sorted(self.regions - {home}))
        return f"{others} does not follow {home or 'the home'}"


def _finish(one: Waiting, answer: Held) -> None:
    if not one.done.done():
        one.done.set_result(answer)
