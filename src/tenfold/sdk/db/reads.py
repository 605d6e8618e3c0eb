"""Reads: which node answers, how long a read waits for a fresh copy, and what happens when a node dies under it.

Called by `access`. `ready` is the quick way, taken when a proven copy is at hand; `run` waits and tries again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg

from tenfold import errors, position, request
from tenfold.sdk.db import connect, deadline, decisions, levels, nodes, pool, primary, routing

Result = TypeVar("Result")
Work = Callable[["asyncpg.Connection[Any]"], Awaitable[Result]]

CATCH_UP_SECONDS = 0.025
"""How long a read waits for a copy to catch up before it asks the primary: catching up takes 2-8 ms as a rule."""

AWAY_SECONDS = 0.25
"""The same when the primary is in another region: what was written there is on its way here, and no slower than we."""

HOPELESS_SECONDS = 0.25
"""After such a wait was in vain, for how long the others do not wait but ask the primary at once."""

MOST_EXECUTIONS = 3
"""A statement that was on a connection while it died is given to so many in all: it might be what killed them."""


class WritesError(Exception):
    """A server that does not write refused this statement: it is not a read. Never leaves `sdk/db`."""


@dataclass(frozen=True, slots=True)
class Again:
    """A try of a read: how many went before it, and whether it must go to the primary."""

    executions: int = 0
    is_primary: bool = False


LAST = Again(MOST_EXECUTIONS - 1)
"""A read that may not be tried again."""


class Reads:
    """The reads of one shard at one level; None: the session's (or, of a client without one, `unknown_client`)."""

    __slots__ = ("_is_primary", "_level", "_number", "_shards", "is_primary_preferred")

    def __init__(self, shards: primary.Shards, number: int, level: levels.Level | None) -> None:
        self._shards = shards
        self._number = number
        self._level = level
        self._is_primary = level is not None and level.kind is levels.Kind.PRIMARY
        self.is_primary_preferred = level is None or self._is_primary
        """Whether a connection that is handed out is one to the primary."""

    def ready(self, serving: request.Request | None) -> nodes.Node | None:
        """A node that may answer this read now, or None when that takes a wait. Pins the request to it."""
        shard = self._shards.shard(self._number)
        shard.uses += 1
        level = self._level or self._usual(serving)
        if level.kind is levels.Kind.PRIMARY:
            return shard.primary
        if serving is None:
            return self._choice(shard, level, self._shards.outside.seen.get(self._number))
        wanted = serving.seen.get(self._number) if level.kind is levels.Kind.SESSION else None
        pinned = serving.pinned.get(self._number)
        if pinned is not None:
            return self._pinned(shard, serving, level, wanted)
        node = self._choice(shard, level, wanted)
        if node is not None:
            serving.pinned[self._number] = node.where.name
        return node

    async def pin(self, serving: request.Request, until: float) -> nodes.Node:
        """The node that this request's reads go to from now on; waits as a read does. Raises `NoPrimary`.

        Later reads that it cannot answer go to one that has come as far, or to the primary.
        """
        return self.ready(serving) or await self._node(serving, until, is_primary=False)

    async def run(self, work: "Work[Result]", limits: deadline.Limits, again: Again) -> Result:
        """What `work` returns, given a connection to a node that may answer.

        Waits for a fresh copy, for a connection, through a failover; tries again when a node dies under it. Raises
        `NoPrimary`, `Overloaded` or `DeadlineExceeded` when the limits are reached, `WritesError` when the statement
        turned out to write, and what `work` raises.
        """
        while True:
            node, connection = await self.borrow(limits.wait, is_primary=again.is_primary)
            node.pool.reading[connection] = limits.cut
            try:
                result = await work(connection)
            except BaseException as error:  # noqa: BLE001 - raised again unless the read may be tried again
                again = self.failed(node, connection, error, limits.cut, again)
                request.recording().note("retry", node.name, f"it gave up on the read ({type(error).__name__}): again")
            else:
                node.pool.done(connection)
                return result

    async def borrow(self, until: float, *, is_primary: bool = False) -> "tuple[nodes.Node, asyncpg.Connection[Any]]":
        """A connection to a node that may answer, and that node; waits for both."""
        serving = request.current()
        while True:
            node = await self._node(serving, until, is_primary=is_primary)
            try:
                return node, await node.pool.acquire(until)
            except pool.LostError:
                request.recording().note("retry", node.name, "it went away while the read waited: another node")
            except connect.UnreachableError as error:
                request.recording().note("retry", node.name, "no connection to it could be opened: another node")
                await primary.unreachable(self._shards.shard(self._number), node, error, until)

    def failed(
        self, node: nodes.Node, connection: "asyncpg.Connection[Any]", error: BaseException, cut: float, again: Again
    ) -> Again:
        """Clean up after a read that raised. Returns only if it is to be tried again, and how.

        Raises `WritesError` when the statement turned out to write, `DeadlineExceeded` when it was cut, else the
        error itself.
        """
        now = asyncio.get_running_loop().time()
        is_last = again.executions + 1 >= MOST_EXECUTIONS
        is_lost = connect.is_lost(connection, error)
        if not is_lost and isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):
            node.pool.done(connection)
            if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                raise WritesError from error
            if not is_conflict(node, error) or is_last:
                raise error
            return Again(again.executions + 1, is_primary=True)
        node.pool.discard(connection)
        if not is_lost:
            raise error
        if now >= cut:
            raise errors.DeadlineExceeded(f"database: {node.name} did not answer before the deadline") from error
        self._shards.shard(self._number).doubt(node, now)
        if is_last:
            raise error
        return Again(again.executions + 1, is_primary=again.is_primary)

    async def _node(self, serving: request.Request | None, until: float, *, is_primary: bool) -> nodes.Node:
        """A node that may answer; waits for one. A short wait for a copy first, then the primary, whoever it is."""
        shard = self._shards.shard(self._number)
        loop = asyncio.get_running_loop()
        story = _Story(shard, "" if serving is None else serving.pinned.get(self._number, ""), is_primary)
        node = None if is_primary else self.ready(serving)
        if node is None and not is_primary and self._may_catch_up(shard, serving, loop.time()):
            asked_at = loop.time()
            patience = AWAY_SECONDS if shard.is_away else CATCH_UP_SECONDS
            node = await self._caught_up(shard, serving, min(until, asked_at + patience))
            story.waited_seconds = loop.time() - asked_at
        if node is None:
            node = shard.primary or self.ready(serving) or await self._any(shard, serving, until)
        if serving is not None and not self._is_primary:
            serving.pinned[self._number] = node.where.name
        if serving is not None and serving.recorder is not None:
            request.recording().decide(self._why(serving, node, story), where=node.name)
        return node

    async def _any(self, shard: nodes.Shard, serving: request.Request | None, until: float) -> nodes.Node:
        """The first node that may answer, when there is none now."""
        with request.recording().span("wait", "node") as span:
            span.decide(f"no node may answer ({shard.troubles}): waited for one")
            while (node := shard.primary or self.ready(serving)) is None:
                if not await primary.news(shard, until):
                    raise errors.NoPrimary(
                        f"database: no node of shard {self._number} may answer this read ({shard.troubles})"
                    )
        return node

    def _may_catch_up(self, shard: nodes.Shard, serving: request.Request | None, now: float) -> bool:
        """Whether a short wait may help: a copy is there, and the last wait for one was not in vain."""
        if not shard.readable or now < shard.hopeless_until or self._is_primary:
            return False
        pinned = serving.pinned.get(self._number) if serving is not None else None
        return pinned is None or shard.nodes.get(pinned) in shard.readable

    async def _caught_up(self, shard: nodes.Shard, serving: request.Request | None, until: float) -> nodes.Node | None:
        """A copy that has caught up before `until`, or None."""
        shard.poke()
        while await shard.freshness.wait(until):
            node = self.ready(serving)
            if node is not None:
                return node
        is_any_welcome = serving is None or self._number not in serving.pinned
        is_bounded = self._level is not None and self._level.kind is levels.Kind.BOUNDED
        if is_any_welcome and not is_bounded:  # else it says nothing about the other copies and the other reads
            shard.hopeless_until = asyncio.get_running_loop().time() + HOPELESS_SECONDS
        return None

    def _why(self, serving: request.Request, node: nodes.Node, story: "_Story") -> str:
        """The choice in words, for the request's trace."""
        shard = story.shard
        level = self._level or self._usual(serving)
        wanted = serving.seen.get(self._number) if level.kind is levels.Kind.SESSION else None
        read = decisions.Read(
            level=level,
            is_named=self._level is not None,
            wanted=wanted,
            reflects=node.position(),
            is_primary=node is shard.primary,
            pinned=story.pinned,
            chosen=node.name,
            replicas=len(shard.readable),
            nodes=len(shard.nodes),
            waited_milliseconds=None if story.waited_seconds is None else story.waited_seconds * 1000,
            must_be_primary=story.must_be_primary,
        )
        return decisions.why(read)

    def _usual(self, serving: request.Request | None) -> levels.Level:
        return levels.SESSION if serving is None or serving.is_known else self._shards.unknown_level

    def _pinned(
        self, shard: nodes.Shard, serving: request.Request, level: levels.Level, wanted: position.Position | None
    ) -> nodes.Node | None:
        """The node that this request has read from before, if it still will do.

        If not, only the primary is surely no older than it was; without a primary, an eventual read takes what it
        gets, unless its value is stamped.
        """
        node = shard.nodes.get(serving.pinned[self._number])
        if node is not None and node.sighting is not None and self._suits(shard, node, level, wanted):
            return node
        if level.kind is levels.Kind.EVENTUAL and shard.primary is None:
            stamp = serving.seen.get(self._number) if serving.is_stamped else None
            return routing.lightest([one for one in shard.readable if stamp is None or shard.proves(one, stamp)])
        return None

    def _choice(self, shard: nodes.Shard, level: levels.Level, wanted: position.Position | None) -> nodes.Node | None:
        replicas = shard.readable
        if not replicas:
            return shard.primary
        if wanted is None and level.kind is not levels.Kind.BOUNDED:
            return routing.lightest(replicas)
        return routing.lightest([node for node in replicas if self._suits(shard, node, level, wanted)])

    def _suits(
        self, shard: nodes.Shard, node: nodes.Node, level: levels.Level, wanted: position.Position | None
    ) -> bool:
        """Whether it is proven that this node is fresh enough."""
        if node is shard.primary:
            return True
        if level.kind is levels.Kind.BOUNDED:
            return asyncio.get_running_loop().time() - node.reflects_at <= level.seconds
        return wanted is None or shard.proves(node, wanted)


@dataclass(slots=True)
class _Story:
    """What a choice was made from, kept for the words about it."""

    shard: nodes.Shard
    pinned: str
    must_be_primary: bool
    waited_seconds: float | None = None


def is_conflict(node: nodes.Node, error: BaseException) -> bool:
    """A replica cancelled the read because replay removed what it needed: the primary has it still."""
    is_replica = node.sighting is None or not node.sighting.is_primary
    return is_replica and isinstance(error, asyncpg.SerializationError)
