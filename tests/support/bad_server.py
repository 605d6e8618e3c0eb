"""A small HTTP server over real sockets that does to its clients what a test says. For the load generator's tests.

It keeps orders in memory: `POST /orders {"reference"}` adds one, `GET /orders` lists those of the caller's cookie.
`rule` is asked first for every request and may do something else to it.
"""

import asyncio
import contextlib
import json
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    """Number of the connection it came on."""
    nth: int
    """Its number on that connection, from 1."""

    @property
    def reference(self) -> str:
        return json.loads(self.body)["reference"]

    @property
    def session(self) -> str:
        return dict(part.split("=", 1) for part in self.headers.get("cookie", "").split("; ") if part).get("who", "")


class Drop(Exception):  # noqa: N818 (an order, not an error)
    """Raised by a rule: close the connection without an answer, after sending `first`; with a reset or politely."""

    def __init__(self, first: bytes = b"", is_reset: bool = False) -> None:
        self.first = first
        self.is_reset = is_reset


Rule = Callable[[Seen], Awaitable[bytes | None]]


def answer(status: int = 200, body: object = None, headers: str = "") -> bytes:
    """The bytes of a response with a JSON body."""
    content = json.dumps(body).encode()
    return f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\n{headers}\r\n".encode() + content


async def obedient(seen: Seen) -> bytes | None:
    """The rule that leaves everything to the server."""


@dataclass
class BadServer:
    address: str
    port: int = 0
    rule: Rule = obedient
    orders: list[tuple[str, str]] = field(default_factory=list)
    """(session, reference) of every order kept."""
    requests: list[Seen] = field(default_factory=list)
    connections: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _idle: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    @property
    def counts(self) -> Counter[str]:
        """How often each reference was kept."""
        return Counter(reference for _, reference in self.orders)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["BadServer"]:
        server = await asyncio.start_server(self._accept, self.address, self.port, backlog=1000)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await server.wait_closed()

    def close_idle(self) -> None:
        """Close the kept connections that no request is on, as a server does after its keep-alive time."""
        for writer in self._idle:
            writer.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._converse(reader, writer, self.connections)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        nth = 0
        while True:
            nth += 1
            if nth > 1:
                self._idle.add(writer)
            try:
                seen = await self._read(reader, number, nth)
            finally:
                self._idle.discard(writer)
            if writer.is_closing():
                return  # closed while the request was on its way in: it was never worked on
            self.requests.append(seen)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            try:
                writer.write(await self.rule(seen) or self.obey(seen))
            except Drop as drop:
                await _drop(writer, drop)
                return
            finally:
                self.in_flight -= 1

    async def _read(self, reader: asyncio.StreamReader, number: int, nth: int) -> Seen:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        method, path, _ = first.split(" ")
        return Seen(method, path, headers, body, number, nth)

    def obey(self, seen: Seen) -> bytes:
        """What an honest server does."""
        session = seen.session or f"s{len(self.requests)}"
        cookie = "" if seen.session else f"set-cookie: who={session}; Path=/; HttpOnly\r\n"
        if seen.method == "POST" and seen.path == "/orders":
            self.orders.append((session, seen.reference))
            return answer(201, {"reference": seen.reference}, cookie + "x-tenfold-position: 0.1.1.A0\r\n")
        if seen.path == "/orders":
            return answer(200, [reference for who, reference in self.orders if who == session], cookie)
        return answer(200, {"path": seen.path}, cookie)


async def _drop(writer: asyncio.StreamWriter, drop: Drop) -> None:
    writer.write(drop.first)
    await writer.drain()
    if drop.is_reset:
        linger = struct.pack("ii", 1, 0)  # close with RST
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
