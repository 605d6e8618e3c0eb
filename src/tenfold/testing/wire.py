"""A TCP connection to PostgreSQL that goes through this process, so that it can be cut where it hurts: at a COMMIT.

Used by `run` and `stage`, backstage. Passes every byte on; it cuts the client's stream into the protocol's messages
(PostgreSQL's manual, "Message Formats") to know a COMMIT when it sees one. Connections are not encrypted.
"""

import asyncio
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

_STARTUP_CODES = range(80877102, 80877105)
"""Cancel, SSL and GSS requests: the ones before the start of a session."""

_COMMIT = re.compile(rb"(?:^|;)\s*(?:commit|end)\b", re.IGNORECASE)


class Frames:
    """One direction of a connection, cut into messages. `is_open`: past the messages that have no type."""

    def __init__(self, *, is_open: bool) -> None:
        self._is_open = is_open
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete now; the rest waits for more."""
        self._rest += data
        while (length := self._length()) is not None and len(self._rest) >= length:
            message, self._rest = self._rest[:length], self._rest[length:]
            if not self._is_open:
                self._is_open = struct.unpack_from("!I", message, 4)[0] not in _STARTUP_CODES
            yield message

    def _length(self) -> int | None:
        """Of the message at the beginning, with its type; None while that is not known."""
        typed = int(self._is_open)
        if len(self._rest) < 4 + typed:
            return None
        return int(struct.unpack_from("!I", self._rest, typed)[0]) + typed


def is_commit(message: bytes) -> bool:
    """Whether this message of a client holds a COMMIT: a query, or a statement that is prepared."""
    kind, body = message[:1], message[5:]
    if kind == b"P":
        body = body.partition(b"\0")[2]
    return kind in (b"Q", b"P") and _COMMIT.search(body) is not None


@dataclass(eq=False, slots=True)
class Loss:
    """One COMMIT that is to go wrong."""

    is_committed: bool
    """The server commits and its answer is lost; else the COMMIT never reaches the server."""
    has_happened: bool = False


@dataclass(eq=False, slots=True)
class Losses:
    """The COMMITs that are to go wrong, on whatever wire the next ones come by."""

    waiting: list[Loss] = field(default_factory=list)

    def take(self) -> Loss | None:
        """The next one, for a COMMIT that is here."""
        return self.waiting.pop(0) if self.waiting else None


class Wire:
    """Listens on an address of its own and passes connections on to `target`; without one they are refused."""

    def __init__(self, losses: Losses, listener: socket.socket | None = None) -> None:
        self.target: tuple[str, int] | None = None
        self._losses = losses
        self._listener = listener or _bound()
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._listener.getsockname()
        return host, port

    async def open(self) -> None:
        """Listen from now on."""
        self._server = await asyncio.start_server(self._serve, sock=self._listener)

    def lead_to(self, target: tuple[str, int] | None) -> None:
        """Another target from now on; connections to the old one are cut."""
        if target != self.target:
            self.target = target
            self.cut()

    def cut(self) -> None:
        """Reset every connection."""
        for link in list(self._links):
            link.cut()

    async def close(self) -> None:
        """Listen no more, and reset every connection."""
        self.cut()
        if self._server is not None:
            self._server.close()
        else:
            self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.target is None:
                raise ConnectionRefusedError
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(self._losses, reader, writer, far_reader, far_writer)
        self._links.add(link)
        try:
            await link.serve()
        finally:
            self._links.discard(link)


class _Link:
    """One connection through a wire."""

    def __init__(
        self,
        losses: Losses,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        self._losses = losses
        self._client, self._to_client = client, to_client
        self._server, self._to_server = server, to_server
        self._loss: Loss | None = None
        """A COMMIT was passed on whose answer is to be lost."""
        self._held = b""
        """What the server has answered since."""
        self._answers = Frames(is_open=True)

    async def serve(self) -> None:
        """Pass on what comes, both ways, until one side ends."""
        pumps = [asyncio.create_task(self._up()), asyncio.create_task(self._down())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self.cut()

    def cut(self) -> None:
        """Reset both sides."""
        for writer in (self._to_client, self._to_server):
            writer.transport.abort()

    async def _up(self) -> None:
        frames = Frames(is_open=False)
        with suppress(OSError):
            while data := await self._client.read(65536):
                for message in frames.feed(data):
                    if is_commit(message) and self._loss is None and (loss := self._losses.take()) is not None:
                        if not loss.is_committed:
                            loss.has_happened = True
                            return
                        self._loss, self._held, self._answers = loss, b"", Frames(is_open=True)
                    self._to_server.write(message)
                await self._to_server.drain()

    async def _down(self) -> None:
        with suppress(OSError):
            while data := await self._server.read(65536):
                if self._loss is None:
                    self._to_client.write(data)
                elif self._is_committed(self._loss, data):
                    return
                await self._to_client.drain()

    def _is_committed(self, loss: Loss, data: bytes) -> bool:
        """Hold the server's answer back until it is plain: a COMMIT's is lost, any other goes on to the client."""
        self._held += data
        for message in self._answers.feed(data):
            kind = message[:1]
            if kind == b"C" and message[5:].startswith(b"COMMIT"):
                loss.has_happened = True
                return True
            if kind == b"Z":
                self._losses.waiting.insert(0, loss)
                self._to_client.write(self._held)
                self._loss, self._held = None, b""
                return False
        return False


def _bound() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.bind(("127.0.0.1", 0))
    return made
