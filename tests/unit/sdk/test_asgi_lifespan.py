"""The lifespan: ours around the app's, and apps that have none."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI

from support import asgi
from tenfold.sdk.asgi import protocol, wrap

pytestmark = pytest.mark.anyio


class Server:
    """The server's side of the lifespan: starts, then stops, as granian and uvicorn do."""

    def __init__(self) -> None:
        self.sent: list[protocol.Message] = []

    async def run(self, app: protocol.App) -> list[str]:
        events = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> protocol.Message:
            return {"type": next(events)}

        async def send(message: protocol.Message) -> None:
            self.sent.append(message)

        await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
        return [one["type"] for one in self.sent]


def framework(story: list[str], *, fails: str = "") -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, str]]:
        story.append("app starts")
        if fails == "start":
            raise RuntimeError("no start")
        yield {"kept": "yes"}
        story.append("app stops")
        if fails == "stop":
            raise RuntimeError("no stop")

    return FastAPI(lifespan=lifespan)


async def test_the_service_is_there_before_the_app_starts_and_until_it_has_stopped() -> None:
    service = asgi.Service()

    said = await Server().run(wrap.Wrapped(framework(service.story), service))

    assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == said
    assert ["service starts", "app starts", "service drains", "app stops", "service stops"] == service.story


async def raises_at_once(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
    raise ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")


async def returns_at_once(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
    return


@pytest.mark.parametrize("app", [raises_at_once, returns_at_once])
async def test_an_app_without_a_lifespan_is_served_all_the_same(app: protocol.App) -> None:
    service = asgi.Service()

    said = await Server().run(wrap.Wrapped(app, service))

    assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == said
    assert "service stops" == service.story[-1]


async def test_an_app_that_fails_to_start_is_reported_and_leaves_nothing_behind() -> None:
    service = asgi.Service()
    server = Server()
    tasks = asyncio.all_tasks()

    said = await server.run(wrap.Wrapped(framework(service.story, fails="start"), service))

    assert ["lifespan.startup.failed"] == said
    assert "no start" in server.sent[0]["message"]
    assert "service stops" == service.story[-1]
    assert tasks == asyncio.all_tasks()


async def test_an_app_that_crashes_after_it_took_the_startup_event_has_failed() -> None:
    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        await receive()
        raise RuntimeError("no start")

    server = Server()

    assert ["lifespan.startup.failed"] == await server.run(wrap.Wrapped(app, asgi.Service()))
    assert "no start" in server.sent[0]["message"]


async def test_a_service_that_fails_to_start_is_reported_and_the_app_never_starts() -> None:
    class Broken(asgi.Service):
        async def start(self) -> None:
            raise OSError("no bindings")

    service = Broken()
    server = Server()

    assert ["lifespan.startup.failed"] == await server.run(wrap.Wrapped(framework(service.story), service))
    assert "no bindings" in server.sent[0]["message"]
    assert [] == service.story


async def test_an_app_that_fails_to_stop_is_reported() -> None:
    service = asgi.Service()
    server = Server()

    said = await server.run(wrap.Wrapped(framework(service.story, fails="stop"), service))

    assert ["lifespan.startup.complete", "lifespan.shutdown.failed"] == said
    assert "no stop" in server.sent[1]["message"]
    assert "service stops" == service.story[-1]


async def test_the_apps_state_reaches_the_server() -> None:
    state: dict[str, str] = {}
    events = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> protocol.Message:
        return {"type": next(events)}

    async def send(message: protocol.Message) -> None: ...

    await wrap.Wrapped(framework([]), asgi.Service())({"type": "lifespan", "state": state}, receive, send)

    assert {"kept": "yes"} == state


async def test_draining_waits_for_open_requests() -> None:
    release = asyncio.Event()

    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        await release.wait()
        await asgi.answer(send)

    async with asgi.opened(app) as wrapped:
        task = asyncio.create_task(asgi.get(wrapped))
        await asgi.until(lambda: len(wrapped.service.inflight.entered) == 1)
        is_empty_early = await wrapped.service.inflight.drained(0.01)
        asyncio.get_running_loop().call_soon(release.set)
        is_empty = await wrapped.service.inflight.drained(5)
        response = await task

    assert not is_empty_early
    assert is_empty
    assert 200 == response.status


async def test_what_is_cut_are_streams_and_not_requests() -> None:
    release = asyncio.Event()

    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        if scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await release.wait()
        await asgi.answer(send)

    async with asgi.opened(app) as wrapped:
        tasks = [asyncio.create_task(asgi.get(wrapped, path)) for path in ("/stream", "/")]
        await asgi.until(lambda: len(wrapped.service.inflight.entered) == 2)
        await asgi.until(lambda: len(wrapped.service.inflight.working) == 1)
        wrapped.service.inflight.cut()
        release.set()
        stream, plain = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(stream, asyncio.CancelledError)
    assert isinstance(plain, asgi.Response)
    assert 200 == plain.status
