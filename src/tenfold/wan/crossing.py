"""One connection from one region to another: two ends, and what is on its way between them in each direction.

Made by `program` for each connection that comes. A cut is silence: what was sent stays on its way, and nobody is told.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from socket import SO_LINGER, SOL_SOCKET
from typing import cast

from tenfold.wan.lane import Lane

MOST_ON_THE_WAY = 8 * 1024**2
"""Bytes of one connection and direction that may be on their way: like the window of a connection, it bounds memory."""

EOF = b""
"""On its way like data: the sender has said all."""

RESET = None
"""On its way like data: the sender is gone."""

Sent = bytes | None

CONNECT_SECONDS = 10.0


class Pipe:
    """What goes one way. Keeps the order, whatever the lane says of times."""

    def __init__(self, lane: Lane, not_before: float, ended: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._lane = lane
        self._last = not_before
        self._ended = ended
        self._on_the_way: deque[tuple[float, Sent]] = deque()
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_full = False
        """Whether the receiver takes nothing at the moment."""
        self.is_over = False
        """Whether the receiver was told that the sender has said all."""
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None
        """None: the other end is not reached yet."""

    def send(self, data: Sent) -> None:
        """It arrives when the lane says, after everything sent before."""
        now = self._loop.time()
        if not self._on_the_way and self._lane.is_direct and self._last <= now and self.sink is not None:
            self._deliver(self.sink, data)
            return
        size = len(data) if data else 0
        self._last = max(self._last, self._lane.arrival(now, size))
        self._on_the_way.append((self._last, data))
        self._size += size
        self.regulate()
        self.look()

    def look(self) -> None:
        """Deliver what has arrived, and look again when the next does."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lane.is_cut:
            self._lane.waiting.add(self.look)
            return
        if self.sink is None:
            return
        now, size = self._loop.time(), self._size
        while self._on_the_way and self._on_the_way[0][0] <= now:
            _, data = self._on_the_way.popleft()
            self._size -= len(data) if data else 0
            self._deliver(self.sink, data)
        if size != self._size:
            self.regulate()
        if self._on_the_way:
            self._timer = self._loop.call_at(self._on_the_way[0][0], self.look)

    def fill(self, is_full: bool) -> None:
        """The receiver takes nothing at the moment, or takes more again."""
        self._is_full = is_full
        self.regulate()

    def regulate(self) -> None:
        """The sender is read from only while there is room."""
        if self.source is None or self.source.is_closing():
            return
        if self._is_full or self._size > MOST_ON_THE_WAY:
            self.source.pause_reading()
        elif not self.source.is_reading():
            self.source.resume_reading()

    def end(self) -> None:
        """Nothing arrives any more."""
        self._on_the_way.clear()
        self._lane.waiting.discard(self.look)
        if self._timer is not None:
            self._timer.cancel()

    def _deliver(self, sink: asyncio.Transport, data: Sent) -> None:
        if sink.is_closing():
            return
        if data is RESET:
            _reset(sink)
        elif data:
            self._lane.sent_bytes += len(data)
            sink.write(data)
        else:
            self.is_over = True
            sink.write_eof()
            self._ended()


class Crossing:
    """One connection. `forth` goes from who opened it to who is asked, `back` the other way."""

    def __init__(self, lanes: tuple[Lane, Lane], to: tuple[str, int], closed: "Callable[[Crossing], None]") -> None:
        loop = asyncio.get_running_loop()
        self._forth_lane, back_lane = lanes
        delay = self._forth_lane.delay_seconds
        # Opening a connection takes a round trip, and only then does the first byte leave.
        self.forth = Pipe(self._forth_lane, loop.time() + 3 * delay, self._ended)
        self.back = Pipe(back_lane, loop.time() + 4 * delay, self._ended)
        self._to = to
        self._closed = closed
        self._opening: asyncio.Task[None] | None = None
        self._left = 0
        self._is_over = False

    def opened(self, transport: asyncio.Transport) -> None:
        """Somebody asks."""
        self._forth_lane.open += 1
        self._forth_lane.opened += 1
        self.forth.source = self.back.sink = transport
        self._opening = asyncio.get_running_loop().create_task(self._open(), name="wan-open")

    def lost(self, *, is_asker: bool) -> None:
        """One end is gone: the other hears of it when the news arrives."""
        self._left += 1
        pipe = self.forth if is_asker else self.back
        if self._left == 2 or pipe.sink is None:
            self.close()
        else:
            pipe.send(RESET)

    def close(self) -> None:
        """It is over at both ends."""
        if self._is_over:
            return
        self._is_over = True
        self._closed(self)
        self._forth_lane.open -= 1
        if self._opening is not None:
            self._opening.cancel()
        for pipe in (self.forth, self.back):
            pipe.end()
            for transport in (pipe.source, pipe.sink):
                if transport is not None:
                    _reset(transport)

    def _ended(self) -> None:
        """Both have said all, and heard all: what is still to be written is written, and they part."""
        if self.forth.is_over and self.back.is_over:
            for transport in (self.forth.source, self.forth.sink):
                if transport is not None:
                    transport.close()

    async def _open(self) -> None:
        """Reach the other end, a delay later; a link that is cut is waited for."""
        lane, loop = self._forth_lane, asyncio.get_running_loop()
        await asyncio.sleep(lane.delay_seconds)
        await lane.passable.wait()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_connection(lambda: End(self, is_asker=False), *self._to)
        except OSError:  # nobody is there, or nobody takes it in time
            lane.refused += 1
            await asyncio.sleep(lane.delay_seconds)
            self._opening = None
            self.close()


class End(asyncio.Protocol):
    """One end of a crossing, as the event loop calls it."""

    def __init__(self, crossing: Crossing, *, is_asker: bool) -> None:
        self._crossing = crossing
        self._is_asker = is_asker
        self._out, self._in = (crossing.forth, crossing.back) if is_asker else (crossing.back, crossing.forth)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        made = cast(asyncio.Transport, transport)  # uvloop's is none of asyncio's classes
        if self._is_asker:
            self._crossing.opened(made)
            return
        self._out.source = self._in.sink = made
        self._in.look()

    def data_received(self, data: bytes) -> None:
        """Something is sent to the other end."""
        self._out.send(data)

    def eof_received(self) -> bool:
        """This end has said all; it may still be told something."""
        self._out.send(EOF)
        return True

    def pause_writing(self) -> None:
        """This end takes nothing at the moment."""
        self._in.fill(True)

    def resume_writing(self) -> None:
        """It takes more again."""
        self._in.fill(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """This end is gone."""
        self._crossing.lost(is_asker=self._is_asker)


def _reset(transport: asyncio.Transport) -> None:
    """The receiver hears that something broke, not that all was said (socket(7), SO_LINGER of 0)."""
    socket = transport.get_extra_info("socket")
    if socket is not None and not transport.is_closing():
        socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
