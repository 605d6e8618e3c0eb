"""A TCP proxy that counts bytes and cuts connections at a chosen one.

Used by tests of the SDK that lose answers on purpose. Both sides see the cut at once, as when a peer resets.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tenfold.kit import clock


@dataclass(eq=False, slots=True)
class Link:
    """One proxied connection: what went through it, and where it will be cut."""

    to_server: int = 0
    """Bytes that the server was sent."""
    to_client: int = 0
    cut_to_server: int | None = None
    """Cut when so many bytes have gone to the server (0: before the next one); None: never."""
    cut_to_client: int | None = None
    is_cut: bool = False
    is_stalled: bool = False
    """Nothing passes any more, and nobody is told."""
    marked: tuple[int, int] = (0, 0)
    """How much had gone to the server and to the client when the cut was armed here."""
    transports: list[asyncio.StreamWriter] = field(default_factory=list)

    def cut_after(self, *, to_server: int | None = None, to_client: int | None = None) -> None:
        """Cut when so many more bytes have passed."""
        self.cut_to_server = None if to_server is None else self.to_server + to_server
        self.cut_to_client = None if to_client is None else self.to_client + to_client

    def cut(self) -> None:
        """Reset both sides now."""
        self.is_cut = True
        for writer in self.transports:
            writer.transport.abort()


@dataclass(eq=False, slots=True)
class Proxy:
    """Listens on `host:port`, forwards to `target`; `links` holds the open connections, oldest first."""

    host: str
    port: int
    target: tuple[str, int]
    links: list[Link] = field(default_factory=list)
    watch: bytes | None = None
    """The bytes in a message to the server that arm the cut."""
    armed: dict[str, int] = field(default_factory=dict)
    """What `Link.cut_after` is called with for the link that carries `watch`; used once."""
    is_closed: bool = False
    """Nobody is let in."""
    last_cut: Link | None = None
    """The link that the armed cut fell on."""

    def arm(self, watch: bytes, *, to_server: int | None = None, to_client: int | None = None) -> None:
        """Cut the next link that carries `watch`, so many bytes after it: counted from where its message begins."""
        self.watch = watch
        self.armed = {k: v for k, v in (("to_server", to_server), ("to_client", to_client)) if v is not None}
        self.last_cut = None

    def disarm(self) -> None:
        """Let everything pass."""
        self.watch = None
        self.armed = {}

    def close(self) -> None:
        """Reset every open connection and let nobody in."""
        self.is_closed = True
        self.cut_all()

    def cut_all(self) -> None:
        """Reset every open connection."""
        for link in list(self.links):
            link.cut()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        link = Link()
        if self.is_closed:
            writer.transport.abort()
            return
        try:
            upstream_reader, upstream = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        link.transports += [writer, upstream]
        self.links.append(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(link, reader, upstream, is_to_server=True))
                group.create_task(self._pump(link, upstream_reader, writer, is_to_server=False))
        finally:
            self.links.remove(link)
            for one in (writer, upstream):
                one.transport.abort()

    async def _pump(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_to_server: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if is_to_server:
                    self._notice(link, data)
                if link.is_stalled:
                    continue
                if not self._forward(link, writer, data, is_to_server=is_to_server):
                    return
                await writer.drain()
        link.cut()

    def _notice(self, link: Link, data: bytes) -> None:
        if self.watch is not None and self.watch in data:
            link.marked = (link.to_server, link.to_client)
            link.cut_after(**self.armed)
            self.disarm()
            self.last_cut = link

    def _forward(self, link: Link, writer: asyncio.StreamWriter, data: bytes, *, is_to_server: bool) -> bool:
        """Pass the bytes on, or the part of them before the cut; False when the link was cut."""
        limit = link.cut_to_server if is_to_server else link.cut_to_client
        done = link.to_server if is_to_server else link.to_client
        passed = data if limit is None else data[: max(0, limit - done)]
        if passed:
            writer.write(passed)
        if is_to_server:
            link.to_server += len(passed)
        else:
            link.to_client += len(passed)
        if limit is not None and done + len(data) >= limit:
            # A reset would overtake bytes that the kernel still holds: end this side in order, reset the other.
            writer.close()
            link.is_cut = True
            for other in link.transports:
                if other is not writer:
                    other.transport.abort()
            return False
        return True


@asynccontextmanager
async def proxy(host: str, port: int, target: tuple[str, int]) -> AsyncIterator[Proxy]:
    """A proxy that runs; gone afterwards with all its connections."""
    made = Proxy(host, port, target)
    server = await asyncio.start_server(made.serve, host, port)
    try:
        yield made
    finally:
        server.close()
        made.cut_all()
        await server.wait_closed()

        async def is_empty() -> bool:
            return not made.links

        assert await clock.until(is_empty, seconds=5, pause_seconds=0.005)
