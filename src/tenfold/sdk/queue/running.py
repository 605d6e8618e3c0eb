"""One subscriber's work in this process: a puller that takes messages in batches, and workers that handle them.

Made by `crew`. Workers live as long as the runner, so that a message costs no task; how many messages are held beyond
those being handled follows how long handling takes, so that a slow handler hoards none that others could handle.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from tenfold.sdk.queue import handling, messages, meter, tasks, transport

AHEAD_SECONDS = 0.1
"""Messages for so long a time are held ready."""

MOST_AHEAD = 512
"""And never more than so many."""

BUSY_SECONDS = 0.02
"""How long a worker waits before it looks again whether the process has time to spare."""

MOST_BUSY_SECONDS = 1.0
"""A process that is busy for longer handles a message now and then all the same: else they might wait for ever."""

LATE_SECONDS = 10.0
"""A handler that has not ended so long after its time limit does not listen: its lease is kept no longer."""

END_SECONDS = 1.0
"""How long cancelled workers may take to end."""


class Room:
    """How many messages one process handles at once, all subscribers together; and whether it has time at all."""

    def __init__(self, size: int, is_busy: Callable[[], bool]) -> None:
        self.meter = meter.Meter(time.monotonic())
        self._places = asyncio.Semaphore(size)
        self._is_busy = is_busy

    async def spare_time(self) -> None:
        """Returns when the process has time for messages, or has had none for too long."""
        if not self._is_busy():
            return
        until = _now() + MOST_BUSY_SECONDS
        while self._is_busy() and _now() < until:  # noqa: ASYNC110 - requests that come and go tell nobody
            await asyncio.sleep(BUSY_SECONDS)

    async def enter(self) -> None:
        """Take a place, when the process has time and one is free."""
        await self.spare_time()
        await self._places.acquire()

    def leave(self) -> None:
        """Give the place back."""
        self._places.release()


def ahead(concurrency: int, pace_seconds: float) -> int:
    """How many messages to hold beyond those being handled, when handling one takes `pace_seconds`."""
    return min(MOST_AHEAD, int(concurrency * AHEAD_SECONDS / max(pace_seconds, 1e-6)))


class Runner:
    """From `start` to `drain`. Whatever it was given it settles or gives back."""

    def __init__(
        self,
        name: str,
        concurrency: int,
        timeout_seconds: float,
        consumer: transport.Consumer,
        work: handling.Handling,
        room: Room,
    ) -> None:
        self._name = name
        self._concurrency = concurrency
        self._most_seconds = timeout_seconds + LATE_SECONDS
        self._consumer = consumer
        self._handling = work
        self._room = room
        self._pace = AHEAD_SECONDS
        self._held: dict[messages.Taken, float | None] = {}
        """Since when each is being handled; None: it waits."""
        self._waiting: deque[messages.Taken] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._changed = asyncio.Event()
        self._puller: asyncio.Task[None] | None = None
        self._workers: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to take messages."""
        self._puller = tasks.begin(f"pull-{self._name}", self._pull())

    @property
    def in_flight(self) -> int:
        """Messages that are being handled."""
        return sum(began is not None for began in self._held.values())

    @property
    def waiting(self) -> int:
        """Messages that are held here and not handled yet."""
        return len(self._waiting)

    @property
    def oldest_seconds(self) -> float:
        """How long the one at the head of those that wait has been due."""
        return _waited(self._waiting[0]) if self._waiting else 0.0

    def keep(self) -> None:
        """Say that what is held is still held, except by handlers that do not end."""
        now = _now()
        kept = [one for one, began in self._held.items() if began is None or now - began < self._most_seconds]
        if kept:
            self._consumer.keep(kept)

    async def drain(self, seconds: float) -> None:
        """Take no more, give back what waits, wait so long for what is being handled, give the rest back."""
        if self._puller is not None:
            self._puller.cancel()
            await asyncio.wait([self._puller])
        for one in self._waiting:
            self._held.pop(one, None)
            self._consumer.give_back(one, 0.0)
        self._waiting.clear()
        until = _now() + seconds
        while self._held and (left := until - _now()) > 0:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                break
        for worker in self._workers:
            worker.cancel()
        if self._workers:
            await asyncio.wait(self._workers, timeout=END_SECONDS)
        await self._consumer.close()

    async def _pull(self) -> None:
        while True:
            await self._room.spare_time()
            wanted = self._wanted()
            if not wanted:
                self._changed.clear()
                await self._changed.wait()
                continue
            for one in await self._consumer.take(wanted):
                self._held[one] = None
                self._waiting.append(one)
            self._wake()

    def _wanted(self) -> int:
        """How many to take now: when a worker has nothing to do, or a good part of what is held ready is used up."""
        most_ahead = ahead(self._concurrency, self._pace)
        wanted = self._concurrency + most_ahead - len(self._held)
        is_time = len(self._held) < self._concurrency or wanted > most_ahead // 2
        return wanted if wanted > 0 and is_time else 0

    def _wake(self) -> None:
        """A worker for each message that waits, as far as there may be more."""
        for _ in range(min(len(self._waiting), len(self._idle))):
            idle = self._idle.popleft()
            if not idle.done():
                idle.set_result(None)
        while len(self._workers) < min(self._concurrency, len(self._held)):
            worker = tasks.begin(f"handle-{self._name}", self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        while True:
            one = await self._next()
            try:
                await self._room.enter()
            except asyncio.CancelledError:
                self._held.pop(one, None)
                self._consumer.give_back(one, 0.0)
                raise
            began = self._held[one] = _now()
            waited = _waited(one)
            try:
                await self._handling.handle(one)
            finally:
                self._room.leave()
                self._held.pop(one, None)
                seconds = _now() - began
                self._pace += 0.1 * (seconds - self._pace)
                self._room.meter.handled(seconds, waited, time.monotonic())
                self._changed.set()

    async def _next(self) -> messages.Taken:
        while not self._waiting:
            idle = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            try:
                await idle
            finally:
                if not idle.done() or idle.cancelled():
                    self._idle = deque(one for one in self._idle if one is not idle)
        return self._waiting.popleft()


def _waited(one: messages.Taken) -> float:
    """How long it has been due; tries after the first say nothing about how busy everybody is."""
    return max(0.0, time.time() - one.due_at) if one.due_at and one.attempt == 1 else 0.0


def _now() -> float:
    return asyncio.get_running_loop().time()
