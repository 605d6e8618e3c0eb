"""What happened, in order: one JSON object a line in events.jsonl, and live to whoever follows.

Written by everything in `runtime/` that acts. Values of secrets and environments never go in.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Literal

import msgspec

Level = Literal["info", "warning", "error"]


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happened. `at` is seconds since 1970; `subject` a server or step, where there is one."""

    at: float
    kind: str
    text: str
    subject: str = ""
    level: Level = "info"
    seconds: float | None = None
    """How long it took, for what has an end."""


class Journal:
    """The journal of one service. Bounded memory: a follower that does not keep up loses the oldest lines."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._followers: set[asyncio.Queue[Event]] = set()
        self.recent: deque[Event] = deque(maxlen=200)
        self.listeners: list[Callable[[Event], None]] = []

    def say(
        self, kind: str, text: str, *, subject: str = "", level: Level = "info", seconds: float | None = None
    ) -> None:
        """Record an event. A full disk does not stop the runtime: the event still reaches followers."""
        rounded = None if seconds is None else round(seconds, 3)
        event = Event(round(time.time(), 3), kind, text, subject, level, rounded)
        self.recent.append(event)
        for queue in self._followers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)
        for listener in self.listeners:
            listener(event)
        self._append(event)

    async def follow(self) -> AsyncIterator[Event]:
        """Events from now on, until the caller stops."""
        queue: asyncio.Queue[Event] = asyncio.Queue(maxsize=1000)
        self._followers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._followers.discard(queue)

    def _append(self, event: Event) -> None:
        if self._path is None:
            return
        try:
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(event) + b"\n")
        except OSError:
            return  # a full disk is reported by the conditions in `status`, not by a crash here
