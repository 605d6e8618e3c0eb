"""How far a node has come, known before it is read: the stamp of what is then read from it.

Called by `sdk/cache`. It never makes up a stamp: what no node has said is None.
"""

import asyncio
import logging
from typing import Any

from tenfold import errors, position, request
from tenfold.sdk.db import connect, nodes, pool, primary, prober, reads

log = logging.getLogger("tenfold.db")

ASK_SECONDS = 0.25
"""How long a node is waited for that is asked for its position: its last sighting is a stamp too, an older one."""

NUDGE = "select pg_logical_emit_message(false, 'tenfold', '', true)"
"""A record of no meaning, flushed: the log has then come further than it was, and so will the replicas."""

NUDGE_SECONDS = 0.05
"""Between two such records of one process, at least."""


class Stamps:
    """The stamps of one shard's nodes."""

    def __init__(self, shards: primary.Shards, number: int) -> None:
        self._shards = shards
        self._number = number
        self._reads = reads.Reads(shards, number, None)
        self._asking: dict[nodes.Node, asyncio.Task[position.Position | None]] = {}
        self._nudging: asyncio.Task[None] | None = None
        self._nudged_at = float("-inf")

    async def stamp(self, serving: request.Request, until: float, above: int) -> position.Position | None:
        """Pin the request to a node that has all it has `seen`, and say how far that node has come.

        Every later read of the request sees at least as much. The node's last sighting will do if that is above the
        LSN `above`, else it is asked; a stamp that is not above it is better than none. None when no node says so.
        """
        wanted = serving.seen.get(self._number)
        with request.serving(serving):
            try:
                node = await self._reads.pin(serving, until)
            except errors.TenfoldError:
                return None
        found = node.position()
        if found is None or found.lsn <= above or (wanted is not None and found.lsn <= wanted.lsn):
            found = await self._asked(node, until) or found
        if found is None:
            return None
        if wanted is not None and found.lsn <= wanted.lsn:
            self.nudge()
        serving.saw(found)
        serving.is_known = serving.is_stamped = True
        return found

    def nudge(self) -> None:
        """Let the log grow a little, soon: on a database where nothing happens nobody can get past a position."""
        if self._nudging is None or self._nudging.done():
            self._nudging = asyncio.get_running_loop().create_task(self._nudge(), name="tenfold-db-nudge")

    async def stop(self) -> None:
        """End what is under way."""
        found = [*self._asking.values(), *([self._nudging] if self._nudging else [])]
        self._nudging = None
        tasks = [task for task in found if not task.done()]  # one that is done may be of a loop that is gone
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _asked(self, node: nodes.Node, until: float) -> position.Position | None:
        """The node's own answer, one question for all who wait for it: it is read from only after that."""
        task = self._asking.get(node)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask(node), name=f"tenfold-db-stamp-{node.name}")
            self._asking[node] = task
            task.add_done_callback(lambda _: self._asking.pop(node, None))
        seconds = min(ASK_SECONDS, until - asyncio.get_running_loop().time())
        await asyncio.wait([task], timeout=max(0.0, seconds))
        return task.result() if task.done() and not task.cancelled() else None

    async def _ask(self, node: nodes.Node) -> position.Position | None:
        shard = self._shards.shard(self._number)
        try:
            connection = await node.pool.acquire(asyncio.get_running_loop().time() + prober.ANSWER_SECONDS)
        except (errors.TenfoldError, connect.UnreachableError, pool.LostError):
            return None
        try:
            sighting = await prober.ask(connection, shard)
        except connect.ANSWERS:
            node.pool.discard(connection)
            return None
        except BaseException:
            node.pool.discard(connection)
            raise
        node.pool.give(connection)
        shard.saw(node, sighting)
        return position.Position(self._number, *sighting.branch, sighting.lsn) if sighting.timeline else None

    async def _nudge(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._nudged_at + NUDGE_SECONDS - loop.time()))
        try:
            lease = await self._shards.primary(self._number, loop.time() + 1.0)
        except errors.TenfoldError:
            return
        try:
            await nudge(lease.connection)
        except BaseException:
            lease.discard()
            raise
        self._nudged_at = loop.time()
        await lease.release()


async def nudge(connection: Any) -> None:
    """`Stamps.nudge`, at once, on this connection to a primary; a server that refuses stays where it is."""
    try:
        await connection.execute(NUDGE, timeout=prober.ANSWER_SECONDS)
    except connect.ANSWERS as error:
        log.debug("the log could not be moved on: %s", error)
