"""Loads: one at a time for each key of this process, and only so many at once for all of them.

Called by `reading`, which says what a load does. Who asks for a key that is being loaded waits for that load; who
leaves does not end it while others wait. A load has a request of its own: its callers' deadline, a node of its own.
"""

import asyncio
import contextvars
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from tenfold import errors, position, request
from tenfold.sdk.cache.entries import Entry
from tenfold.sdk.cache.local import Kept

log = logging.getLogger("tenfold.cache")

AT_ONCE = 32
"""So many loads of one process run at once: a cold cache must not flatten the database."""

WAITING = 1024
"""So many more wait for their turn; whoever comes then is told `Overloaded`."""

MOST_SLOTS = 1024
"""So many floors a value may hang on by what went into it; one of more parts is not kept."""

Body = Callable[["Flight"], Awaitable[Kept]]


class LoadRequest(request.Request):
    """The request that a load runs in. While it waits for a primary, so do all who wait for it."""

    callers: "set[Caller]"
    wanted: position.Positions = position.Positions()
    """What its caller has seen. What the load itself has seen is more: how far its node had come."""
    stamp: position.Position | None = None
    """How far that was, or how far the oldest of the cached values that went into this one reflects."""
    slots: frozenset[int] = frozenset()
    """Of the cached values that went into this one."""

    def made_of(self, entry: Entry) -> None:
        """A cached value goes into the one that is loaded, which is no newer than that and stale with it."""
        if entry.stamp is None or (self.stamp is not None and position.later(self.stamp, entry.stamp) != entry.stamp):
            self.stamp = entry.stamp
        if len(self.slots) <= MOST_SLOTS:
            self.slots |= set(entry.slots)

    @property
    def is_waiting(self) -> bool:
        """Whether the load waits for a primary."""
        return any(one.serving is not None and one.serving.is_waiting for one in self.callers)

    @is_waiting.setter
    def is_waiting(self, is_so: bool) -> None:
        for one in getattr(self, "callers", ()):
            if one.serving is not None:
                one.serving.is_waiting = is_so


class Caller:
    """Somebody who waits for a load."""

    __slots__ = ("serving",)

    def __init__(self, serving: request.Request | None) -> None:
        self.serving = serving


class Flight:
    """One load under way."""

    __slots__ = ("callers", "key", "request", "task")

    def __init__(self, key: str, made: LoadRequest) -> None:
        self.key = key
        self.callers: set[Caller] = set()
        self.request = made
        self.request.callers = self.callers
        self.task: asyncio.Task[Kept]

    @property
    def until(self) -> float:
        """When the last who waits for it must leave."""
        return math.inf if self.request.deadline is None else self.request.deadline

    def reach_for(self, until: float) -> None:
        """Somebody waits who may wait until then."""
        self.request.deadline = None if until == math.inf else max(until, self.until)


_CIRCLE = "cache: the loader of {key!r} asks the cache for {key!r} itself; read the database there"

_above: ContextVar[tuple[Flight, ...]] = ContextVar("tenfold_cache_loads", default=())
"""The loads that the running task is part of."""


class Loads:
    """The loads of one process."""

    def __init__(self) -> None:
        self.at_once = AT_ONCE
        self.most_waiting = WAITING
        self._flights: dict[str, Flight] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._running = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    def under_way(self, key: str) -> Flight | None:
        """The newest load of this key, if one runs."""
        found = self._flights.get(key)
        if found is not None and found in _above.get():
            raise errors.MisuseError(_CIRCLE.format(key=key))
        return found

    def begin(self, key: str, made: LoadRequest, body: Body, *, is_behind: bool = False) -> Flight:
        """A new load. Whoever asks from now on may wait for it. `is_behind`: it is no part of what runs now."""
        context = contextvars.copy_context()
        if is_behind:
            context.run(_above.set, ())
        elif any(one.key == key for one in _above.get()):
            raise errors.MisuseError(_CIRCLE.format(key=key))
        flight = Flight(key, made)
        loop = asyncio.get_running_loop()
        flight.task = loop.create_task(self._fly(flight, body), name="tenfold-cache-load", context=context)
        self._flights[key] = flight
        self._own(flight.task)
        flight.task.add_done_callback(lambda _: self._landed(flight))
        return flight

    async def wait(self, flight: Flight, serving: request.Request | None, until: float) -> Kept:
        """What came of the load. Raises what it raised; `DeadlineExceeded` at `until` (`loop.time()`).

        The load ends when nobody waits for it any more.
        """
        caller = Caller(serving)
        flight.callers.add(caller)
        flight.reach_for(until)
        seconds = None if until == math.inf else max(0.0, until - asyncio.get_running_loop().time())
        try:
            await asyncio.wait([flight.task], timeout=seconds)
        finally:
            flight.callers.discard(caller)
            if not flight.callers and not flight.task.done():
                self._leave(flight)
        if not flight.task.done():
            raise errors.DeadlineExceeded("cache: the value could not be loaded before the deadline")
        if flight.task.cancelled():
            raise errors.StoreUnavailable("cache: the load was ended, because the cache stops or its loader gave up")
        return flight.task.result()

    def behind(self, work: Awaitable[Any]) -> None:
        """Run something that nobody waits for. It is ended by `stop`."""
        self._own(asyncio.ensure_future(work))

    async def stop(self) -> None:
        """End all of them."""
        tasks = [task for task in self._tasks if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._flights.clear()
        self._tasks.clear()
        self._queue.clear()
        self._running = 0

    @asynccontextmanager
    async def turn(self, flight: Flight) -> AsyncIterator[None]:
        """Run while not too many others do. A load inside a load has its turn already. Raises `Overloaded`."""
        if len(_above.get()) > 1:
            yield
            return
        await self._enter()
        try:
            yield
        finally:
            self._go_on()

    async def _enter(self) -> None:
        if self._running < self.at_once:
            self._running += 1
            return
        if len(self._queue) >= self.most_waiting:
            raise errors.Overloaded(f"cache: {self._running} loads run and {len(self._queue)} wait; nothing was done")
        mine = asyncio.get_running_loop().create_future()
        self._queue.append(mine)
        try:
            await mine
        except BaseException:
            if mine.done() and not mine.cancelled():
                self._go_on()
            elif mine in self._queue:
                self._queue.remove(mine)
            raise

    def _go_on(self) -> None:
        """Whoever waits the longest takes the place that becomes free."""
        while self._queue:
            one = self._queue.popleft()
            if not one.done():
                one.set_result(None)
                return
        self._running -= 1

    async def _fly(self, flight: Flight, body: Body) -> Kept:
        _above.set((*_above.get(), flight))
        with request.serving(flight.request):
            return await body(flight)

    def _leave(self, flight: Flight) -> None:
        """Nobody waits for it: who asks now begins another one."""
        flight.task.cancel()
        self._landed(flight)

    def _landed(self, flight: Flight) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    def _own(self, task: "asyncio.Task[Any] | asyncio.Future[Any]") -> None:
        self._tasks.add(task)  # type: ignore[arg-type]
        task.add_done_callback(self._disown)

    def _disown(self, task: "asyncio.Future[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("cache: a load failed: %s: %s", type(error).__name__, error)
