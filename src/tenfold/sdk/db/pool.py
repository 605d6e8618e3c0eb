"""One node's connections: a bounded pool with a fair queue.

Called by `primary` (leases) and `reads`. Knows neither roles nor positions. It makes no round trip of its own:
a statement of ours leaves nothing behind in its session, so there is nothing to reset.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import asyncpg

from tenfold import errors, request, spans
from tenfold.sdk.db import connect

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any]
else:
    Connection = asyncpg.Connection  # generic only in its stubs

Open = Callable[[float], Awaitable[Connection]]

LONGEST_QUEUE = 1024
"""More than this many waiters on one node are answered `Overloaded` at once."""

RESET_SECONDS = 5.0
"""How long a connection may take to forget what user code did to it; longer, and it is closed."""

TRIM_SECONDS = 120.0
"""A connection that was not needed for so long is closed: PostgreSQL pays for each with memory."""

FULL_SERVER_SECONDS = 1.0
"""After PostgreSQL said `too many connections`, how long the pool lives with what it has."""


class LostError(Exception):
    """The node went away while someone waited for one of its connections. Never leaves `sdk/db`."""


class Pool:
    """At most `size` connections to one node. Whoever took one gives it back or discards it, always."""

    __slots__ = (
        "_all",
        "_expired",
        "_full_until",
        "_open",
        "_opening",
        "_spare",
        "_trim_at",
        "_waiters",
        "free",
        "is_retired",
        "reading",
        "size",
    )

    def __init__(self, open_connection: Open, size: int) -> None:
        self.size = size
        self.is_retired = False
        self.free: list[Connection] = []
        """Open and unused; the last one was used last, so the first ones fall idle."""
        self.reading: dict[Connection, float] = {}
        """Connections on which a read of ours runs, and the `loop.time()` at which it is cut."""
        self._open = open_connection
        self._all: set[Connection] = set()
        self._expired: set[Connection] = set()
        self._opening = 0
        self._full_until = 0.0
        self._spare = 0
        """The fewest free connections that were seen since the last trim."""
        self._trim_at = 0.0
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()

    @property
    def opened(self) -> int:
        """Connections that exist, used or not."""
        return len(self._all)

    @property
    def busy(self) -> int:
        """Connections in someone's hands, and callers that wait for one."""
        return len(self._all) - len(self.free) + self._opening + len(self._waiters)

    def take(self) -> Connection | None:
        """A free connection without waiting, or None."""
        free = self.free
        while free:
            connection = free.pop()
            if not connection.is_closed():
                return connection
            self.discard(connection)
        return None

    async def acquire(self, until: float, *, may_shed: bool = True) -> Connection:
        """A connection, in the order of asking.

        Raises `Overloaded` when the queue is full (only if `may_shed`) or the turn did not come before `until`
        (`loop.time()`), `connect.UnreachableError` when a new connection could not be opened, `LostError` when the
        node went away meanwhile.
        """
        connection = self.take()
        if connection is not None:
            return connection
        with request.recording().span("wait", "connection") as span:
            return await self._acquire_slowly(until, span, may_shed=may_shed)

    def give(self, connection: Connection) -> None:
        """Take back a connection whose session is as it was; the first in the queue gets it."""
        if not self._waiters and not self._expired:
            self.free.append(connection)
        elif connection in self._expired or connection.is_closed():
            self.discard(connection)
        elif (waiter := self._next_waiter()) is not None:
            waiter.set_result(connection)
        else:
            self.free.append(connection)

    def done(self, connection: Connection) -> None:
        """Take back a connection from a read that ended."""
        self.reading.pop(connection, None)
        self.give(connection)

    def cut_reads(self, before: float = float("inf")) -> None:
        """Close the connections of reads that should have ended `before`; their callers see the connection die."""
        for connection in [one for one, until in self.reading.items() if until <= before]:
            self.discard(connection)

    async def put_back(self, connection: Connection, *, reset: bool) -> None:
        """Take back a connection that may be in any state. `reset`: user code has touched it.

        Returns within `RESET_SECONDS`, also when cancelled; a connection that cannot be made clean is closed.
        """
        if connection.is_closed():
            self.discard(connection)
        elif not reset and not connection.is_in_transaction():
            self.give(connection)
        else:
            await asyncio.shield(self._reset(connection))

    def discard(self, connection: Connection) -> None:
        """Close a connection at once and never use it again; harmless when done before."""
        self.reading.pop(connection, None)
        self._all.discard(connection)
        self._expired.discard(connection)
        connection.terminate()
        self._grant_room()

    def expire(self) -> None:
        """Close the free connections now, and the others when they come back."""
        self._expired |= self._all
        while self.free:
            self.discard(self.free.pop())

    def retire(self) -> None:
        """The node is no longer ours: like `expire`, and whoever waits is told `LostError`."""
        self.is_retired = True
        self.expire()
        self.scatter()

    def scatter(self) -> None:
        """Tell everyone who waits that the node went away."""
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(LostError())

    def terminate(self) -> None:
        """Close every connection at once, also those in use."""
        self.free.clear()
        for connection in list(self._all):
            self.discard(connection)

    def trim(self, now: float) -> None:
        """Called now and then: closes what nobody needed in the last `TRIM_SECONDS`, but for one connection."""
        self._spare = min(self._spare, len(self.free))
        if now < self._trim_at:
            return
        idle, self.free = self.free[: max(0, self._spare - 1)], self.free[max(0, self._spare - 1) :]
        self._spare, self._trim_at = self.size, now + TRIM_SECONDS
        for connection in idle:
            self.discard(connection)

    async def _acquire_slowly(self, until: float, span: spans.Recording, *, may_shed: bool) -> Connection:
        """A connection when none is free: a new one, or the next that comes back."""
        if self._has_room():
            self._opening += 1
            span.decide(f"none was free: one more was opened, {self.opened + self._opening} of {self.size}")
            return await self._open_one(until)
        if may_shed and len(self._waiters) >= LONGEST_QUEUE:
            raise errors.Overloaded(f"database: {len(self._waiters)} already wait for a connection; try again")
        span.decide(f"all {self.opened} are in use, {len(self._waiters)} wait already: waited for one")
        granted = await self._wait_turn(until)
        return granted if granted is not None else await self._open_one(until)

    async def _reset(self, connection: Connection) -> None:
        try:
            await connection.reset(timeout=RESET_SECONDS)
        except connect.ANSWERS:
            self.discard(connection)
        except BaseException:
            self.discard(connection)
            raise
        else:
            self.give(connection)

    async def _open_one(self, until: float) -> Connection:
        """A new connection; the caller has already counted it in `_opening`."""
        loop = asyncio.get_running_loop()
        try:
            connection = await self._open(max(0.05, min(connect.CONNECT_SECONDS, until - loop.time())))
        except BaseException as error:
            self._opening -= 1
            if isinstance(error.__cause__, asyncpg.TooManyConnectionsError):
                self._full_until = loop.time() + FULL_SERVER_SECONDS
            self._grant_room()
            raise
        self._opening -= 1
        self._all.add(connection)
        if self.is_retired:
            self.discard(connection)
            raise LostError
        return connection

    async def _wait_turn(self, until: float) -> Connection | None:
        """A connection, or None for the right to open one."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Connection | None] = loop.create_future()
        self._waiters.append(waiter)
        timer = loop.call_at(until, _expire, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            self._hand_back(waiter)
            raise
        finally:
            timer.cancel()

    def _hand_back(self, waiter: "asyncio.Future[Connection | None]") -> None:
        """The task was cancelled in the moment its turn came: nobody else may lose by it."""
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            granted = waiter.result()
            if granted is not None:
                self.give(granted)
            else:
                self._opening -= 1
                self._grant_room()

    def _grant_room(self) -> None:
        if self._waiters and self._has_room() and (waiter := self._next_waiter()) is not None:
            self._opening += 1
            waiter.set_result(None)

    def _has_room(self) -> bool:
        if self.is_retired or len(self._all) + self._opening >= self.size:
            return False
        is_full = self._all and self._full_until > asyncio.get_running_loop().time()
        return not is_full

    def _next_waiter(self) -> "asyncio.Future[Connection | None] | None":
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                return waiter
        return None


def _expire(waiter: "asyncio.Future[Connection | None]") -> None:
    if not waiter.done():
        waiter.set_exception(errors.Overloaded("database: no connection became free before the deadline; try again"))
