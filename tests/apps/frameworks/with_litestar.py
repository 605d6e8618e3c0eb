"""The frameworks' contract, written for Litestar. Served by tests/engines/test_frameworks.py."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Request, Response, WebSocket, asgi, get, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.config.allowed_hosts import AllowedHostsConfig
from litestar.config.compression import CompressionConfig
from litestar.config.cors import CORSConfig
from litestar.exceptions import WebSocketDisconnect
from litestar.logging import LoggingConfig
from litestar.response import ServerSentEvent, Stream
from litestar.types import Receive, Scope, Send

from tenfold import Tenfold, Transaction, current, errors

tf = Tenfold()


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    await tf.db.execute("delete from note")
    print("the app has started", flush=True)
    app.state.kept = "from the lifespan"
    yield
    await tf.db.fetchval("select count(*) from note")
    print("the app has stopped", flush=True)


@get("/", media_type="text/plain")
async def hello() -> str:
    return "hello"


@get("/state", media_type="text/plain")
async def state(request: Request[Any, Any, Any]) -> str:
    return str(request.app.state.kept)


@get("/trace", media_type="text/plain")
async def trace() -> str:
    serving = current()
    return serving.trace if serving else ""


@get("/sync-trace", media_type="text/plain", sync_to_thread=True)
def sync_trace() -> str:
    serving = current()
    return serving.trace if serving else ""


@get("/scheme", media_type="text/plain")
async def scheme(request: Request[Any, Any, Any]) -> str:
    return request.url.scheme


@get("/seconds", media_type="text/plain")
async def seconds() -> str:
    return str(tf.settings.request_seconds)


async def add(tx: Transaction, text: str) -> None:
    await tx.execute("insert into note (text) values ($1)", text)


@post("/notes", media_type="text/plain")
async def add_note(request: Request[Any, Any, Any]) -> str:
    await tf.db.run(add, (await request.body()).decode())
    return "noted"


@get("/notes")
async def notes() -> list[str]:
    return [row["text"] for row in await tf.db.fetch("select text from note order by text")]


@post("/late", status_code=202)
async def add_late(request: Request[Any, Any, Any]) -> Response[str]:
    text = (await request.body()).decode()
    return Response("later", media_type="text/plain", background=BackgroundTask(tf.db.run, add, text))


@post("/upload", media_type="text/plain", status_code=200, request_max_body_size=None)
async def upload(request: Request[Any, Any, Any]) -> str:
    digest = hashlib.sha256()
    async for part in request.stream():
        digest.update(part)
    return digest.hexdigest()


async def forever() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        print("what hung was cancelled", flush=True)


@get("/hang")
async def hang() -> None:
    await forever()


@post("/hang")
async def hang_with_body(request: Request[Any, Any, Any]) -> None:
    await request.body()
    await forever()


@get("/ticks")
async def ticks() -> ServerSentEvent:
    async def events() -> AsyncIterator[str]:
        try:
            for number in range(100):
                yield str(number)
                await asyncio.sleep(0.1)
        finally:
            print("the ticks have ended", flush=True)

    return ServerSentEvent(events())


@get("/lines")
async def lines() -> Stream:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(1000):
            yield b"line %d\n" % number

    return Stream(parts(), media_type="text/plain")


@get("/busy")
async def busy() -> None:
    raise errors.TryAgain("the database is busy", after_seconds=2)


@get("/fail")
async def fail() -> None:
    raise RuntimeError("it failed at once")


@get("/fail-late")
async def fail_late() -> Stream:
    async def parts() -> AsyncIterator[bytes]:
        yield b"a beginning"
        raise RuntimeError("it failed in the middle")

    return Stream(parts(), media_type="text/plain")


@websocket("/chat")
async def chat(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept("chat" if "chat" in socket.scope["subprotocols"] else None)
    try:
        while (text := await socket.receive_text()) != "bye":
            await socket.send_text(f"{text} on {socket.app.state.kept}")
        await socket.close(4001, "so long")
    except WebSocketDisconnect:
        pass
    finally:
        print("the chat has ended", flush=True)


within = Litestar([hello, trace], openapi_config=None)


@asgi("/inner", is_mount=True, copy_scope=True)
async def inner(scope: Scope, receive: Receive, send: Send) -> None:
    await within(scope, receive, send)


app = Litestar(
    [
        *(
            hello,
            state,
            scheme,
            seconds,
            trace,
            sync_trace,
            add_note,
            notes,
            add_late,
            upload,
            hang,
            hang_with_body,
        ),
        *(ticks, lines, busy, fail, fail_late, chat, inner),
    ],
    lifespan=[lifespan],
    allowed_hosts=AllowedHostsConfig(["shop.test"]),
    cors_config=CORSConfig(["https://elsewhere.test"]),
    compression_config=CompressionConfig("gzip", minimum_size=100),
    logging_config=LoggingConfig(log_exceptions="always", configure_root_logger=False),
    openapi_config=None,
)
