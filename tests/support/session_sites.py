"""Web servers of a service with sessions, in this process, over real stores; and visitors with cookies of their own.

Used by tests/engines/test_session*.py. Each `Web` is a `Tenfold` of its own, as each web server has one.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tenfold import Tenfold, bindings
from tenfold.kit import clock
from tenfold.sdk.asgi import wrap

SERVICE = bindings.Service(name="shop", secret="ab" * 32)


class Web:
    """One web server. `gate` and `arrived` hold requests to /slow in their handler."""

    def __init__(self, database: bindings.Database, cache: bindings.Cache, store: str, **more: Any) -> None:
        self.tf = Tenfold()
        self.gate, self.arrived = asyncio.Event(), asyncio.Semaphore(0)
        self._told = bindings.Bindings(
            service=SERVICE, database=database, cache=cache, sessions=bindings.Sessions(store=store, **more)
        )
        pages = [name for name in dir(self) if name.startswith("page_")]
        routes = [Route(f"/{one[5:]}", getattr(self, one), methods=["GET", "POST"]) for one in pages]
        self.app: wrap.Wrapped = self.tf.wrap(Starlette(routes=routes))

    async def start(self) -> None:
        tf = self.tf
        tf._database, tf._cache = self._told.database, self._told.cache
        tf._given.fields.update(name=SERVICE.name, secret=SERVICE.secret)
        await tf.start()
        self.use(self._told.sessions)
        if self._told.cache.nodes:

            async def is_whole() -> bool:
                return tf.valkey.is_whole

            assert await clock.until(is_whole, seconds=20, pause_seconds=0.01)

    def use(self, sessions: bindings.Sessions) -> None:
        """From now on, as if the bindings had changed."""
        self.tf.sessions.update(sessions, self.tf.settings.service)
        self.tf.inflight.entering = self.tf.sessions.entering

    def visitor(self, cookies: httpx.Cookies | None = None) -> httpx.AsyncClient:
        """A browser; with the cookies of another one it is that one, at this web server."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        made = httpx.AsyncClient(transport=transport, base_url="https://shop.test", timeout=30)
        if cookies is not None:
            made.cookies.jar = cookies.jar
        return made

    async def page_read(self, request: Request) -> Response:
        session = await self.tf.session(request)
        assert request.session is session
        return JSONResponse({"fields": dict(session), "principal": session.principal, "is_new": session.is_new})

    async def page_put(self, request: Request) -> Response:
        session = await self.tf.session(request)
        session.update(request.query_params)
        return Response(status_code=int(request.query_params.get("status", 204)))

    async def page_append(self, request: Request) -> Response:
        session = await self.tf.session(request)
        session.setdefault("cart", []).append(int(request.query_params["item"]))
        return Response(status_code=204)

    async def page_slow(self, request: Request) -> Response:
        session = await self.tf.session(request)
        self.arrived.release()
        await self.gate.wait()
        if "login" in request.query_params:
            session.login(request.query_params["login"])
        else:
            session.update(request.query_params)
        return Response(status_code=204)

    async def page_login(self, request: Request) -> Response:
        (await self.tf.session(request)).login(request.query_params["as"])
        return Response(status_code=204)

    async def page_logout(self, request: Request) -> Response:
        (await self.tf.session(request)).end()
        return Response(status_code=204)

    async def page_note(self, request: Request) -> Response:
        """An API of clients without cookies."""
        await self.tf.remember(request.query_params["as"])
        if request.method == "POST":
            await self.tf.db.execute("insert into effect (name) values ($1)", request.query_params["text"])
        names = await self.tf.db.fetch("select name from effect order by id")
        return JSONResponse([row[0] for row in names])

    async def page_inside(self, request: Request) -> Response:
        """The response begins while a transaction is open, as with a FastAPI `yield` dependency."""
        (await self.tf.session(request))["inside"] = "1"
        async with self.tf.db.transaction() as tx:
            await tx.execute("insert into effect (name) values ('inside')")
            await Response(status_code=204)(request.scope, request.receive, request._send)
        return _Sent()

    async def page_plain(self, request: Request) -> Response:
        return Response(status_code=204)

    async def page_form(self, request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse((await self.tf.session(request)).csrf)
        await self.tf.csrf(request)
        return JSONResponse(dict(await request.form()))


class _Sent(Response):
    """What a handler returns that has sent its response."""

    async def __call__(self, *_: object) -> None:
        pass


@asynccontextmanager
async def webs(
    database: bindings.Database, cache: bindings.Cache, store: str, count: int = 1, **more: Any
) -> AsyncIterator[Sequence[Web]]:
    """So many web servers of one service."""
    made = [Web(database, cache, store, **more) for _ in range(count)]
    try:
        for one in made:
            await one.start()
        yield made
    finally:
        for one in made:
            await one.tf.stop()


def session_cookie(visitor: httpx.AsyncClient) -> str | None:
    """The session's cookie that this visitor has."""
    return next((one.value for one in visitor.cookies.jar if one.name == "shop-session"), None)


def stolen(visitor: httpx.AsyncClient) -> httpx.Cookies:
    """The session's cookie alone, as somebody else would use it: without the positions."""
    cookies = httpx.Cookies()
    cookies.set("shop-session", session_cookie(visitor) or "", domain="shop.test")
    return cookies
