"""Deadlines of apps that do more than wait: tasks of their own, listeners, errors that they answer."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from support import asgi
from tenfold import errors
from tenfold.sdk.asgi import exchange, protocol, wrap

pytestmark = pytest.mark.anyio

SECONDS = 0.02


async def serve(app: wrap.Wrapped, receive: protocol.Receive) -> asgi.Response:
    """Send a request without a body; `receive` says when its client leaves."""
    response = asgi.Response()

    async def send(message: protocol.Message) -> None:
        response.messages.append(message)

    await app(asgi.scope(), receive, send)
    return response


async def silent() -> protocol.Message:
    """A client that waits for its answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def test_whoever_listens_hears_that_the_client_has_left_and_may_end_by_itself() -> None:
    heard: list[str] = []

    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        assert "http.request" == (await receive())["type"]
        listener = asyncio.create_task(receive())  # type: ignore[arg-type]
        heard.append((await listener)["type"])
        heard.append((await receive())["type"])
        heard.append("ended by itself")

    async with asgi.opened(app, request_seconds=SECONDS) as wrapped:
        response = await serve(wrapped, silent)

    assert ["http.disconnect", "http.disconnect", "ended by itself"] == heard
    assert 503 == response.status


async def test_one_that_does_not_end_by_itself_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "PARTING_SECONDS", SECONDS)

    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        assert "http.request" == (await receive())["type"]
        listener = asyncio.create_task(receive())  # type: ignore[arg-type]
        await listener
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.Event().wait()  # as Django does for its thread

    async with asgi.opened(app, request_seconds=SECONDS) as wrapped:
        response = await serve(wrapped, silent)

    current = asyncio.current_task()
    assert current is not None
    assert 503 == response.status
    assert 0 == current.cancelling(), "both cancellations are taken back"


async def test_somebody_elses_cancellation_of_a_listener_is_obeyed() -> None:
    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        assert "http.request" == (await receive())["type"]
        listener = asyncio.create_task(receive())  # type: ignore[arg-type]
        await asyncio.sleep(0)
        listener.cancel()
        await asyncio.wait([listener])
        await asgi.answer(send, body=b"cancelled" if listener.cancelled() else b"ignored")

    async with asgi.opened(app) as wrapped:
        assert b"cancelled" == (await serve(wrapped, silent)).body


async def test_what_a_forgotten_task_answers_after_the_503_is_dropped() -> None:
    left: list[asyncio.Task[None]] = []
    late = asyncio.Event()

    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        async def answer_late() -> None:
            await late.wait()
            await asgi.answer(send, body=b"too late")

        left.append(asyncio.create_task(answer_late()))
        await asyncio.Event().wait()

    async with asgi.opened(app, request_seconds=SECONDS) as wrapped:
        response = await serve(wrapped, silent)
        late.set()
        await left[0]

    assert 503 == response.status
    assert 2 == len(response.messages), "one answer, whole"


async def test_who_asks_whether_the_client_is_there_disturbs_no_other_listener() -> None:
    """The server here is as granian: a question that is withdrawn makes it say to others that the client has left."""
    has_left = asyncio.Event()

    async def receive() -> protocol.Message:
        try:
            await has_left.wait()
        except asyncio.CancelledError:
            has_left.set()
            raise
        return {"type": "http.disconnect"}

    framework = FastAPI()

    @framework.get("/")
    async def stream(request: Request) -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            for number in range(3):
                assert not await request.is_disconnected()
                yield f"{number}\n"

        return StreamingResponse(lines())

    async with asgi.opened(framework) as wrapped:
        assert b"0\n1\n2\n" == (await serve(wrapped, receive)).body


async def test_a_client_that_leaves_is_noticed_by_whoever_asks() -> None:
    seen = []

    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        seen.extend([(await receive())["type"] for _ in range(3)])
        await asgi.answer(send)

    async def gone() -> protocol.Message:
        return {"type": "http.disconnect"}

    async with asgi.opened(app) as wrapped:
        await serve(wrapped, gone)

    assert ["http.request", "http.disconnect", "http.disconnect"] == seen


def answering(error: Exception, *, within: bool) -> protocol.App:
    """An app that makes a 500 of every error by itself: while it handles it, or after it has."""

    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        try:
            raise error
        except Exception:  # noqa: BLE001 - as frameworks do
            if within:
                await asgi.answer(send, 500)
        if not within:
            await asgi.answer(send, 500)

    return app


@pytest.mark.parametrize(
    ("app", "status", "title"),
    [
        (answering(errors.TryAgain("busy"), within=True), 503, "Try again"),
        (answering(errors.KeyReused("other body"), within=True), 422, "Idempotency-Key reused"),
        (answering(ZeroDivisionError(), within=True), 500, ""),
        (answering(errors.TryAgain("was dealt with"), within=False), 500, ""),
    ],
    ids=["ours", "a key's", "another's", "handled before"],
)
async def test_a_500_made_of_an_error_of_ours_gives_way_to_our_answer(
    app: protocol.App, status: int, title: str
) -> None:
    async with asgi.opened(app) as wrapped:
        response = await serve(wrapped, silent)

    assert status == response.status
    assert not title or title == json.loads(response.body)["title"]


async def test_a_websocket_that_is_cut_tells_its_client_to_connect_again() -> None:
    sent: list[protocol.Message] = []

    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        await send({"type": "websocket.accept"})
        await asyncio.Event().wait()

    async def send(message: protocol.Message) -> None:
        sent.append(message)

    async with asgi.opened(app) as wrapped:
        tracker = wrapped.service.inflight
        handshake = {**asgi.scope("/chat"), "type": "websocket", "scheme": "ws", "subprotocols": []}
        task = asyncio.create_task(wrapped(handshake, silent, send))  # type: ignore[arg-type]
        await asgi.until(lambda: bool(sent))
        tracker.cut()
        await task

    assert {"type": "websocket.close", "code": 1012, "reason": "service restart"} == sent[-1]
