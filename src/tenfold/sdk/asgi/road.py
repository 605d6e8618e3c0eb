"""The way to the home region's balancers: HTTP/1.1 over connections that are kept for the next request.

Used by `exchange` for what `homeward` lets go. A request is written to one connection and never written again: it may
have been worked on, whatever became of its answer. A new connection costs one more round trip between the regions.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tenfold import bindings
from tenfold.sdk.asgi import homeward, protocol

CONNECT_SECONDS = 2.0
"""A balancer that has not taken the connection by then is passed by."""

IN_VAIN_SECONDS = 0.5
"""For so long a balancer that could not be reached is not tried again."""

KEEP_SECONDS = 4.0
"""How long a connection may have been idle to be used again: balancers close theirs after twice as long."""

MOST_KEPT = 64
"""Connections that are kept, to each balancer."""

HEAD_BYTES = 64 * 1024
PART_BYTES = 64 * 1024

BROKEN = (OSError, EOFError, ValueError, homeward.BadAnswerError, asyncio.LimitOverrunError)
"""What says that an answer does not come, or not to its end."""


class UnreachableError(Exception):
    """No balancer at home takes a connection: nothing was sent."""


class BrokenOffError(Exception):
    """The request was sent, and its answer does not come, or not to its end."""


@dataclass(slots=True)
class Door:
    """One balancer."""

    where: bindings.HomeDoor
    idle: "deque[Link]" = field(default_factory=deque)
    """The one that was used last is the last."""
    in_vain_until: float = 0.0


class Link:
    """One connection, with one request at a time."""

    def __init__(self, door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._door = door
        self._reader = reader
        self._writer = writer
        self._idle_since = 0.0

    @property
    def is_fresh(self) -> bool:
        """Whether another request may be written to it: nobody has closed it, and nobody is about to."""
        is_open = not self._reader.at_eof() and not self._writer.is_closing()
        return is_open and _now() - self._idle_since < KEEP_SECONDS

    async def ask(self, method: str, request: bytes) -> "Reply":
        """Write the request and read the head of its answer. Raises BrokenOffError."""
        headers: protocol.Headers = []
        try:
            self._writer.write(request)
            await self._writer.drain()
            status = 100
            while status < 200:  # interim answers are for us alone
                status, headers = homeward.parsed(await self._reader.readuntil(b"\r\n\r\n"))
        except BROKEN as error:
            self.drop()
            raise BrokenOffError(f"{self._door.where.name}: {error!r}") from error
        except BaseException:
            self.drop()
            raise
        return Reply(status, homeward.end_to_end(headers), self, _framing(method, status, headers))

    async def parts(self, framing: "Framing") -> AsyncIterator[bytes]:
        """The body, as it comes. Raises BrokenOffError. The connection is kept once all of it was read."""
        is_whole = False
        try:
            async for part in self._framed(framing):
                yield part
            is_whole = framing.may_keep
        except BROKEN as error:
            raise BrokenOffError(f"{self._door.where.name}: {error!r}") from error
        finally:
            if is_whole:
                self._keep()
            else:
                self.drop()

    def drop(self) -> None:
        """Close it at once."""
        self._writer.transport.abort()

    async def _framed(self, framing: "Framing") -> AsyncIterator[bytes]:
        if framing.is_chunked:
            while size := int((await self._reader.readuntil(b"\r\n")).partition(b";")[0], 16):
                async for part in self._exactly(size):
                    yield part
                await self._reader.readexactly(2)
            while await self._reader.readuntil(b"\r\n") != b"\r\n":
                pass
        elif framing.length is not None:
            async for part in self._exactly(framing.length):
                yield part
        else:
            while part := await self._reader.read(PART_BYTES):
                yield part

    async def _exactly(self, size: int) -> AsyncIterator[bytes]:
        while size:
            part = await self._reader.read(min(size, PART_BYTES))
            if not part:
                raise EOFError(f"{size} bytes were still to come")
            size -= len(part)
            yield part

    def _keep(self) -> None:
        self._idle_since = _now()
        if len(self._door.idle) < MOST_KEPT:
            self._door.idle.append(self)
        else:
            self.drop()


@dataclass(frozen=True, slots=True)
class Framing:
    """How the end of an answer's body is told (RFC 9112, 6.3)."""

    length: int | None
    """None: as long as it says by its chunks, or until the connection ends."""
    is_chunked: bool
    may_keep: bool
    """Whether the connection can be used again."""


@dataclass(slots=True)
class Reply:
    """An answer whose head is here."""

    status: int
    headers: protocol.Headers
    _link: Link
    _framing: Framing

    def parts(self) -> AsyncIterator[bytes]:
        """Its body, to be read to the end or closed (`aclosing`)."""
        return self._link.parts(self._framing)


class Road:
    """The home region's balancers, as one process asks them."""

    def __init__(self, doors: tuple[bindings.HomeDoor, ...]) -> None:
        self.where = doors
        self._doors = [Door(one) for one in doors]
        self._turn = 0

    async def link(self, until: float) -> Link:
        """A connection to one of them, before `until` (`loop.time()`). Raises UnreachableError: nothing was sent."""
        self._turn += 1
        first = self._turn % len(self._doors)
        doors = [*self._doors[first:], *self._doors[:first]]
        troubles = [f"{one.where.name} was tried a moment ago" for one in doors if _now() < one.in_vain_until]
        for door in doors:
            if (kept := _kept(door)) is not None:
                return kept
        for door in doors:
            if (now := _now()) < door.in_vain_until or now >= until:
                continue
            try:
                async with asyncio.timeout(min(CONNECT_SECONDS, until - now)):
                    streams = await asyncio.open_connection(door.where.host, door.where.port, limit=HEAD_BYTES)
                return Link(door, *streams)
            except (OSError, TimeoutError) as error:
                door.in_vain_until = _now() + IN_VAIN_SECONDS
                troubles.append(f"{door.where.name}: {error!r}")
        raise UnreachableError(", ".join(troubles) or "no time was left")

    def close(self) -> None:
        """Close what is idle. Requests under way end by themselves."""
        for door in self._doors:
            while door.idle:
                door.idle.pop().drop()


def to(doors: tuple[bindings.HomeDoor, ...], known: Road | None) -> Road | None:
    """The way to these balancers, the one that is known if it leads there; None: there is nowhere to go."""
    if known is not None and known.where == doors:
        return known
    if known is not None:
        known.close()
    return Road(doors) if doors else None


def _kept(door: Door) -> Link | None:
    while door.idle:
        found = door.idle.pop()
        if found.is_fresh:
            return found
        found.drop()
    return None


def _framing(method: str, status: int, headers: protocol.Headers) -> Framing:
    said = dict(headers)
    may_keep = b"close" not in said.get(b"connection", b"").lower()
    if method == "HEAD" or status in homeward.NO_BODY:
        return Framing(0, is_chunked=False, may_keep=may_keep)
    if b"transfer-encoding" in said:
        return Framing(None, is_chunked=True, may_keep=may_keep)
    length = said.get(b"content-length", b"")
    if length.isdigit():
        return Framing(int(length), is_chunked=False, may_keep=may_keep)
    return Framing(None, is_chunked=False, may_keep=False)


def _now() -> float:
    return asyncio.get_running_loop().time()
