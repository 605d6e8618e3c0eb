"""Real edges for tests, and the origins behind them, whose every answer a test writes itself.

    with edges.running(folder, network=13) as machines:            # one edge with two origins, for a module
        async with edges.used(machines) as edge:                   # for one test
            edge.answer("/a", {"Cache-Control": "max-age=60"})
            first = await edge.get("/a")

Each edge runs in a PID namespace (kit/enclosure), so that nothing survives the test.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy

from support import seats
from tenfold import engines
from tenfold.engines import varnish
from tenfold.engines.varnish import settings
from tenfold.kit import clock
from tenfold.topology import layout, tiers

Headers = Mapping[str, str] | Sequence[tuple[str, str]]

KEY = seats.PASSWORDS.edge


@dataclass
class Answer:
    """What the origins say at a path."""

    headers: Headers
    body: bytes
    status: int
    gate: asyncio.Event | None
    """What an answer waits for; None: for nothing."""


@dataclass(frozen=True)
class Got:
    """What a client was answered."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def number(self) -> int:
        """Which answer of the origins to this path it is: two with the same number are one that was kept."""
        return int(self.headers.get("Number", "0"))


@dataclass
class Origins:
    """The balancers' private doors, as far as an edge knows them."""

    answers: dict[str, Answer] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    """Requests by path."""
    seen: list[tuple[str, str, CIMultiDict[str]]] = field(default_factory=list)
    """Every request: method, path and headers."""
    running: Counter[str] = field(default_factory=Counter)
    """By path, requests that are being answered."""
    last: dict[str, str] = field(default_factory=dict)
    """By path, the address that was asked last."""
    open: dict[str, asyncio.Server] = field(default_factory=dict)
    _talks: dict[str, dict[asyncio.StreamWriter, asyncio.Future[None]]] = field(default_factory=dict)

    async def start(self, address: str) -> None:
        """Answer at an address."""
        self._talks[address] = {}

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            over = self._talks[address][writer] = asyncio.get_running_loop().create_future()
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._talk(address, reader, writer)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self._talks.get(address, {}).pop(writer, None)
            over.set_result(None)

        self.open[address] = await asyncio.start_server(talk, address, layout.ORIGIN_PORT)

    async def stop(self, *addresses: str) -> None:
        """Be gone at once; without an address: all of them."""
        for address in addresses or tuple(self.open):
            self.open.pop(address).close()
            for _ in range(3):  # a connection that came a moment ago is begun, so that it can be ended
                await asyncio.sleep(0)
            talks = self._talks.pop(address)
            for writer in talks:
                writer.transport.abort()
            for answer in self.answers.values():
                if answer.gate is not None:
                    answer.gate.set()
            await asyncio.gather(*talks.values())

    async def _talk(self, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            first, *lines = head.decode("latin-1").split("\r\n")[:-2]
            method, path, _ = first.split(" ")
            headers = CIMultiDict([(name, value.strip()) for name, _, value in (one.partition(":") for one in lines)])
            await reader.readexactly(int(headers.get("Content-Length", "0")))
            if path == settings.ORIGIN_PATH:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            self.last[path] = address
            writer.write(await self._answer(method, path, headers))
            await writer.drain()

    async def _answer(self, method: str, path: str, headers: CIMultiDict[str]) -> bytes:
        self.asked[path] += 1
        number = self.asked[path]
        self.seen.append((method, path, headers))
        found = self.answers.get(path, Answer({}, b"nothing is said here", 404, None))
        self.running[path] += 1
        if found.gate is not None:
            await found.gate.wait()
        self.running[path] -= 1
        pairs = found.headers.items() if isinstance(found.headers, Mapping) else found.headers
        lines = [f"HTTP/1.1 {found.status} Said", f"Number: {number}", f"Content-Length: {len(found.body)}"]
        lines += [f"{name}: {value}" for name, value in pairs]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if method == "HEAD" else found.body)


@dataclass
class Edges:
    """One edge with its origins, and a client."""

    machines: seats.Site
    seat: engines.Seat
    origins: Origins
    client: aiohttp.ClientSession

    @property
    def url(self) -> str:
        """Where the edge is."""
        return f"http://{self.seat.address}:{self.seat.process.port}"

    @property
    def origin_addresses(self) -> list[str]:
        """Where its origins are."""
        return [one.address(self.seat.network) for one in self.seat.layout.balancers]

    def answer(
        self, path: str, headers: Headers, body: bytes = b"hello", status: int = 200, gate: asyncio.Event | None = None
    ) -> None:
        """Let the origins answer so from now on."""
        self.origins.answers[path] = Answer(headers, body, status, gate)

    async def get(self, path: str, headers: Headers = (), method: str = "GET") -> Got:
        """Ask the edge as a client."""
        async with self.client.request(
            method, self.url + path, headers=CIMultiDict(headers), allow_redirects=False
        ) as response:
            return Got(response.status, response.headers, await response.read())

    async def is_kept(self, path: str, headers: Headers = ()) -> bool:
        """Whether two requests get one answer."""
        return (await self.get(path, headers)).number == (await self.get(path, headers)).number

    async def purge(self, *, tags: str = "", urls: str = "", soft: bool = False, **headers: str) -> Got:
        """Tell it to forget, as the SDK does."""
        said = {"Tenfold-Key": KEY, "Tenfold-Purge": "soft" if soft else "hard"}
        said |= {"Tenfold-Tags": tags} if tags else {}
        said |= {"Tenfold-Urls": urls} if urls else {}
        said |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.say("PURGE", {name: value for name, value in said.items() if value})

    async def say(self, method: str, headers: Headers, path: str = "/") -> Got:
        """Something on the private port."""
        url = f"http://{self.seat.address}:{layout.PURGE_PORT}{path}"
        async with self.client.request(method, url, headers=CIMultiDict(headers)) as response:
            return Got(response.status, response.headers, await response.read())

    async def until_origins_are(self, *, healthy: bool) -> None:
        """Return when the edge has noticed: it asks every one of them that is open, or none."""
        paths = (f"/-/noticed-{id(self.origins)}-{number}" for number in itertools.count())

        async def look() -> bool:
            path = next(paths)
            status = (await self.get(path)).status
            asked.add(self.origins.last.get(path, ""))
            return asked >= set(self.origins.open) if healthy else status == 503

        asked: set[str] = set()
        assert await clock.until(look, seconds=20, pause_seconds=0.02)


def topology(balancers: int = 2, **cdn: Any) -> tiers.Topology:
    """A shop with an edge, or more, in the words of the file."""
    return seats.topology(sections={"balancer": {"servers": balancers}, "cdn": {"edges": 1, **cdn}})


@contextmanager
def running(folder: Path, network: int, wanted: tiers.Topology | None = None) -> Iterator[seats.Site]:
    """An edge outside any event loop, so that many tests can share it."""

    async def start() -> seats.Site:
        made = seats.Site(folder, wanted or topology(), {"varnish": varnish.ENGINE}, network)
        await made.start(made.seat("edge-1", "varnish"))
        return made

    async def stop() -> None:
        for server in list(made.powered):
            await made.cut(server)

    made = asyncio.run(start())
    try:
        yield made
    finally:
        asyncio.run(stop())


@asynccontextmanager
async def used(machines: seats.Site) -> AsyncIterator[Edges]:
    """An edge that runs, empty, with origins of this test alone."""
    origins = Origins()
    connector = aiohttp.TCPConnector(limit=0)
    options: dict[str, Any] = {"auto_decompress": False, "max_field_size": 2**17, "max_line_size": 2**17}
    async with aiohttp.ClientSession(connector=connector, **options) as client:
        made = Edges(machines, machines.seat("edge-1", "varnish"), origins, client)
        try:
            for address in made.origin_addresses:
                await origins.start(address)
            await made.until_origins_are(healthy=True)
            assert (await made.purge(Tenfold_Everything="1")).status == 200
            yield made
        finally:
            await origins.stop()
