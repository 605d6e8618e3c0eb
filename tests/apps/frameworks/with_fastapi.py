"""The frameworks' contract, written for FastAPI. Served by tests/engines/test_frameworks.py."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated

from anyio import from_thread
from fastapi import BackgroundTasks, Depends, FastAPI, Request, Response, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import PlainTextResponse, StreamingResponse

from tenfold import Tenfold, Transaction, current, errors

tf = Tenfold()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, str]]:
    await tf.db.execute("delete from note")
    print("the app has started", flush=True)
    yield {"kept": "from the lifespan"}
    await tf.db.fetchval("select count(*) from note")
    print("the app has stopped", flush=True)


app = FastAPI(lifespan=lifespan)
app.add_middleware(GZipMiddleware, minimum_size=100)
app.add_middleware(CORSMiddleware, allow_origins=["https://elsewhere.test"])
app.add_middleware(TrustedHostMiddleware, allowed_hosts=["shop.test"])

inner = FastAPI()
app.mount("/inner", inner)

behind = FastAPI()
app.mount("/behind", behind)

Next = Callable[[Request], Awaitable[Response]]


@behind.middleware("http")
async def add_header(request: Request, call_next: Next) -> Response:
    """The kind of middleware that runs the app in a task of its own."""
    response = await call_next(request)
    response.headers["x-passed"] = "yes"
    return response


@app.get("/", response_class=PlainTextResponse)
async def hello() -> str:
    return "hello"


@app.get("/state", response_class=PlainTextResponse)
async def state(request: Request) -> str:
    return str(request.state.kept)


@app.get("/trace", response_class=PlainTextResponse)
@inner.get("/trace", response_class=PlainTextResponse)
@behind.get("/trace", response_class=PlainTextResponse)
async def trace() -> str:
    serving = current()
    return serving.trace if serving else ""


@app.get("/scheme", response_class=PlainTextResponse)
async def scheme(request: Request) -> str:
    return request.url.scheme


@app.get("/sync-trace", response_class=PlainTextResponse)
def sync_trace() -> str:
    """Runs in a thread of AnyIO's pool."""
    serving = current()
    return serving.trace if serving else ""


@app.get("/seconds", response_class=PlainTextResponse)
async def seconds() -> str:
    return str(tf.settings.request_seconds)


async def add(tx: Transaction, text: str) -> None:
    await tx.execute("insert into note (text) values ($1)", text)


@app.post("/inside", response_class=PlainTextResponse)
async def add_inside() -> str:
    async with tf.db.transaction() as tx:
        await add(tx, "by the transaction")
        try:
            await tf.db.execute("insert into note (text) values ('past it')")
        except errors.InsideTransaction as error:
            return str(error)
    return "both"


@app.get("/sync-notes")
def sync_notes() -> list[str]:
    rows = from_thread.run(tf.db.fetch, "select text from note order by text")
    return [row["text"] for row in rows]


async def text_of(request: Request) -> str:
    return (await request.body()).decode()


Text = Annotated[str, Depends(text_of)]


@app.post("/notes", status_code=201, response_class=PlainTextResponse)
@behind.post("/notes", status_code=201, response_class=PlainTextResponse)
async def add_note(text: Text) -> str:
    await tf.db.run(add, text)
    return "noted"


@app.get("/notes")
async def notes() -> list[str]:
    return [row["text"] for row in await tf.db.fetch("select text from note order by text")]


@app.post("/late", status_code=202, response_class=PlainTextResponse)
async def add_late(text: Text, tasks: BackgroundTasks) -> str:
    tasks.add_task(tf.db.run, add, text)
    return "later"


async def until_the_response_is_sent() -> AsyncIterator[Transaction]:
    async with tf.db.transaction() as tx:
        yield tx


async def until_the_function_returns() -> AsyncIterator[Transaction]:
    async with tf.db.transaction() as tx:
        yield tx


@app.post("/yielded-late", status_code=201, response_class=PlainTextResponse)
async def add_yielded_late(text: Text, tx: Annotated[Transaction, Depends(until_the_response_is_sent)]) -> str:
    await add(tx, text)
    return "noted, perhaps"


@app.post("/yielded", status_code=201, response_class=PlainTextResponse)
async def add_yielded(
    text: Text, tx: Annotated[Transaction, Depends(until_the_function_returns, scope="function")]
) -> str:
    await add(tx, text)
    return "noted"


@app.post("/upload", response_class=PlainTextResponse)
async def upload(request: Request) -> str:
    digest = hashlib.sha256()
    async for part in request.stream():
        digest.update(part)
    return digest.hexdigest()


@app.get("/hang")
@app.post("/hang")
@behind.get("/hang")
@behind.post("/hang")
async def hang() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        print("what hung was cancelled", flush=True)


@app.get("/ticks")
@behind.get("/ticks")
async def ticks() -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        try:
            for number in range(100):
                yield f"data: {number}\n\n"
                await asyncio.sleep(0.1)
        finally:
            print("the ticks have ended", flush=True)

    return StreamingResponse(events(), media_type="text/event-stream")


@app.get("/asking")
async def asking(request: Request) -> StreamingResponse:
    async def parts() -> AsyncIterator[str]:
        for number in range(5):
            if await request.is_disconnected():
                break
            yield f"{number}\n"
            await asyncio.sleep(0)

    return StreamingResponse(parts())


@app.get("/lines")
async def lines() -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(1000):
            yield b"line %d\n" % number

    return StreamingResponse(parts(), media_type="text/plain")


@app.get("/busy")
async def busy() -> None:
    raise errors.TryAgain("the database is busy", after_seconds=2)


@app.get("/fail")
async def fail() -> None:
    raise RuntimeError("it failed at once")


@app.get("/fail-late")
async def fail_late() -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"a beginning"
        raise RuntimeError("it failed in the middle")

    return StreamingResponse(parts(), media_type="text/plain")


@app.websocket("/chat")
async def chat(socket: WebSocket) -> None:
    await socket.accept("chat" if "chat" in socket.scope["subprotocols"] else None)
    try:
        while (text := await socket.receive_text()) != "bye":
            await socket.send_text(f"{text} on {socket.state.kept}")
        await socket.close(4001, "so long")
    finally:
        print("the chat has ended", flush=True)
