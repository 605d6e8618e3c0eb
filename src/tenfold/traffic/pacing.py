"""When requests are due, and who sends them: the open loop.

`arrivals` (pure) says when each request is due; the `Pacer` hands each due time out as a slot. A slot's time never
moves: while nobody is free it waits in the backlog, and the request that takes it later is late by that much. So a
server that stalls shows up as latency and never as fewer requests (the mistake is called coordinated omission).

Times are `time.monotonic()`: a loop's own clock may be coarse (uvloop's counts milliseconds).
"""

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterator

SLOTS_AT_A_TIME = 50
"""Slots handed out in one go when the loop is late, before others get their turn."""


class LoadOver(BaseException):
    """There are no more slots. Not an Exception: a journey's `except Exception` must not go on for ever."""


def arrivals(rate: float, seconds: float | None, source: random.Random | None = None) -> Iterator[float]:
    """Seconds from the start at which requests are due: `rate` a second, for `seconds` (None: without end).

    Evenly spaced, or with `source` a Poisson process of that rate.
    """
    if source is None:
        number = 0
        while seconds is None or number < math.ceil(rate * seconds - 1e-9):
            yield number / rate
            number += 1
        return
    due = source.expovariate(rate)
    while seconds is None or due < seconds:
        yield due
        due += source.expovariate(rate)


class Pacer:
    """Hands slots to the users that wait for one, the longest waiting first.

    `on_slot` is called with each slot: how many there were so far, and whether nobody was waiting for it.
    """

    def __init__(self, due: Iterator[float], on_slot: Callable[[int, bool], None]) -> None:
        self._due = due
        self._on_slot = on_slot
        self._waiting: deque[asyncio.Future[float | None]] = deque()
        self._backlog: deque[float] = deque()
        self.is_ending = False
        """Whether no further slot will come; those in the backlog are still given out."""
        self.handed_out = 0
        self.late_seconds = 0.0
        """How late a slot was handed out at worst: the load generator's own share of the latencies."""

    @property
    def backlog(self) -> int:
        """Requests whose time has come and that nobody has sent yet."""
        return len(self._backlog)

    async def run(self, started: float) -> None:
        """Hand out every slot, the first at `started`. Returns, or is cancelled, with the load ending."""
        try:
            for offset in self._due:
                delay = started + offset - time.monotonic()
                if delay > 0 or self.handed_out % SLOTS_AT_A_TIME == 0:
                    await asyncio.sleep(max(delay, 0))
                self.late_seconds = max(self.late_seconds, time.monotonic() - started - offset)
                self._hand_out(started + offset)
        finally:
            self.end()

    async def take(self) -> float:
        """The time at which the caller's next request is (or was) due. Raises `LoadOver` after the last."""
        if self._backlog:
            return self._backlog.popleft()
        if self.is_ending:
            raise LoadOver
        slot: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(slot)
        due = await slot
        if due is None:
            raise LoadOver
        return due

    def drop_backlog(self) -> list[float]:
        """Take all that is due and unsent, so that it is never sent."""
        dropped = list(self._backlog)
        self._backlog.clear()
        return dropped

    def end(self) -> None:
        """No further slots: whoever waits for one is let go. May be called again."""
        self.is_ending = True
        for slot in self._waiting:
            if not slot.done():
                slot.set_result(None)
        self._waiting.clear()

    def _hand_out(self, due: float) -> None:
        self.handed_out += 1
        slot = self._next_waiting()
        if slot is None:
            self._backlog.append(due)
        else:
            slot.set_result(due)
        self._on_slot(self.handed_out, slot is None)

    def _next_waiting(self) -> asyncio.Future[float | None] | None:
        while self._waiting:
            slot = self._waiting.popleft()
            if not slot.done():
                return slot
        return None
