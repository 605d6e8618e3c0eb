"""A small service behind real edges, in this process: its database, its web server, and visitors who pass a front door.

Used by tests/engines/test_purge*.py and benchmarks/purge.py. The front door here knows one rule of the real one: who
brings a bypass cookie is sent past the edges.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from support import edges, far_region, postgres_cluster, seats
from tenfold import Tenfold, Transaction, bindings, engines
from tenfold.engines import varnish
from tenfold.engines.varnish import settings
from tenfold.sdk.asgi import protocol
from tenfold.topology import layout

LIFE_SECONDS = 600
"""How long an edge keeps a page: nothing gets fresh again by itself during a test."""


@contextmanager
def machines(folder: Path, network: int, count: int = 2) -> Iterator[seats.Site]:
    """So many edges outside any event loop, for a module."""
    made = seats.Site(folder, edges.topology(edges=count), {"varnish": varnish.ENGINE}, network)

    async def start() -> None:
        await asyncio.gather(*(made.start(made.seat(f"edge-{one}", "varnish")) for one in range(1, count + 1)))

    async def stop() -> None:
        for server in list(made.powered):
            await made.cut(server)

    try:
        asyncio.run(start())
        yield made
    finally:
        asyncio.run(stop())


@dataclass
class Served:
    """The service while one test runs."""

    site: seats.Site
    cluster: postgres_cluster.Cluster
    tf: Tenfold
    origin: str
    edges: list[str]
    link: far_region.Link | None = None
    """The way to the last edge and the last replica, when they are in another region."""

    @asynccontextmanager
    async def visitor(self) -> AsyncIterator["Visitor"]:
        """Somebody with cookies of their own."""
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
            yield Visitor(self, client)

    def another(self) -> Tenfold:
        """Another process of the service, not started."""
        return tenfold(self.cluster, self.seats, link=self.link)

    @property
    def seats(self) -> list[engines.Seat]:
        """The edges'."""
        return _seats(self.site)


@dataclass
class Visitor:
    """A browser: it keeps its cookies, and the front door looks at them."""

    served: Served
    client: aiohttp.ClientSession
    cookies: dict[str, str] = field(default_factory=dict)
    is_bypassing: bool = False
    """Whether the last request went past the edges."""

    def __post_init__(self) -> None:
        self._turns = cycle(self.served.edges)

    async def stock(self, name: str) -> int:
        """What the page says."""
        return int((await self.ask("GET", f"/stock/{name}"))["left"])

    async def take(self, name: str) -> int:
        """Take one off the stock; returns what is left."""
        return int((await self.ask("POST", f"/stock/{name}"))["left"])

    async def ask(self, method: str, path: str) -> dict[str, str]:
        """One request, the way that the front door sends it."""
        self.is_bypassing = any(name.startswith("shop-edge") for name in self.cookies)
        past = self.is_bypassing or method != "GET"
        url = self.served.origin if past else next(self._turns)
        said = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
        async with self.client.request(method, url + path, headers=said) as response:
            for cookie in response.headers.getall("Set-Cookie", []):
                self._keep(cookie)
            assert 200 == response.status, await response.text()
            found: dict[str, str] = await response.json()
            return found

    def _keep(self, said: str) -> None:
        pair, *attributes = said.split("; ")
        name, _, value = pair.partition("=")
        if "Max-Age=0" in attributes:
            self.cookies.pop(name, None)
        else:
            self.cookies[name] = value


def application(tf: Tenfold) -> protocol.App:
    """Pages that anybody may see, and a way to change them."""

    async def show(request: Request) -> Response:
        name = request.path_params["name"]
        left = await tf.db.fetchval("select balance from account where name = $1", name)
        return tf.cdn.public(JSONResponse({"left": left}), max_age=LIFE_SECONDS, tags=[f"stock:{name}"])

    async def take(request: Request) -> Response:
        async def take_one(tx: Transaction, name: str) -> int:
            await tx.purge(tags=[f"stock:{name}"])
            left: int = await tx.fetchval(
                "update account set balance = balance - 1 where name = $1 returning balance", name
            )
            return left

        return JSONResponse({"left": await tf.db.run(take_one, request.path_params["name"])})

    routes = [Route("/stock/{name}", show), Route("/stock/{name}", take, methods=["POST"])]
    return tf.wrap(Starlette(routes=routes))


def tenfold(
    cluster: postgres_cluster.Cluster,
    told: list[engines.Seat],
    key: str = edges.KEY,
    link: far_region.Link | None = None,
) -> Tenfold:
    """The service's, as one beside infrastructure of its own; with a link the last edge and replica are behind it."""
    urls = [
        f"postgres://{postgres_cluster.USER}:{postgres_cluster.PASSWORD}@{one.host}:{one.port}/{postgres_cluster.DATABASE}"
        for one in cluster.servers
    ]
    cdn = [f"edge://:{key}@{seat.address}:{layout.PURGE_PORT}" for seat in told]
    made = Tenfold(database=urls, cdn=cdn, name="shop")
    return made if link is None else _apart(made, cluster, link)


def _apart(made: Tenfold, cluster: postgres_cluster.Cluster, link: far_region.Link) -> Tenfold:
    """The same as the runtime tells it with two regions."""
    assert made._database is not None
    assert made._cdn is not None
    *near, far = (one.node for one in cluster.servers)
    there = msgspec.structs.replace(far, host=link.seen(far.host), region=far_region.FAR)
    shard = bindings.Shard(nodes=(*near, there))
    made._database = msgspec.structs.replace(made._database, shards=(shard,))
    *close, last = made._cdn.nodes
    distant = msgspec.structs.replace(last, host=link.seen(last.host), region=far_region.FAR)
    made._cdn = msgspec.structs.replace(made._cdn, nodes=(*close, distant))
    return made


@asynccontextmanager
async def serving(
    site: seats.Site, cluster: postgres_cluster.Cluster, link: far_region.Link | None = None
) -> AsyncIterator[Served]:
    """The service behind these edges, which are empty and have been told apart from any before."""
    addresses = [one.address(site.network) for one in layout.layout(site.topology).balancers]
    told = _seats(site)
    tf = tenfold(cluster, told, link=link)
    runner = web.AppRunner(_bridge(application(tf)), access_log=None)
    async with tf:
        await runner.setup()
        try:
            for address in addresses:
                await web.TCPSite(runner, address, layout.ORIGIN_PORT).start()
            edge_urls = [f"http://{seat.address}:{seat.process.port}" for seat in told]
            yield Served(site, cluster, tf, f"http://{addresses[0]}:{layout.ORIGIN_PORT}", edge_urls, link)
        finally:
            await runner.cleanup()


def _seats(site: seats.Site) -> list[engines.Seat]:
    return [site.seat(one.name, "varnish") for one in layout.layout(site.topology).running("varnish")]


def _bridge(app: protocol.App) -> web.Application:
    """An ASGI app behind aiohttp's server, for short answers."""

    async def answer(request: web.Request) -> web.Response:
        if request.path == settings.ORIGIN_PATH:
            return web.Response()
        body = await request.read()
        messages: list[protocol.Message] = []

        async def receive() -> protocol.Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: protocol.Message) -> None:
            messages.append(message)

        await app(_scope(request), receive, send)
        start, *rest = messages
        response = web.Response(status=start["status"], body=b"".join(one.get("body", b"") for one in rest))
        for name, value in start["headers"]:
            if name.lower() == b"content-type":
                response.headers[name.decode()] = value.decode()
            elif name.lower() != b"content-length":
                response.headers.add(name.decode(), value.decode())
        return response

    made = web.Application()
    made.router.add_route("*", "/{path:.*}", answer)
    return made


def _scope(request: web.Request) -> protocol.Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.raw_path.encode(),
        "root_path": "",
        "query_string": request.query_string.encode(),
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", layout.ORIGIN_PORT),
    }
