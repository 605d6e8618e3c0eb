"""The debug header: with the key a response tells what became of its request, without it nothing at all."""

import asyncio
import logging

import pytest

from support import asgi
from tenfold import bindings, errors, request, spans
from tenfold.sdk.asgi import protocol

pytestmark = pytest.mark.anyio

KEY = bindings.debug_key(asgi.SECRET).encode()


async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
    with request.recording().statement("select * from t where id = 7") as span:
        span.decide("a replica", where="database-2")
    await asgi.answer(send, body=repr(scope["headers"]).encode())


def told(response: asgi.Response) -> spans.Span:
    found = response.header(b"tenfold-trace")
    assert found is not None
    return spans.decode(found)


async def test_with_the_key_the_response_tells_what_happened() -> None:
    async with asgi.opened(app) as wrapped:
        response = await asgi.get(wrapped, headers=[(b"tenfold-debug", KEY)])

    root = told(response)

    assert ("web", "this process") == (root.kind, root.name)
    assert "admitted: 1 of at most 512 at once" == root.decision
    assert [("statement", "select * from t where id = ?", "database-2", "a replica")] == [
        (one.kind, one.name, one.where, one.decision) for one in root.children
    ]
    timing = response.header(b"server-timing")
    assert timing is not None
    assert timing.startswith("app;dur=")
    assert 'desc="1 statements"' in timing


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"tenfold-debug", b"")],
        [(b"tenfold-debug", KEY[:-1])],
        [(b"tenfold-debug", KEY.upper())],
        [(b"tenfold-debug", b"guess"), (b"tenfold-debug", KEY)],
        [(b"tenfold-debug", bindings.private_key(asgi.SECRET).encode())],
        [(b"x-tenfold-debug", KEY)],
    ],
)
async def test_without_the_key_the_response_carries_nothing(headers: list[tuple[bytes, bytes]]) -> None:
    async with asgi.opened(app) as wrapped:
        response = await asgi.get(wrapped, headers=headers)

    assert [(b"content-type", b"text/plain")] == response.messages[0]["headers"]


async def test_a_service_without_a_secret_has_no_key() -> None:
    async with asgi.opened(app, secret="") as wrapped:
        response = await asgi.get(wrapped, headers=[(b"tenfold-debug", bindings.debug_key("").encode())])

    assert response.header(b"tenfold-trace") is None


@pytest.mark.parametrize("said", [KEY, b"a wrong key"])
async def test_neither_the_app_nor_a_log_gets_to_see_the_header(said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with asgi.opened(app) as wrapped:
        response = await asgi.get(wrapped, headers=[(b"tenfold-debug", said), (b"accept", b"*/*")])

    assert b"[(b'accept', b'*/*')]" == response.body
    assert said.decode() not in caplog.text


async def test_the_log_of_a_traced_request_names_its_id(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    headers = [(b"tenfold-debug", KEY), (b"x-request-id", b"the-balancers-id")]
    async with asgi.opened(app) as wrapped:
        response = await asgi.get(wrapped, headers=headers, client=(asgi.BALANCER, 1))

    assert ["the-balancers-id"] == response.all(b"x-request-id")
    assert "request the-balancers-id: traced: GET /: 200 after" in caplog.text


async def test_no_cache_keeps_a_response_with_a_trace() -> None:
    async def cacheable(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        headers = [(b"Cache-Control", b"public, max-age=60")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async with asgi.opened(cacheable) as wrapped:
        plain = await asgi.get(wrapped)
        traced = await asgi.get(wrapped, headers=[(b"tenfold-debug", KEY)])

    assert ["public, max-age=60"] == plain.all(b"Cache-Control")
    assert ([], ["no-store"]) == (traced.all(b"Cache-Control"), traced.all(b"cache-control"))


async def test_an_error_of_ours_is_told_with_its_trace() -> None:
    async def failing(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        with request.recording().span("wait", "primary"):
            raise errors.NoPrimary("database: no writable primary")

    async with asgi.opened(failing) as wrapped:
        response = await asgi.get(wrapped, headers=[(b"tenfold-debug", KEY)])

    assert 503 == response.status
    assert ["failed: NoPrimary"] == [one.decision for one in told(response).children]


async def test_what_happens_after_the_response_has_begun_is_not_in_it() -> None:
    async def streaming(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        assert request.recording() is spans.NOWHERE
        await send({"type": "http.response.body", "body": b""})

    async with asgi.opened(streaming) as wrapped:
        response = await asgi.get(wrapped, headers=[(b"tenfold-debug", KEY)])

    assert [] == told(response).children


async def test_requests_at_the_same_time_have_traces_of_their_own() -> None:
    both = asyncio.Barrier(2)

    async def meeting(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        with request.recording().span("run", scope["path"]):
            await both.wait()
        await asgi.answer(send)

    headers = [(b"tenfold-debug", KEY)]
    async with asgi.opened(meeting) as wrapped:
        first, second = await asyncio.gather(*(asgi.get(wrapped, path, headers=headers) for path in ("/a", "/b")))

    assert ["/a"] == [one.name for one in told(first).children]
    assert ["/b"] == [one.name for one in told(second).children]
