"""What happened, in order: one JSON object a line in events.jsonl, and live to whoever follows.

Written by everything in `runtime/` that acts, read back by `tenfold events`, which needs no runtime. Values of secrets
and environments never go in. A line that is no event is passed by: a runtime that was killed in the middle of a write
leaves half of one.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

MOST_RECENT = 200
"""How many events are kept in memory."""

TAIL_BYTES = 256 * 1024

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
        self.recent: deque[Event] = deque(maxlen=MOST_RECENT)
        """The newest, an earlier runtime's among them."""
        if path is not None:
            _end_broken_line(path)
            self.recent.extend(last(path, MOST_RECENT))
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


# The file


class Tail:
    """Reads the file from its beginning, then what is added to it, whoever writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> list[Event]:
        """The events since the last call; a file that begins again is read anew, and one that is gone is empty."""
        try:
            size = self._path.stat().st_size
            self._offset = self._offset if size >= self._offset else 0
            with self._path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        return list(_decoded(whole.splitlines()))


def rotated(path: Path) -> Iterator[Event]:
    """The events of the files that the present one has followed, oldest first."""
    for file in sorted(path.parent.glob(f"{path.name}.[0-9]"), reverse=True):
        yield from _decoded(file.read_bytes().splitlines())


def last(path: Path, count: int) -> list[Event]:
    """The newest events of the file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return []
    return list(_decoded(lines[-count - 1 :]))[-count:]


def _end_broken_line(path: Path) -> None:
    """Close a last line that was never finished, so that the next event does not become a part of it."""
    try:
        with path.open("a+b") as file:
            if file.tell():
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    file.write(b"\n")
    except OSError:
        return  # no folder yet, or a full disk


def _decoded(lines: Iterable[bytes]) -> Iterator[Event]:
    for line in lines:
        try:
            yield msgspec.json.decode(line, type=Event)
        except msgspec.DecodeError:
            continue
