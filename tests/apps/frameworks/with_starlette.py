"""The frameworks' contract, written for Starlette. Served by tests/engines/test_frameworks.py."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from tenfold import Tenfold, Transaction, current, errors

tf = Tenfold()


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[dict[str, str]]:
    await tf.db.execute("delete from note")
    print("the app has started", flush=True)
    yield {"kept": "from the lifespan"}
    await tf.db.fetchval("select count(*) from note")
    print("the app has stopped", flush=True)


async def hello(_: Request) -> Response:
    return PlainTextResponse("hello")


async def state(request: Request) -> Response:
    return PlainTextResponse(request.state.kept)


async def trace(_: Request) -> Response:
    serving = current()
    return PlainTextResponse(serving.trace if serving else "")


async def scheme(request: Request) -> Response:
    return PlainTextResponse(request.url.scheme)


async def seconds(_: Request) -> Response:
    return PlainTextResponse(str(tf.settings.request_seconds))


async def add_note(request: Request) -> Response:
    async def add(tx: Transaction, text: str) -> None:
        await tx.execute("insert into note (text) values ($1)", text)

    await tf.db.run(add, (await request.body()).decode())
    return PlainTextResponse("noted", 201)


async def notes(_: Request) -> Response:
    return JSONResponse([row["text"] for row in await tf.db.fetch("select text from note order by text")])


async def add_late(request: Request) -> Response:
    text = (await request.body()).decode()

    async def add() -> None:
        await tf.db.execute("insert into note (text) values ($1)", text)

    return PlainTextResponse("later", 202, background=BackgroundTask(add))


async def upload(request: Request) -> Response:
    digest = hashlib.sha256()
    async for part in request.stream():
        digest.update(part)
    return PlainTextResponse(digest.hexdigest())


async def hang(_: Request) -> Response:
    try:
        await asyncio.Event().wait()
    finally:
        print("what hung was cancelled", flush=True)
    return PlainTextResponse("never")


async def ticks(_: Request) -> Response:
    async def events() -> AsyncIterator[str]:
        try:
            for number in range(100):
                yield f"data: {number}\n\n"
                await asyncio.sleep(0.1)
        finally:
            print("the ticks have ended", flush=True)

    return StreamingResponse(events(), media_type="text/event-stream")


async def asking(request: Request) -> Response:
    async def parts() -> AsyncIterator[str]:
        for number in range(5):
            if await request.is_disconnected():
                break
            yield f"{number}\n"
            await asyncio.sleep(0)

    return StreamingResponse(parts())


async def lines(_: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(1000):
            yield b"line %d\n" % number

    return StreamingResponse(parts(), media_type="text/plain")


async def busy(_: Request) -> Response:
    raise errors.TryAgain("the database is busy", after_seconds=2)


async def fail(_: Request) -> Response:
    raise RuntimeError("it failed at once")


async def fail_late(_: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        yield b"a beginning"
        raise RuntimeError("it failed in the middle")

    return StreamingResponse(parts(), media_type="text/plain")


async def chat(socket: WebSocket) -> None:
    wanted = socket.scope["subprotocols"]
    await socket.accept("chat" if "chat" in wanted else None)
    try:
        while (text := await socket.receive_text()) != "bye":
            await socket.send_text(f"{text} on {socket.state.kept}")
        await socket.close(4001, "so long")
    finally:
        print("the chat has ended", flush=True)


inner = Starlette(routes=[Route("/trace", trace), Route("/hello", hello)])

app = Starlette(
    lifespan=lifespan,
    middleware=[
        Middleware(TrustedHostMiddleware, allowed_hosts=["shop.test"]),
        Middleware(CORSMiddleware, allow_origins=["https://elsewhere.test"]),
        Middleware(GZipMiddleware, minimum_size=100),
    ],
    routes=[
        Route("/", hello),
        Route("/state", state),
        Route("/trace", trace),
        Route("/scheme", scheme),
        Route("/seconds", seconds),
        Route("/busy", busy),
        Route("/notes", notes),
        Route("/notes", add_note, methods=["POST"]),
        Route("/late", add_late, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/hang", hang),
        Route("/hang", hang, methods=["POST"]),
        Route("/ticks", ticks),
        Route("/asking", asking),
        Route("/lines", lines),
        Route("/fail", fail),
        Route("/fail-late", fail_late),
        WebSocketRoute("/chat", chat),
        Mount("/inner", inner),
    ],
)
