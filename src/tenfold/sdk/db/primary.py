"""Leases on the primary, and the owner of everything that watches and connects.

`Shards` belongs to `Database`. Every write takes a `Lease` here and only here; a failover is a longer wait for one.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import asyncpg

from tenfold import bindings, errors, position, request
from tenfold.kit import home
from tenfold.sdk.db import classify, connect, following, levels, nodes, outward, pool, prober, witness

log = logging.getLogger("tenfold.db")

FIRST_LOOK_SECONDS = 3.0
"""How long `start` waits for every node's first answer; a node that is down does not keep an app from starting."""


FULL_PAUSE_SECONDS = 0.05
"""Before the next try with a server that said `too many connections`."""


NOT_STARTED = (
    "tf.db is not started: write `app = tf.wrap(app)` at the end of your app's module (`tenfold up` does it itself), "
    "and use it in requests and in its lifespan, not at import; in a script or a test write `async with tf:`"
)

WRONG_LOOP = (
    "tf.db was used on another event loop, or in another thread, than the one that it was started on; `asyncio.run` "
    "makes a loop of its own. In `async def` write `await tf.db.fetch('select ...')`; in a sync endpoint of FastAPI or "
    "Starlette `anyio.from_thread.run(tf.db.fetch, 'select ...')`; in a sync view of Django "
    "`async_to_sync(tf.db.fetch)('select ...')`, of asgiref.sync; in Litestar make the handler async"
)


@dataclass(slots=True)
class Lease:
    """One connection to a node that was a writable primary at its last check.

    End it exactly once: `release`, `discard` or `demoted`.
    """

    connection: "asyncpg.Connection[Any]"
    shard: int
    epoch: int
    timeline: int
    node: str
    _owner: nodes.Shard
    _node: nodes.Node

    @property
    def holder(self) -> nodes.Node:
        """The node whose pool the connection is from."""
        return self._node

    def position(self, lsn: int) -> position.Position:
        """The position of a write that this connection committed, from the flush LSN read after the commit."""
        return position.Position(self.shard, self.epoch, self.timeline, lsn)

    async def release(self, *, reset: bool = False) -> None:
        """Put the connection back. `reset`: user code has touched it; one round trip, at most `RESET_SECONDS`.

        A connection that is closed, inside a transaction, or does not let itself be reset is closed instead.
        """
        await self._node.pool.put_back(self.connection, reset=reset)

    def discard(self) -> None:
        """Close the connection at once; it is never used again."""
        self._node.pool.discard(self.connection)

    def demoted(self) -> None:
        """SQLSTATE 25006 was seen here: forget this node as a primary until a new probe says otherwise; discards."""
        self.discard()
        self._owner.doubt(self._node, asyncio.get_running_loop().time())


class Shards:
    """All shards: their nodes, the probes that watch them, and the way to a primary."""

    def __init__(self, connector: connect.Connector) -> None:
        self.connector = connector
        self.classifier = classify.Classifier()
        self.unknown_level = levels.EVENTUAL
        """The level of reads by a client that brought no position."""
        self.by_number: dict[int, nodes.Shard] = {}
        self.takers = outward.Takers()
        """Who takes what leaves the database with a commit."""
        self.outside = request.Request()
        """What this process has written outside any request: its reads outside requests see it."""
        self._probers: dict[nodes.Node, tuple[prober.Prober, asyncio.Task[None]]] = {}
        self._witnesses: dict[int, tuple[witness.Witness, asyncio.Task[None]]] = {}
        """By shard, where commits count only when another region has them."""
        self.is_started = False
        self._home = home.Home()

    async def start(self, database: bindings.Database) -> None:
        """Watch every node. Returns when each has been asked once, or after `FIRST_LOOK_SECONDS`.

        A database that is down does not make it fail: reads and writes wait for it, up to their deadlines.
        """
        self.watch(database)
        await asyncio.to_thread(classify.load_parser)
        until = asyncio.get_running_loop().time() + FIRST_LOOK_SECONDS
        for shard in list(self.by_number.values()):
            while not all(one.has_looked for one, _ in self._probers.values()) and await shard.news.wait(until):
                pass

    def watch(self, database: bindings.Database) -> None:
        """`start`, without waiting for the first look."""
        self.is_started = True
        self.outside = request.Request()  # what was written before a stop, perhaps elsewhere, says nothing here
        self._home.settle()
        self.update(database)

    async def stop(self) -> None:
        """End the probes and close every connection at once. Safe to call twice."""
        self.is_started = False
        tasks = [task for _, task in (*self._probers.values(), *self._witnesses.values())]
        self._probers.clear()
        self._witnesses.clear()
        for task in tasks:
            task.cancel()
        for shard in self.by_number.values():
            for node in shard.nodes.values():
                node.pool.retire()
                node.pool.terminate()
        self.by_number.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    def update(self, database: bindings.Database) -> None:
        """Follow the bindings: new nodes join, nodes no longer named leave; requests in flight are not disturbed."""
        self.connector.database = database
        self.unknown_level = levels.parse(database.unknown_client)
        wanted = {shard.number: shard for shard in database.shards}
        for number, shard in self.by_number.items():
            self._keep_only(shard, wanted[number].nodes if number in wanted else ())
        for bound in database.shards:
            shard = self.by_number.get(bound.number) or self._add_shard(bound)
            shard.enter(bound.epoch)
            self._join(shard, bound.nodes, database.pool_size)
            self._ask_for_witness(shard, database.witnesses)

    async def primary(self, shard: int, deadline: float) -> Lease:
        """A connection to this shard's writable primary. Waits for both, through a failover too.

        Raises `NoPrimary` when no writable primary appeared before `deadline` (`loop.time()`), `Overloaded` when the
        primary is there and its queue is full or no connection became free in time. Who waits because there is no
        primary is never shed.
        """
        group = self.shard(shard)
        group.uses += 1
        may_shed = True
        while True:
            node = group.writable
            if node is None:
                may_shed = False
                await self._news(group, deadline)
                continue
            connection = await self._connection(group, node, deadline, may_shed)
            seen = node.sighting
            if connection is None:
                may_shed = False
            elif node is group.writable and seen is not None:
                return Lease(connection, shard, *seen.branch, node.name, group, node)
            else:
                node.pool.give(connection)

    async def connect(self, shard: int, deadline: float, arguments: dict[str, Any]) -> "asyncpg.Connection[Any]":
        """A new connection to the writable primary, the caller's own: in no pool. Raises like `primary`.

        It closes itself when the primary is another one; see `following`.
        """
        group = self.shard(shard)
        arguments = {**arguments, "connection_class": following.Following}
        while True:
            node = group.writable
            if node is None or node.sighting is None:
                await self._news(group, deadline)
                continue
            branch = node.sighting.branch
            try:
                connection = await self.connector.open(node.where, connect.CONNECT_SECONDS, **arguments)
            except connect.UnreachableError as error:
                await unreachable(group, node, error, deadline)
                continue
            lease = Lease(connection, shard, *branch, node.name, group, node)
            if await self._follow(lease) and node is group.writable:
                return connection
            connection.terminate()

    def shard(self, number: int) -> nodes.Shard:
        """What is known of one shard. Raises `NotStarted` before `start`, `WrongLoop` elsewhere than on its loop."""
        if not self.is_started:
            raise errors.NotStarted(NOT_STARTED)
        if self._home.here() is not self._home.loop:
            raise errors.WrongLoop(WRONG_LOOP)
        return self.by_number[number]

    def witness_of(self, shard: int) -> witness.Witness | None:
        """Who knows what other regions have; None where a commit counts without them."""
        found = self._witnesses.get(shard)
        return found[0] if found is not None else None

    async def flushed(self, lease: Lease) -> position.Position | None:
        """What `ensure_held` has to be asked of after a statement that committed on this lease; None: nothing."""
        if self.witness_of(lease.shard) is None:
            return None
        text = await lease.connection.fetchval(
            "select pg_current_wal_flush_lsn()::text", timeout=connect.CONNECT_SECONDS
        )
        return lease.position(position.parse_lsn(text))

    async def ensure_held(self, at: position.Position, until: float) -> None:
        """What was committed up to `at`, without a token, counts. Raises `OutcomeUnknown` when that is not known."""
        watching = self.witness_of(at.shard)
        if watching is not None and await watching.until_held(at, until) is not witness.Held.YES:
            raise errors.OutcomeUnknown(witness.NOT_HELD.format(at=at, look="look whether it is there"), token="")

    def history(self, shard: int) -> position.History:
        """How this shard's timelines followed each other, as far as it could be learnt."""
        return self.shard(shard).history

    def wrote(self, at: position.Position) -> None:
        """Remember a write: for the current request, or outside one for this process."""
        (request.current() or self.outside).wrote(at)

    async def _news(self, group: nodes.Shard, deadline: float) -> None:
        with request.recording().span("wait", "primary") as span:
            span.decide(f"no node takes writes ({group.troubles}): waited for a primary")
            while group.writable is None:
                if not await news(group, deadline):
                    raise errors.NoPrimary(
                        f"database: no writable primary of shard {group.number} before the deadline "
                        f"({group.troubles}); nothing was done"
                    )

    async def _follow(self, lease: Lease) -> bool:
        """Whether a new connection now follows its primary."""
        connection: Any = lease.connection
        try:
            await connection.follow(lease, self.wrote, self.ensure_held)
        except connect.ANSWERS:
            return False
        except BaseException:
            connection.terminate()
            raise
        return True

    async def _connection(
        self, group: nodes.Shard, node: nodes.Node, deadline: float, may_shed: bool
    ) -> "asyncpg.Connection[Any] | None":
        """A connection to the node, or None when it went away meanwhile."""
        try:
            return await node.pool.acquire(deadline, may_shed=may_shed)
        except pool.LostError:
            return None
        except connect.UnreachableError as error:
            await unreachable(group, node, error, deadline)
            return None

    def _add_shard(self, bound: bindings.Shard) -> nodes.Shard:
        shard = nodes.Shard(bound.number, bound.epoch, self._poker(bound.number), self.connector.region)
        self.by_number[bound.number] = shard
        return shard

    def _ask_for_witness(self, shard: nodes.Shard, regions: tuple[str, ...]) -> None:
        found = self._witnesses.get(shard.number)
        if found is not None and found[0].regions == frozenset(regions):
            return
        if len(regions) > 1:
            made = witness.Witness(shard, self.connector, regions)
            task = asyncio.get_running_loop().create_task(made.run(), name=f"tenfold-db-witness-{shard.number}")
            task.add_done_callback(_report)
            self._witnesses[shard.number] = made, task
        elif found is not None:
            del self._witnesses[shard.number]
        if found is not None:
            found[0].is_dismissed = True
            found[1].cancel()

    def _keep_only(self, shard: nodes.Shard, wanted: Iterable[bindings.DatabaseNode]) -> None:
        kept = {node.name: node for node in wanted}
        for name, node in list(shard.nodes.items()):
            if kept.get(name) != node.where:
                _, task = self._probers.pop(node)
                task.cancel()
                shard.remove(name)

    def _join(self, shard: nodes.Shard, wanted: Iterable[bindings.DatabaseNode], size: int) -> None:
        for where in wanted:
            known = shard.nodes.get(where.name)
            if known is not None:
                known.pool.size = size
                continue
            node = nodes.Node(where, shard.number, pool.Pool(self._opener(where), size))
            shard.nodes[where.name] = node
            watcher = prober.Prober(shard, node, self.connector, self.classifier)
            task = asyncio.get_running_loop().create_task(watcher.run(), name=f"tenfold-db-probe-{where.name}")
            task.add_done_callback(_report)
            self._probers[node] = (watcher, task)

    def _opener(self, where: bindings.DatabaseNode) -> pool.Open:
        return lambda timeout: self.connector.open_for_use(where, timeout)

    def _poker(self, number: int) -> Callable[[], None]:
        def poke() -> None:
            for node, (watcher, _) in self._probers.items():
                if node.shard == number:
                    watcher.poke()

        return poke


async def news(group: nodes.Shard, until: float) -> bool:
    """True after the next sighting, False at `until`. Meanwhile the request waits and does not count as load."""
    serving = request.current()
    group.poke()
    if serving is not None:
        serving.is_waiting = True
    try:
        return await group.news.wait(until)
    finally:
        if serving is not None:
            serving.is_waiting = False


async def unreachable(group: nodes.Shard, node: nodes.Node, error: connect.UnreachableError, until: float) -> None:
    """No connection to the node could be opened: returns when another try may do better, raises when time is up.

    A server that is merely full is still what it was; any other is forgotten until a probe reaches it.
    """
    now = asyncio.get_running_loop().time()
    is_full = isinstance(error.__cause__, asyncpg.TooManyConnectionsError)
    if now >= until:
        kind = errors.Overloaded if is_full else errors.NoPrimary
        raise kind(f"database: {error}; nothing was done") from error
    if is_full:
        await asyncio.sleep(min(FULL_PAUSE_SECONDS, until - now))
        return
    node.trouble = str(error)
    group.doubt(node, now)


def _report(task: "asyncio.Task[None]") -> None:
    """A probe that ends by itself is a flaw of ours: say so, loudly, with its traceback."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("%s ended: this process no longer sees what it watched", task.get_name(), exc_info=error)
