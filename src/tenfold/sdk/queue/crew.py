"""Everybody who handles messages in this process: a runner for each subscriber on each transport in use.

Owned by `queue`. `follow` is called whenever the bindings change, and makes what runs what should run.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tenfold.sdk.db import primary
from tenfold.sdk.queue import handling, running, subscribers, tasks, transport

DRAIN_SECONDS = 8.0
"""How long messages that are being handled may take when this process ends; then they are given back."""

Key = tuple[str, str, str]
"""Group, subject and the name of the transport."""


class Crew:
    """From the first `follow` to `drain`."""

    def __init__(self, shards: primary.Shards, is_busy: Callable[[], bool]) -> None:
        self._shards = shards
        self._is_busy = is_busy
        self._runners: dict[Key, running.Runner] = {}
        self._size = 0
        self._room: running.Room | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def follow(
        self, wanted: Sequence[subscribers.Subscriber], carriers: Mapping[str, transport.Transport], size: int
    ) -> None:
        """Run these subscribers on these transports, `size` messages at once; others are drained."""
        if size != self._size:
            await self.drain()
            self._size, self._room = size, running.Room(size, self._is_busy)
        keys = {(one.group, one.subject, name): (one, carrier) for one in wanted for name, carrier in carriers.items()}
        gone = [self._runners.pop(key) for key in list(self._runners) if key not in keys]
        await asyncio.gather(*(one.drain(DRAIN_SECONDS) for one in gone))
        for key, (one, carrier) in keys.items():
            if key not in self._runners:
                self._runners[key] = self._runner(one, carrier, key)
        if self._runners and self._keeper is None:
            self._keeper = tasks.begin("keep", self._keep())

    def reading(self) -> dict[str, Any]:
        """What this process has in hand and has done in the last ten seconds, as JSON."""
        runners = list(self._runners.values())
        done = self._room.meter.reading(time.monotonic()) if self._room is not None else {}
        return {
            "in_flight": sum(one.in_flight for one in runners),
            "waiting": sum(one.waiting for one in runners),
            "oldest_seconds": round(max((one.oldest_seconds for one in runners), default=0.0), 3),
            "most_at_once": self._size,
            **done,
        }

    async def drain(self) -> None:
        """Handle no more; returns when what is under way is handled or given back. Twice is once."""
        runners, self._runners = list(self._runners.values()), {}
        await asyncio.gather(*(one.drain(DRAIN_SECONDS) for one in runners))
        if self._keeper is not None:
            await tasks.end([self._keeper])
            self._keeper = None
        self._size = 0  # what begins again may be on another loop

    def _runner(self, one: subscribers.Subscriber, carrier: transport.Transport, key: Key) -> running.Runner:
        assert self._room is not None
        consumer = carrier.consume(one.subscription)
        work = handling.Handling(one, consumer, self._shards)
        seconds = one.policy.timeout_seconds
        made = running.Runner("-".join(key), min(one.concurrency, self._size), seconds, consumer, work, self._room)
        made.start()
        return made

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(transport.KEEP_SECONDS)
            for one in list(self._runners.values()):
                one.keep()
