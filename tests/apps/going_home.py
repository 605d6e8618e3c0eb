"""An app whose GETs write, each in another way; every row says which region wrote it.

Served in two regions by tests/engines/test_going_home.py.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import BackgroundTasks, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware

from tenfold import Tenfold, Transaction

REGION = os.environ["APP_REGION"]
KEPT: set["asyncio.Task[None]"] = set()

tf = Tenfold()
app = FastAPI()


class Timing(BaseHTTPMiddleware):
    """As many apps have one: it runs the app in a task of its own."""

    async def dispatch(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        response.headers["x-timed"] = "1"
        return response


app.add_middleware(Timing)


async def write(name: str) -> None:
    await tf.db.execute("insert into effect (name) values ($1)", f"{name} by {REGION}")


@app.get("/read")
async def read() -> str:
    await tf.db.fetchval("select count(*) from effect")
    return REGION


@app.get("/many/{name}")
async def many(name: str, response: Response) -> str:
    response.headers["x-app"] = "yes"
    response.set_cookie("basket", name)
    async with tf.db.transaction() as tx:
        for number in range(10):
            await tx.execute("insert into effect (name) values ($1)", f"{name} {number} by {REGION}")
    return REGION


@app.get("/sync/{name}")
def sync(name: str) -> str:
    import anyio.from_thread

    anyio.from_thread.run(write, name)
    return REGION


@app.get("/swallowed/{name}")
async def swallowed(name: str) -> str:
    try:
        await write(name)
    except BaseException:  # noqa: BLE001 - the worst that an app does
        return "swallowed"
    return REGION


@app.get("/beside/{name}")
async def beside(name: str) -> str:
    """What a task of its own writes is the request's, as long as that has not answered."""
    task = asyncio.create_task(write(name))
    KEPT.add(task)
    task.add_done_callback(KEPT.discard)
    await asyncio.wait([task])
    return REGION


@app.get("/after/{name}")
async def after(name: str, tasks: BackgroundTasks) -> str:
    tasks.add_task(write, name)
    return REGION


@app.get("/run/{name}")
async def run(name: str) -> str:
    async def both(tx: Transaction) -> None:
        await tx.execute("insert into effect (name) values ($1)", f"{name} by {REGION}")
        raise ValueError("rolled back")

    try:
        await tf.db.run(both)
    except ValueError:
        return f"rolled back by {REGION}"
    return REGION


@app.get("/stream/{name}")
async def stream(name: str) -> Response:
    await write(name)

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 10_000

    return StreamingResponse(parts(), media_type="text/plain")


@app.get("/streaming/{name}")
async def streaming(name: str) -> Response:
    """It writes when its answer is on its way."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"begun "
        await write(name)
        yield REGION.encode()

    return StreamingResponse(parts(), media_type="text/plain")


@app.api_route("/echo/{name}", methods=["GET", "POST"])
async def echo(name: str, request: Request) -> Response:
    body = await request.body()
    await write(name)
    said = " ".join(f"{key}={value}" for key, value in request.query_params.items())
    return PlainTextResponse(f"{REGION} {len(body)} {said}")


@app.get("/held/{name}")
async def held(name: str) -> str:
    """It holds a connection to the primary, on which it writes."""
    async with tf.db.acquire() as connection:
        await connection.execute("insert into effect (name) values ($1)", f"{name} by {REGION}")
    return REGION


@app.get("/slow/{name}")
async def slow(name: str) -> str:
    await write(name)
    await asyncio.sleep(0 if REGION == "far" else 30)
    return REGION


@app.get("/broken/{name}")
async def broken(name: str) -> str:
    await write(name)
    raise ValueError("the app's own")


@app.get("/session/{name}")
async def session(name: str) -> str:
    found = await tf.session()
    found["name"] = name
    return REGION


app: Any = tf.wrap(app)
