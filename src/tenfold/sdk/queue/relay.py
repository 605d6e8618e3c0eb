"""Passing on what committed transactions have published: at once by their own process, and by anybody as a safety net.

Owned by `queue`. The sender takes ids from commits, which never wait for it; the sweeper looks at the outbox for what
is due or was left behind. Both may be wrong about a row: who takes it is decided by its lock.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from uuid import UUID

from tenfold import errors
from tenfold.kit import backoff
from tenfold.sdk import counters
from tenfold.sdk.db import connect, primary
from tenfold.sdk.queue import outbox, transport

log = logging.getLogger("tenfold.queue")

MOST = 500
"""Rows that one batch passes on."""

MOST_IDS = 50_000
"""Ids that the sender remembers; further ones are left to the sweeper."""

SWEEP_SECONDS = 1.0
"""How often a process looks at the outbox, about: each adds a little by chance, so that they take turns."""

SOON_SECONDS = 2.0
"""What is held back for less than this may become due before the next sweep: its publisher remembers it."""

LATE_SECONDS = 0.005
"""The database's clock says when a message is due; a little later it surely is."""

UNHEARD_EVERY = 60
"""One sweep in so many deletes what nobody wants."""

PAUSE = backoff.Backoff(first_seconds=0.05, most_seconds=2.0)

TROUBLE = (errors.TenfoldError, *connect.ANSWERS)


class Relay:
    """Two loops; whoever starts them owns them."""

    def __init__(
        self,
        shards: primary.Shards,
        carrier: Callable[[], transport.Transport],
        told: Callable[[outbox.Look], None],
        is_used: Callable[[], bool],
    ) -> None:
        self._shards = shards
        self._carrier = carrier
        """The transport of now."""
        self._told = told
        """Told how the outbox is, after each look."""
        self._is_used = is_used
        """Whether this process has anything to do with messages: the others leave the outbox alone."""
        self._ids: deque[UUID] = deque()
        self._has_ids = asyncio.Event()
        self._is_sending = False

    def open(self) -> None:
        """Begin anew, on the running loop."""
        self._ids.clear()
        self._has_ids = asyncio.Event()

    def take(self, id_: UUID, after_seconds: float = 0.0) -> None:
        """A message was committed: pass it on soon, or when it is due. Later ones the sweeper sees in time."""
        if after_seconds > 0.0:
            if after_seconds < SOON_SECONDS:
                asyncio.get_running_loop().call_later(after_seconds + LATE_SECONDS, self.take, id_)
        elif len(self._ids) < MOST_IDS:
            self._ids.append(id_)
            self._has_ids.set()

    async def send(self) -> None:
        """Pass on what commits have left, one batch after the other. Never returns."""
        tries = 0
        while True:
            await self._has_ids.wait()
            batch = [self._ids.popleft() for _ in range(min(MOST, len(self._ids)))]
            if not self._ids:
                self._has_ids.clear()
            self._is_sending = True
            try:
                await self._pass_on(batch)
                tries = 0
            except TROUBLE as error:
                tries += 1
                log.warning("messages could not be passed on, they stay in the outbox: %s", error)
                await asyncio.sleep(PAUSE.seconds(tries))
            finally:
                self._is_sending = False

    async def sweep(self) -> None:
        """Look at the outbox again and again. Never returns."""
        tries = 0
        while True:
            try:
                seconds = await self.sweep_once() if self._is_used() else SWEEP_SECONDS
                tries = 0
            except TROUBLE as error:
                tries += 1
                log.warning("the outbox could not be looked at: %s", error)
                seconds = PAUSE.seconds(tries)
            await asyncio.sleep(seconds)

    async def sweep_once(self) -> float:
        """Pass on what is due, a batch of it; returns after how many seconds to look again."""
        if random.random() * UNHEARD_EVERY < 1.0:  # noqa: S311 - spreads work, guards nothing
            dropped = await outbox.drop_unheard(self._shards)
            if dropped:
                counters.add("queue.unheard", dropped)
                log.warning("%d messages were dropped: no group has subscribed to their subjects", dropped)
        seen = await outbox.look(self._shards)
        self._told(seen)
        if seen.is_due and await self._pass_on([]):
            return 0.0
        usual = SWEEP_SECONDS * (0.75 + random.random() / 2)  # noqa: S311
        return usual if seen.next_seconds is None else min(usual, max(0.001, seen.next_seconds))

    async def finish(self, seconds: float) -> None:
        """Returns when the sender has nothing left, or after so long: then others pass it on."""
        until = asyncio.get_running_loop().time() + seconds
        while self._ids or self._is_sending:
            if asyncio.get_running_loop().time() >= until:
                return
            await asyncio.sleep(0.005)

    async def _pass_on(self, ids: list[UUID]) -> int:
        passed = await self._carrier().pass_on(ids, MOST)
        counters.add("queue.passed_on", passed)
        return passed
