"""What every request passes: deadlines, overload, errors' answers, health; and what passes untouched."""

import asyncio
import json
import logging
import math
import time

import pytest
from fastapi import FastAPI, WebSocket

from support import asgi
from tenfold import errors, request
from tenfold.sdk.asgi import arrival, inflight, protocol, wrap

pytestmark = pytest.mark.anyio

START = {"type": "http.response.start", "status": 200, "headers": []}


async def hello(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
    await asgi.answer(send)


def raising(error: BaseException) -> protocol.App:
    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        raise error

    return app


async def hanging(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
    await asyncio.Event().wait()


async def test_an_answer_passes_as_the_app_gave_it() -> None:
    async with asgi.opened(hello) as app:
        response = await asgi.get(app)

    assert {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]} == (
        response.messages[0]
    )
    assert b"hello" == response.body


async def test_the_app_runs_as_the_current_request_and_no_longer_than_that() -> None:
    seen = []

    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        seen.append(request.current())
        await asgi.answer(send)

    async with asgi.opened(app, request_seconds=7) as wrapped:
        began = asyncio.get_running_loop().time()
        await asgi.get(wrapped)
        await asgi.get(wrapped)

    first, second = seen
    assert first is not None
    assert second is not None
    assert first.trace != second.trace
    assert first.has_responded
    assert first.deadline is None, "after the response has begun there is no deadline"
    assert began <= asyncio.get_running_loop().time()
    assert request.current() is None


async def test_a_request_without_a_response_in_time_is_cancelled_and_answered_503(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with asgi.opened(hanging, request_seconds=0.02) as app:
        with caplog.at_level(logging.WARNING, "tenfold"):
            response = await asgi.get(app)

        assert 503 == response.status
        assert "1" == response.header(b"retry-after")
        assert not app.service.inflight.working
    current = asyncio.current_task()
    assert current is not None
    assert 0 == current.cancelling(), "our own cancellation is taken back"
    assert "no response within its time" in caplog.text


async def test_a_deadline_after_a_write_does_not_invite_to_repeat_it() -> None:
    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        one = request.current()
        assert one is not None
        one.has_written = True
        await asyncio.Event().wait()

    async with asgi.opened(app, request_seconds=0.02) as wrapped:
        response = await asgi.get(wrapped)

    assert 503 == response.status
    assert response.header(b"retry-after") is None


async def test_a_framework_that_turns_the_cancellation_into_its_own_error_is_answered_503_too() -> None:
    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asgi.answer(send, 500)
            raise RuntimeError("swallowed") from None

    async with asgi.opened(app, request_seconds=0.02) as wrapped:
        response = await asgi.get(wrapped)

    assert 503 == response.status


async def test_a_stream_outlives_the_deadline_once_it_has_begun() -> None:
    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        await send(START)
        await asyncio.sleep(3 * inflight.LOOK_SECONDS)
        await send({"type": "http.response.body", "body": b"late", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with asgi.opened(app, request_seconds=0.01) as wrapped:
        response = await asgi.get(wrapped)

    assert b"late" == response.body


async def test_somebody_elses_cancellation_is_obeyed() -> None:
    async with asgi.opened(hanging) as app:
        task = asyncio.create_task(asgi.get(app))
        await asgi.until(lambda: bool(app.service.inflight.working))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not app.service.inflight.working


async def test_time_in_the_balancers_queue_counts() -> None:
    waited = str(int((time.time() - 30) * 1000)).encode()
    async with asgi.opened(hello, request_seconds=10) as app:
        from_balancer = await asgi.get(app, headers=[(b"x-request-start", waited)], client=(asgi.BALANCER, 1))
        from_anybody = await asgi.get(app, headers=[(b"x-request-start", waited)])

    assert 503 == from_balancer.status
    assert "1" == from_balancer.header(b"retry-after")
    assert 200 == from_anybody.status


@pytest.mark.parametrize(
    ("started", "expected"),
    [
        ("1700000000000", 5.0),
        ("t=1700000000000", 5.0),
        ("t=1700000000000000", 5.0),
        ("1700000009000", 0.0),
        ("1600000000000", 0.0),
        ("soon", 0.0),
    ],
)
async def test_a_start_that_cannot_be_true_is_no_queue(started: str, expected: float) -> None:
    assert expected == arrival.queued_seconds(started.encode(), 1700000005.0)


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (errors.TryAgain("busy", after_seconds=2.2), 503, "3"),
        (errors.NoPrimary("no primary"), 503, "1"),
        (errors.Overloaded("full"), 503, "1"),
        (errors.OutcomeUnknown("lost", token="t-1"), 503, None),
        (errors.KeyInUse("runs"), 409, None),
        (errors.KeyReused("reused"), 422, None),
        (ExceptionGroup("group", [errors.TryAgain("busy")]), 503, "1"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else str(one),
)
async def test_our_errors_are_answers(error: Exception, status: int, retry_after: str | None) -> None:
    async with asgi.opened(raising(error)) as app:
        response = await asgi.get(app)

    assert status == response.status
    assert retry_after == response.header(b"retry-after")
    assert "application/problem+json" == response.header(b"content-type")
    assert status == json.loads(response.body)["status"]


async def test_an_unknown_outcome_names_its_token() -> None:
    async with asgi.opened(raising(errors.OutcomeUnknown("lost", token="t-1"))) as app:
        response = await asgi.get(app)

    assert "t-1" == json.loads(response.body)["token"]


async def test_no_answer_tells_a_server_name() -> None:
    async with asgi.opened(raising(errors.NoPrimary("database-2 (127.8.1.51:5432): refused"))) as app:
        response = await asgi.get(app)

    assert b"127.8" not in response.body


async def test_an_error_of_the_app_is_the_servers_to_answer() -> None:
    async with asgi.opened(raising(ZeroDivisionError())) as app:
        with pytest.raises(ZeroDivisionError):
            await asgi.get(app)


async def test_fastapis_500_gives_way_to_our_answer() -> None:
    framework = FastAPI()

    @framework.get("/")
    async def route() -> None:
        raise errors.TryAgain("busy")

    async with asgi.opened(framework) as app:
        response = await asgi.get(app)

    assert 503 == response.status
    assert ["http.response.start", "http.response.body"] == [one["type"] for one in response.messages]


async def test_fastapis_500_for_another_error_is_sent_as_it_is() -> None:
    framework = FastAPI()

    @framework.get("/")
    async def route() -> None:
        raise ZeroDivisionError

    response = asgi.Response()

    async def send(message: protocol.Message) -> None:
        response.messages.append(message)

    async with asgi.opened(framework) as app:
        with pytest.raises(ZeroDivisionError):
            await app(asgi.scope(), lambda: asyncio.Event().wait(), send)

    assert 500 == response.status
    assert b"Internal Server Error" == response.body


async def test_an_apps_own_handler_for_our_error_wins() -> None:
    framework = FastAPI()

    @framework.get("/")
    async def route() -> None:
        raise errors.TryAgain("busy")

    @framework.exception_handler(errors.TryAgain)
    async def patient(_: object, error: Exception) -> object:
        from starlette.responses import PlainTextResponse

        return PlainTextResponse("come back", 429)

    async with asgi.opened(framework) as app:
        response = await asgi.get(app)

    assert 429 == response.status


async def test_a_500_that_streams_is_not_held_back() -> None:
    sent_before_the_end = []

    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        sent_before_the_end.append(True)
        await send({"type": "http.response.body", "body": b"b"})

    async with asgi.opened(app) as wrapped:
        response = await asgi.get(wrapped)

    assert b"ab" == response.body
    assert 3 == len(response.messages)


async def test_one_request_too_many_is_answered_503_early() -> None:
    async with asgi.opened(hanging, max_requests=2) as app:
        tasks = [asyncio.create_task(asgi.get(app)) for _ in range(2)]
        await asgi.until(lambda: len(app.service.inflight.working) == 2)
        third = await asgi.get(app)
        health = await asgi.get(app, wrap.READY)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    assert 503 == third.status
    assert "Overloaded" == json.loads(third.body)["title"], "at once, not at its deadline"
    assert "1" == third.header(b"retry-after")
    assert 200 == health.status


async def test_where_others_are_on_their_way_requests_wait_for_a_place_up_to_a_bound() -> None:
    place = asyncio.Event()

    async def held(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        if scope["path"] == "/held":
            await place.wait()
        await asgi.answer(send)

    async with asgi.opened(held, max_requests=1, most_waiting=2) as app:
        tracker = app.service.inflight
        first = asyncio.create_task(asgi.get(app, "/held"))
        await asgi.until(lambda: len(tracker.working) == 1)
        others = [asyncio.create_task(asgi.get(app)) for _ in range(2)]
        await asgi.until(lambda: len(tracker.door) == 2)
        refused = await asgi.get(app)
        place.set()
        answered = await asyncio.gather(first, *others)

    assert (503, "full", "1") == (refused.status, refused.header(b"tenfold-refused"), refused.header(b"retry-after"))
    assert [200, 200, 200] == [one.status for one in answered]
    assert (0, 0) == (len(tracker.door), tracker.door.granted)


async def test_a_request_that_waited_for_half_of_its_time_is_refused() -> None:
    async with asgi.opened(hanging, max_requests=1, most_waiting=2, request_seconds=0.02) as app:
        first = asyncio.create_task(asgi.get(app))
        await asgi.until(lambda: len(app.service.inflight.working) == 1)
        app.service.inflight.working.copy().pop().expires = math.inf
        refused = await asgi.get(app)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    assert (503, "full") == (refused.status, refused.header(b"tenfold-refused"))


async def test_requests_that_wait_for_a_primary_leave_room_for_reads_and_are_bounded_still() -> None:
    async def waiting(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        one = request.current()
        assert one is not None
        if scope["path"] == "/write":
            one.is_waiting = True
            await asyncio.Event().wait()
        await asgi.answer(send)

    async with asgi.opened(waiting, max_requests=2) as app:
        tasks = []
        statuses = []
        for count in (2, inflight.WAITING_FACTOR * 2):
            more = count - len(app.service.inflight.working)
            tasks += [asyncio.create_task(asgi.get(app, "/write")) for _ in range(more)]
            await asgi.until(lambda count=count: len(app.service.inflight.working) == count)  # type: ignore[misc]
            statuses.append((await asgi.get(app, "/read")).status)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    assert [200, 503] == statuses


async def test_a_stream_that_has_begun_takes_no_room() -> None:
    async def stream(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        await send(START)
        await asyncio.Event().wait()

    async with asgi.opened(stream, max_requests=1) as app:
        task = asyncio.create_task(asgi.get(app))
        await asgi.until(lambda: len(app.service.inflight.entered) == 1)
        is_full = app.service.inflight.is_full()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert not is_full


async def test_ready_says_so_only_between_start_and_drain() -> None:
    service = asgi.Service()
    app = wrap.Wrapped(hello, service)

    before = await asgi.get(app, wrap.READY)
    await service.start()
    during = await asgi.get(app, wrap.READY)
    await service.drain()
    draining = await asgi.get(app, wrap.READY)
    served = await asgi.get(app)
    live = await asgi.get(app, wrap.LIVE)
    await service.stop()

    assert [503, 200, 503] == [one.status for one in (before, during, draining)]
    assert b"draining\n" == draining.body
    assert 200 == served.status
    assert 200 == live.status


async def test_a_request_before_the_lifespan_says_what_to_do() -> None:
    app = wrap.Wrapped(hello, asgi.Service())

    with pytest.raises(errors.NotStarted, match="async with tf"):
        await asgi.get(app)


async def test_an_app_wrapped_twice_is_wrapped_once() -> None:
    seen = []

    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        seen.append(request.current())
        await asgi.answer(send)

    service = asgi.Service()
    await service.start()
    inner = wrap.Wrapped(app, service)

    async def outer(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        seen.append(request.current())
        await inner(scope, receive, send)

    await asgi.get(wrap.Wrapped(outer, service))
    await service.stop()

    assert seen[0] is seen[1]


async def test_a_websocket_passes_with_its_messages_and_without_a_deadline() -> None:
    framework = FastAPI()

    @framework.websocket("/ws")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        one = request.current()
        assert one is not None
        assert one.deadline is None
        await socket.send_text(f"{await socket.receive_text()} from {socket.client.host}")  # type: ignore[union-attr]

    sent: list[protocol.Message] = []
    incoming = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hi"}]

    async def receive() -> protocol.Message:
        return incoming.pop(0)

    async def send(message: protocol.Message) -> None:
        sent.append(message)

    async with asgi.opened(framework, max_requests=1) as app:
        headers = [(b"x-forwarded-for", b"203.0.113.5"), (b"x-forwarded-proto", b"https")]
        handshake = {**asgi.scope("/ws", headers=headers), "type": "websocket", "scheme": "ws", "subprotocols": []}
        handshake["client"] = (asgi.BALANCER, 1)
        await app(handshake, receive, send)

    assert "wss" == handshake["scheme"]
    assert ["websocket.accept", "websocket.send"] == [one["type"] for one in sent]
    assert "hi from 203.0.113.5" == sent[1]["text"]


async def test_a_trace_comes_from_the_balancer_only() -> None:
    seen = []

    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        one = request.current()
        assert one is not None
        seen.append(one.trace)
        await asgi.answer(send)

    async with asgi.opened(app) as wrapped:
        await asgi.get(wrapped, headers=[(b"x-request-id", b"abc")], client=(asgi.BALANCER, 1))
        await asgi.get(wrapped, headers=[(b"x-request-id", b"abc")])

    assert "abc" == seen[0]
    assert "abc" != seen[1]
    assert seen[1]


async def test_an_interim_answer_is_dropped_and_the_answer_behind_it_is_sent() -> None:
    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        await send({"type": "http.response.start", "status": 103, "headers": [(b"link", b"</a.css>; rel=preload")]})
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": b"made"})

    async with asgi.opened(app) as wrapped:
        response = await asgi.get(wrapped)

    assert (201, b"made") == (response.status, response.body)
    assert 2 == len(response.messages)
