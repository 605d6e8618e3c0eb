"""A request's session, asked for in the ways of each framework, on the store in the process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import litestar
import pytest
from fastapi import Depends, FastAPI, Form
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from support import asgi
from tenfold import Session, Tenfold, bindings, errors
from tenfold.sdk import counters
from tenfold.sdk.asgi import protocol

pytestmark = pytest.mark.anyio

SERVICE = bindings.Service(name="shop", secret="ab" * 32)


def made() -> Tenfold:
    return Tenfold(database="postgres://app:x@127.0.0.1:1/shop", name="shop", secret=SERVICE.secret)


@asynccontextmanager
async def browser(
    tf: Tenfold, app: Any, url: str = "https://shop.test", **more: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app, on a `Tenfold` whose sessions alone are started."""
    tf.inflight.open()
    tf.sessions.update(bindings.Sessions(store="memory", **more), SERVICE)
    tf.inflight.entering = tf.sessions.entering
    transport = httpx.ASGITransport(tf.wrap(app), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=url) as client:
        yield client
    await tf.sessions.stop()
    tf.inflight.close()


async def test_a_dependency_of_fastapi_in_async_and_in_sync_handlers() -> None:
    tf, app = made(), FastAPI()
    visitor = Annotated[Session, Depends(tf.session)]

    @app.post("/login")
    async def login(session: visitor, name: Annotated[str, Form()]) -> dict[str, Any]:
        session.login(name)
        session["cart"] = []
        return {}

    @app.post("/add", dependencies=[Depends(tf.csrf)])
    def add(session: visitor, request: Request) -> dict[str, Any]:
        assert request.session is session
        session["cart"].append(1)
        return {}

    @app.get("/")
    async def page(session: visitor) -> dict[str, Any]:
        return {"csrf": session.csrf, "cart": session["cart"], "who": session.principal}

    async with browser(tf, app) as client:
        await client.post("/login", data={"name": "user-7"})
        token = (await client.get("/")).json()["csrf"]
        added = await client.post("/add", headers={"x-csrf-token": token})
        refused = await client.post("/add")
        found = (await client.get("/")).json()

    assert (200, 403) == (added.status_code, refused.status_code)
    assert ("user-7", [1]) == (found["who"], found["cart"])
    assert [] == [
        one for route in app.openapi()["paths"].values() for one in route.get("get", {}).get("parameters", [])
    ]


async def test_a_request_of_litestar_and_its_session() -> None:
    tf = made()

    @litestar.get("/")
    async def page(request: litestar.Request[Any, Any, Any]) -> dict[str, Any]:
        session = await tf.session(request)
        session["visits"] = session.get("visits", 0) + 1
        return {"visits": request.session["visits"], "csrf": session.csrf}

    @litestar.post("/form")
    async def form(request: litestar.Request[Any, Any, Any]) -> dict[str, Any]:
        await tf.csrf(request)
        return dict(await request.form())

    async with browser(tf, litestar.Litestar([page, form])) as client:
        visits = [(await client.get("/")).json() for _ in range(3)]
        sent = await client.post("/form", data={"csrf_token": visits[-1]["csrf"], "a": "1"})
        refused = await client.post("/form", data={"a": "1"})

    assert [1, 2, 3] == [one["visits"] for one in visits]
    assert ("1", 403) == (sent.json()["a"], refused.status_code)


async def test_a_bare_scope_and_nothing_at_all() -> None:
    tf = made()

    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        several = await asyncio.gather(tf.session(scope), tf.session(), tf.session(None))
        assert 1 == len({id(one) for one in several})
        assert scope["session"] is several[0]
        several[0]["n"] = several[0].get("n", 0) + 1
        await asgi.answer(send, body=str(several[0]["n"]).encode())

    async with browser(tf, app) as client:
        assert ["1", "2"] == [(await client.get("/")).text for _ in range(2)]


@pytest.mark.parametrize(("url", "is_secure"), [("https://shop.test", True), ("http://shop.test", False)])
async def test_the_cookie_names_the_service_and_is_secure_exactly_over_https(url: str, is_secure: bool) -> None:
    tf = made()

    async def page(request: Request) -> Response:
        (await tf.session(request))["a"] = 1
        return PlainTextResponse("")

    async with browser(tf, Starlette(routes=[Route("/", page)]), url, life_seconds=90) as client:
        (cookie,) = (await client.get("/")).headers.get_list("set-cookie")

    name, *attributes = cookie.split("; ")
    assert name.startswith("shop-session=")
    assert ["Max-Age=90", "Path=/", "HttpOnly", "SameSite=Lax", *(["Secure"] if is_secure else [])] == attributes


async def test_a_trace_shows_where_the_session_was_looked_for_and_kept() -> None:
    tf = made()

    async def page(request: Request) -> Response:
        session = await tf.session(request)
        session["n"] = session.get("n", 0) + 1
        return PlainTextResponse("")

    async with browser(tf, Starlette(routes=[Route("/", page)])) as client:
        await client.get("/")
        answer = await client.get("/", headers={"tenfold-debug": bindings.debug_key(SERVICE.secret)})

    trace = answer.headers["tenfold-trace"]
    assert "found in the store memory" in trace
    assert "the client gets its cookie" in trace
    assert client.cookies["shop-session"] not in trace


async def test_eager_sessions_are_there_for_code_that_knows_nothing_of_tenfold() -> None:
    tf = made()

    async def page(request: Request) -> Response:
        request.session["n"] = request.session.get("n", 0) + 1
        return PlainTextResponse(str(request.session["n"]))

    async with browser(tf, Starlette(routes=[Route("/", page)]), is_eager=True) as client:
        assert ["1", "2", "3"] == [(await client.get("/")).text for _ in range(3)]


async def test_what_is_changed_after_the_response_has_begun_is_an_error() -> None:
    tf, seen = made(), []

    async def page(request: Request) -> Response:
        session = await tf.session(request)

        async def body() -> AsyncIterator[bytes]:
            yield b"begun"
            try:
                session["a"] = 1
            except errors.MisuseError as error:
                seen.append(str(error))

        return StreamingResponse(body())

    async with browser(tf, Starlette(routes=[Route("/", page)])) as client:
        await client.get("/")

    assert "session['a'] = ...: the response has begun" in seen[0]


async def test_a_websocket_reads_its_session_and_changes_nothing() -> None:
    tf, found = made(), []

    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        session = await tf.session(scope)
        if scope["type"] == "http":
            session["a"] = 1
            await asgi.answer(send)
            return
        found.append(dict(session))
        session["a"] = 2

    async with browser(tf, app) as client:
        await client.get("/")
        cookie = f"shop-session={client.cookies['shop-session']}".encode()
        socket = {**asgi.scope("/", headers=[(b"cookie", cookie)]), "type": "websocket", "scheme": "wss"}
        with pytest.raises(errors.MisuseError, match="a WebSocket's session is read only"):
            await tf.wrap(app)(socket, nothing, nowhere)

    assert [{"a": 1}] == found


async def nothing() -> protocol.Message:
    raise AssertionError


async def nowhere(_: protocol.Message) -> None:
    raise AssertionError


async def test_a_store_of_ones_own_is_one_that_there_is() -> None:
    with pytest.raises(errors.MisuseError, match="'redis' found as the store, one of database, cache, token, memory"):
        Tenfold(database="postgres://app:x@127.0.0.1:1/shop", sessions="redis")


async def test_outside_a_request_and_before_the_start_it_says_what_to_do() -> None:
    tf = made()
    with pytest.raises(errors.MisuseError, match="outside a request"):
        await tf.session()

    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        for wrong, words in ((7, "int found"), ("x", "str found")):
            with pytest.raises(errors.MisuseError, match=words):
                await tf.session(wrong)
        await tf.sessions.stop()
        with pytest.raises(errors.NotStarted):
            await tf.session()
        await asgi.answer(send)

    async with browser(tf, app) as client:
        assert 200 == (await client.get("/")).status_code


async def test_another_session_middleware_is_not_fought_with() -> None:
    tf = made()

    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        scope["session"] = {}  # as Starlette's SessionMiddleware does
        with pytest.raises(errors.MisuseError, match="another session middleware"):
            await tf.session(scope)
        await asgi.answer(send, body=b"refused")

    async with browser(tf, app) as client:
        assert "refused" == (await client.get("/")).text


async def test_a_visitor_who_arrives_late_does_not_take_the_place_of_the_one_who_logged_in() -> None:
    """A request that was sent before the login's answer arrived, and that writes: its cookie would log the user out."""
    tf = made()

    async def page(request: Request) -> Response:
        session = await tf.session(request)
        if request.url.path == "/login":
            session.login("user-7")
        session["a"] = session.get("a", 0) + 1
        return PlainTextResponse(str(session.principal))

    routes = [Route("/login", page), Route("/", page)]
    async with browser(tf, Starlette(routes=routes)) as client:
        await client.get("/")
        late = f"shop-session={client.cookies['shop-session']}"
        await client.get("/login")
        before = counters.reading().get("sessions.dropped", 0)
        answer = await client.get("/", headers={"cookie": late})

    assert ("None", []) == (answer.text, answer.headers.get_list("set-cookie"))
    assert before + 1 == counters.reading()["sessions.dropped"]


async def test_the_process_forgets_who_came_least_recently_when_it_is_full() -> None:
    from tenfold.sdk.sessions import memory, records

    store = memory.MemoryStore(most_sessions=3)
    ids = [records.new_id() for _ in range(4)]
    for number, one in enumerate(ids):
        await store.create(one, records.Record({}, str(number), 1.0, 1.0, 9.0), is_precious=False)
        await store.load(records.Ticket(ids[0]), 2.0)

    found = [await store.load(records.Ticket(one), 2.0) for one in ids]
    assert ["0", None, "2", "3"] == [None if one is None else one.principal for one in found]
