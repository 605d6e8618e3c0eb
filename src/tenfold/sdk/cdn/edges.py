"""The edges as this process tells them of purges: one connection to each, and what each has acknowledged.

Called by `delivery`. It decides nothing: who is told what, and when again, does `delivery`. What goes over the wire to
the address of each `bindings.cdn.nodes` (a private one, which no client reaches):

    PURGE / HTTP/1.1
    Host: NAME-OF-THE-EDGE
    Tenfold-Key: KEY                        the service's key for edges: another, or none: 403
    Tenfold-Purge: hard                     or `soft`: what is purged is stale from now on, and may serve its grace out
    Tenfold-Tags: product:1 catalogue       everything whose response named one of these in Surrogate-Key
    Tenfold-Urls: /product/1 /search?q=a,b  everything kept of these paths with queries, under any name of the service,
                                            in each of its variants (Vary), fetched by GET or HEAD
    Tenfold-Everything: 1                   everything that is kept

At least one of the last three is there, several add up. Their values are words with one space between two; a tag is
visible ASCII without spaces and commas; a URL is what stands in a request line, from its first slash, without spaces:
a comma in it is a comma. No line is longer than 8,192 bytes, no head longer than 16 KiB; there is no body. Connections
are kept open and used again, one request at a time.

    HTTP/1.1 200                            everything has been purged: whatever was kept before is not served any more
    Tenfold-Purged: 3                       how many objects that were, or -1 where the engine does not say
    Content-Length: N

What was asked for before a purge, and comes after it, is not kept either.

Anything but 200 is no acknowledgement: 400 for what was not understood, 403 for a wrong key, 503 while the edge starts.
The ordinary port of an edge answers PURGE with 405, and never looks at these headers.

An app's response says what an edge may do with it in `CDN-Cache-Control` (RFC 9213: `max-age=60,
stale-while-revalidate=30`, or `no-store`) and its tags in `Surrogate-Key`, words with one space between two, 8,000
bytes at most. The edge takes both away before a client sees the response. A request that carries a cookie whose name
begins with SERVICE-edge, or the header X-Tenfold-Position, goes to a web server without passing an edge.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from tenfold import bindings
from tenfold.sdk import counters
from tenfold.sdk.cdn import purges

log = logging.getLogger("tenfold.cdn")

ANSWER_SECONDS = 1.0
"""An edge that has not acknowledged within this has not acknowledged."""

HEAD_BYTES = 16 * 1024
"""An answer whose head is longer is not one of ours."""

MOST_BODY_BYTES = 64 * 1024

GONE = "nothing listens at its address"


Told = Mapping[str, "asyncio.Future[bool]"]
"""By edge whether it has acknowledged, once that is known."""


class RefusedError(Exception):
    """An edge has answered something else than 200, or no HTTP at all. Never leaves this module."""


@dataclass(slots=True)
class _Waiting:
    """Somebody who wants an edge to have forgotten something."""

    wanted: Sequence[purges.Purge]
    done: "asyncio.Future[bool]"


class Edge:
    """One edge. Purges that come while one is on its way go together with the next one."""

    def __init__(self, where: bindings.EdgeNode, key: str, *, is_near: bool) -> None:
        self.where = where
        self.key = key
        self.is_near = is_near
        self.trouble = ""
        """Why the last purge was not acknowledged; empty: it was."""
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def purge(self, wanted: Sequence[purges.Purge]) -> "asyncio.Future[bool]":
        """Tell it, whether anybody waits for that or not; the result is whether it has acknowledged."""
        loop = asyncio.get_running_loop()
        one = _Waiting(wanted, loop.create_future())
        self._waiting.append(one)
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run(), name=f"tenfold-cdn-{self.where.name}")
        return one.done

    def abandon(self) -> None:
        """Close its connection; who still waits is told that it did not acknowledge."""
        if self._task is not None:
            self._task.cancel()
        self._disconnect()

    async def stop(self) -> None:
        """`abandon`, and wait until that is done."""
        self.abandon()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        batch: list[_Waiting] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                is_done = await self._tell([purge for one in batch for purge in one.wanted])
                _answer(batch, is_done=is_done)
        finally:
            _answer([*batch, *self._waiting], is_done=False)

    async def _tell(self, wanted: list[purges.Purge]) -> bool:
        """Whether it has acknowledged all of it. With nothing at its address it holds nothing: that counts, unless
        it is in another region: then it may be the way there that is gone."""
        before = self.trouble
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._say_all(wanted)
            self.trouble = ""
        except ConnectionRefusedError as error:
            if self.is_near:
                self.trouble = GONE
                self._disconnect()
            else:
                self._failed(str(error))
        except TimeoutError:
            self._failed(f"no answer within {ANSWER_SECONDS:g} s")
        except (OSError, EOFError, RefusedError) as error:
            self._failed(str(error) or type(error).__name__)
        if self.trouble != before:
            log.log(*_news(self.where.name, self.trouble))
        return self.trouble in ("", GONE)

    async def _say_all(self, wanted: list[purges.Purge]) -> None:
        for purge in purges.together(wanted):
            for name, words in purges.lines(purge):
                await self._say(self._head(purge, f"{name}: {words}"))
                counters.add("cdn.purges_acknowledged")

    async def _say(self, head: bytes) -> None:
        """One request and its acknowledgement; a connection that was kept and is gone meanwhile is opened anew."""
        if self._streams is not None:
            with suppress(ConnectionError, EOFError):
                await self._ask(*self._streams, head)
                return
            self._disconnect()
        self._streams = await asyncio.open_connection(self.where.host, self.where.port, limit=HEAD_BYTES)
        await self._ask(*self._streams, head)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        writer.write(head)
        await writer.drain()
        try:
            answer = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise RefusedError("an answer without end found, HTTP expected") from error
        status, fields = _parsed(answer)
        length = fields.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MOST_BODY_BYTES:
            raise RefusedError(f"status {status} with a body of {length[:20]!r} bytes found, a short one expected")
        body = await reader.readexactly(int(length))
        if status != 200:
            reason = body.decode("latin-1").strip()[:80]
            raise RefusedError(f"status {status} found ({reason}), 200 expected")
        if fields.get(b"connection", b"").lower() == b"close":
            self._disconnect()

    def _head(self, purge: purges.Purge, line: str) -> bytes:
        how = "soft" if purge.is_soft else "hard"
        said = ("PURGE / HTTP/1.1", f"Host: {self.where.name}", f"Tenfold-Key: {self.key}", f"Tenfold-Purge: {how}")
        return "\r\n".join((*said, line, "", "")).encode("ascii")

    def _failed(self, trouble: str) -> None:
        self.trouble = trouble
        counters.add("cdn.purges_unacknowledged")
        self._disconnect()

    def _disconnect(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


class Edges:
    """Every edge that may hold something, of every region."""

    def __init__(self) -> None:
        self._by_name: dict[str, Edge] = {}

    def __bool__(self) -> bool:
        return bool(self._by_name)

    @property
    def names(self) -> frozenset[str]:
        """The edges' names."""
        return frozenset(self._by_name)

    @property
    def near(self) -> frozenset[str]:
        """The names of those in this process's own region."""
        return frozenset(name for name, edge in self._by_name.items() if edge.is_near)

    @property
    def troubles(self) -> dict[str, str]:
        """By edge why its last purge was not acknowledged."""
        return {name: edge.trouble for name, edge in self._by_name.items() if edge.trouble}

    def update(self, bound: bindings.Cdn, region: str) -> None:
        """Follow the bindings: who joins is told from now on, who is no longer named holds nothing any more."""
        wanted = {node.name: node for node in bound.nodes}
        for name, edge in list(self._by_name.items()):
            if wanted.get(name) != edge.where:
                self._by_name.pop(name).abandon()
        for name, node in wanted.items():
            known = self._by_name.get(name)
            if known is None:
                self._by_name[name] = Edge(node, bound.key, is_near=node.region == region)
            else:
                known.key = bound.key

    def send(self, wanted: Sequence[purges.Purge], only: Collection[str] | None = None) -> Told:
        """Purge at every edge, or at those of `only`, from this moment on: nobody needs to wait for it."""
        return {name: edge.purge(wanted) for name, edge in self._by_name.items() if only is None or name in only}

    async def tell(
        self, wanted: Sequence[purges.Purge], seconds: float = 2 * ANSWER_SECONDS, only: Collection[str] | None = None
    ) -> frozenset[str]:
        """`send`, and wait; returns who has not acknowledged in time."""
        return await missing(self.send(wanted, only), seconds)

    async def stop(self) -> None:
        """Close every connection. Twice is once."""
        edges, self._by_name = list(self._by_name.values()), {}
        await asyncio.gather(*(edge.stop() for edge in edges))


async def missing(told: Told, seconds: float) -> frozenset[str]:
    """Who of these has not acknowledged within so many seconds."""
    if told:
        await asyncio.wait(told.values(), timeout=seconds)
    return frozenset(name for name, done in told.items() if not (done.done() and done.result()))


def _answer(batch: list[_Waiting], *, is_done: bool) -> None:
    for one in batch:
        if not one.done.done():
            one.done.set_result(is_done)


def _parsed(head: bytes) -> tuple[int, dict[bytes, bytes]]:
    """The status and the fields of an answer's head."""
    first, *rest = head.split(b"\r\n")
    version, _, said = first.partition(b" ")
    if not version.startswith(b"HTTP/1.") or not said[:3].isdigit():
        raise RefusedError(f"{first[:40]!r} found, HTTP expected")
    pairs = (line.partition(b":") for line in rest if line)
    return int(said[:3]), {name.strip().lower(): value.strip() for name, _, value in pairs}


def _news(name: str, trouble: str) -> tuple[int, str]:
    """What the log hears when an edge's state is another one than before."""
    if not trouble:
        return logging.INFO, f"edge {name}: acknowledges purges"
    if trouble == GONE:
        return logging.INFO, f"edge {name}: {GONE}: it keeps nothing that could be old"
    return logging.WARNING, f"edge {name}: a purge was not acknowledged ({trouble}); it is sent again until it is"
