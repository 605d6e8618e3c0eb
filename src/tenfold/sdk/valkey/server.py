"""One Valkey server and the one connection that all our commands to it share: kept up, watched, filled in batches.

Made and owned by `cluster`, which runs `run` as a task. Commands wait in a line while there is no connection or no
room, and leave it once a turn of the loop. Both what waits and what is on its way is bounded.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from tenfold.kit import backoff
from tenfold.sdk.valkey import command, connection, greeting, slots, trouble

log = logging.getLogger("tenfold.valkey")

IN_FLIGHT = 2048
"""Commands that may be on their way to one server at once; the next ones wait in its line."""

LINE = 50_000
LINE_BYTES = 64 * 1024**2
"""Commands, and their bytes, that may wait for one server; the next ones fail at once."""

BATCH_BYTES = 256 * 1024
"""A batch ends when it has so many bytes: the kernel takes no more at once."""

BEAT_SECONDS = 0.5
"""How long a connection may be idle before it is asked whether it is alive."""

DEAD_SECONDS = 1.0
"""A connection on which nothing came for so long, though something was asked, is closed at the next beat: it may have
been us who did not look."""

LOOK_SECONDS, LOOK_SECONDS_EACH = 0.002, 5e-6
"""How long after a look for what has waited too long the next one is, and more for each command that waits: a server
that is gone, and ten thousand that wait for it, must not keep the loop busy. So much too late a deadline may be."""

SILENT_SECONDS = 0.1
"""When a deadline passes and nothing came for so long, the server counts as silent until something comes."""

PAUSE = backoff.Backoff(first_seconds=0.02, most_seconds=1.0)

TROUBLES = (OSError, TimeoutError, trouble.ValkeyError)


class Router(Protocol):
    """Who knows where else a command can go, and who must know that a server came or went."""

    account: greeting.Account

    def refused(self, asked: "Server", one: command.Command, error: trouble.Refused) -> None:
        """The server answered with an error: a redirect perhaps."""

    def pushed(self, channel: bytes, payload: bytes) -> None:
        """A message came."""

    def came(self, server: "Server") -> None:
        """A server can be used now."""

    def went(self, server: "Server", left: Sequence[command.Command], why: str) -> None:
        """A server cannot be used any more; these commands were on their way to it."""


class Server:
    """One server. Commands given to it are sent in their order."""

    def __init__(self, address: slots.Address, router: Router) -> None:
        self.address = address
        self.name = f"{address[0]}:{address[1]}"
        self.line: deque[command.Command] = deque()
        self.connection: connection.Connection | None = None
        self.is_cluster = False
        self.asked_channels: set[bytes] = set()
        self.channels: set[bytes] = set()
        """What this connection has been told to listen to, and has confirmed."""
        self.trouble = "it was not reached yet"
        """Why there is no connection."""
        self._router = router
        self._loop = asyncio.get_running_loop()
        self._line_bytes = 0
        self._is_flushing = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf
        self._closed = asyncio.Event()

    @property
    def is_well(self) -> bool:
        """Whether there is hope for a quick answer."""
        return self.connection is not None and not self.connection.is_silent

    def send(self, one: command.Command) -> None:
        """Send it with the next batch. Fails it at once when too much waits already."""
        if len(self.line) >= LINE or self._line_bytes > LINE_BYTES:
            one.fail(f"{len(self.line)} commands wait for {self.name} already")
            return
        self.line.append(one)
        self._line_bytes += one.size
        if not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self._flush)
        if one.until < self._alarm_at:
            self._wake_at(one.until)

    def take_line(self) -> list[command.Command]:
        """What waits here, for another server."""
        taken = [one for one in self.line if not one.future.done()]
        self.line.clear()
        self._line_bytes = 0
        return taken

    async def run(self) -> None:
        """Keep a connection up until cancelled."""
        tries = 0
        try:
            while True:
                try:
                    await self._hold()
                    tries = 0
                except TROUBLES as error:
                    self._cannot(error, is_new=tries == 0)
                tries += 1
                await asyncio.sleep(PAUSE.seconds(tries))
        finally:
            made, self.connection = self.connection, None
            if made is not None:
                made.abort("it is not needed any more")
            self._wake_at(math.inf)

    # What a connection tells its owner

    def refused(self, one: command.Command, error: trouble.Refused) -> None:
        self._router.refused(self, one, error)

    def pushed(self, channel: bytes, payload: bytes) -> None:
        self._router.pushed(channel, payload)

    def has_room(self) -> None:
        if self.line and not self._is_flushing:
            self._flush()

    def lost(self, left: Sequence[command.Command], why: str) -> None:
        self._closed.set()
        if self.connection is not None:
            self._gone(why)
        self._router.went(self, left, why)

    # The life of the connection

    async def _hold(self) -> None:
        """Connect, and return when the connection has ended."""
        self._closed.clear()
        made, said = await greeting.connect(self.address, self._router.account, lambda: self)
        if not made.is_open:
            return
        self.connection = made
        self.is_cluster = said.get(b"mode") == b"cluster"
        log.info("cache: %s is reached", self.name)
        self._router.came(self)
        self._flush()
        is_doubted = False
        while not self._closed.is_set():
            try:
                async with asyncio.timeout(BEAT_SECONDS):
                    await self._closed.wait()
            except TimeoutError:
                is_doubted = self._beat(made, is_doubted=is_doubted)

    def _beat(self, made: connection.Connection, *, is_doubted: bool) -> bool:
        """Ask an idle connection whether it is alive; close one that still has not answered. Whether it is in doubt."""
        idle_seconds = self._loop.time() - made.received_at
        if made.pending and idle_seconds > DEAD_SECONDS:
            if is_doubted:
                made.abort(f"nothing came from it for {idle_seconds:.1f} s")
            return True
        if not made.pending and made.is_open:
            made.received_at = self._loop.time()
            made.write([command.unheard(("PING",), math.inf)])
        return False

    def _gone(self, why: str) -> None:
        self.connection = None
        self.channels.clear()
        self.trouble = why
        log.warning("cache: %s is lost: %s", self.name, why)

    def _cannot(self, error: BaseException, *, is_new: bool) -> None:
        self.trouble = str(error) or type(error).__name__
        if is_new:
            log.warning("cache: %s cannot be used, and is tried again: %s", self.name, self.trouble)

    # Batches and deadlines

    def _flush(self) -> None:
        """Send what waits, as far as there is room."""
        self._is_flushing = False
        made = self.connection
        while made is not None and self.line and not made.is_paused and made.is_open:
            batch = self._batch(IN_FLIGHT - len(made.pending))
            if not batch:
                return
            made.write(batch)

    def _batch(self, room: int) -> list[command.Command]:
        """The first of the line, without those whose callers have gone."""
        line, batch, size = self.line, [], 0
        while line and room > 0 and size < BATCH_BYTES:
            one = line.popleft()
            self._line_bytes -= one.size
            if not one.future.done():
                batch.append(one)
                size += one.size
                room -= 1
        return batch

    def _wake_at(self, at: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = self._loop.call_at(at, self._expire) if at < math.inf else None

    def _expire(self) -> None:
        """Fail whatever has waited long enough. Those that were sent keep their place, for the answer to come."""
        now = self._loop.time()
        made = self.connection
        sent: Sequence[command.Command] = made.pending if made is not None else ()
        over = [one for one in (*sent, *self.line) if one.until <= now and not one.future.done()]
        for one in over:
            one.fail(f"{self.name} gave no answer in time" if one.is_sent else self._why_waiting())
        if made is not None and any(one.is_sent for one in over) and now - made.received_at > SILENT_SECONDS:
            made.is_silent = True
        self.line = deque(one for one in self.line if not one.future.done())
        self._line_bytes = sum(one.size for one in self.line)
        left = [one.until for one in (*sent, *self.line) if not one.future.done()]
        pause = LOOK_SECONDS + LOOK_SECONDS_EACH * len(left)
        self._wake_at(max(min(left, default=math.inf), now + pause))

    def _why_waiting(self) -> str:
        return f"{self.name}: {'too much was on its way' if self.connection is not None else self.trouble}"
