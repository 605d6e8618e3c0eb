"""The Idempotency-Key header: what the SDK below learns of it, and what is refused."""

import asyncio

import pytest

from support import asgi
from tenfold import request
from tenfold.sdk.asgi import idempotency, protocol

pytestmark = pytest.mark.anyio

KEY = [(b"idempotency-key", b"order-1")]


class App:
    """Remembers each request's key, and the body as it read it."""

    def __init__(self) -> None:
        self.keys: list[request.IdempotencyKey | None] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        one = request.current()
        assert one is not None
        self.keys.append(one.idempotency)
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                break
        self.bodies.append(body)
        await asgi.answer(send)

    @property
    def key(self) -> request.IdempotencyKey:
        key = self.keys[-1]
        assert key is not None
        return key


async def test_the_app_reads_the_body_that_the_fingerprint_covers() -> None:
    app = App()
    async with asgi.opened(app) as wrapped:
        await asgi.get(wrapped, method="POST", headers=KEY, body=[b"one", b"two"])

    assert "order-1" == app.key.key
    assert b"onetwo" == app.bodies[0]
    assert idempotency.fingerprint(asgi.scope("/", "POST"), b"onetwo") == app.key.fingerprint


async def test_the_same_request_again_has_the_same_scope_and_fingerprint_and_another_body_has_not() -> None:
    app = App()
    async with asgi.opened(app) as wrapped:
        for body in (b"a", b"a", b"b"):
            await asgi.get(wrapped, method="POST", headers=KEY, body=[body])

    first, second, third = [one for one in app.keys if one is not None]
    assert (first.scope, first.fingerprint) == (second.scope, second.fingerprint)
    assert first.scope == third.scope
    assert first.fingerprint != third.fingerprint


async def test_paths_methods_and_principals_have_keys_of_their_own() -> None:
    app = App()
    async with asgi.opened(app) as wrapped:
        await asgi.get(wrapped, "/a", method="POST", headers=KEY)
        await asgi.get(wrapped, "/b", method="POST", headers=KEY)
        await asgi.get(wrapped, "/a", method="PUT", headers=KEY)
        await asgi.get(wrapped, "/a", method="POST", headers=[*KEY, (b"authorization", b"Bearer x")])
        await asgi.get(wrapped, "/a", method="POST", headers=[*KEY, (b"authorization", b"Bearer y")])

    scopes = [one.scope for one in app.keys if one is not None]
    assert 5 == len(set(scopes))
    assert not any("Bearer" in one for one in scopes)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_a_key_on_a_method_that_changes_nothing_means_nothing(method: str) -> None:
    app = App()
    async with asgi.opened(app) as wrapped:
        await asgi.get(wrapped, method=method, headers=KEY)

    assert [None] == app.keys


@pytest.mark.parametrize("key", [b"", b"  ", b"x" * 256, b"caf\xc3\xa9", b"a\x07b"])
async def test_an_invalid_key_is_answered_400(key: bytes) -> None:
    app = App()
    async with asgi.opened(app) as wrapped:
        response = await asgi.get(wrapped, method="POST", headers=[(b"idempotency-key", key)])

    assert 400 == response.status
    assert [] == app.keys


async def test_two_keys_are_answered_400() -> None:
    async with asgi.opened(App()) as wrapped:
        response = await asgi.get(wrapped, method="POST", headers=[*KEY, *KEY])

    assert 400 == response.status


async def test_a_body_larger_than_what_a_repeat_could_carry_is_answered_413() -> None:
    app = App()
    half = b"x" * (idempotency.MOST_BODY_BYTES // 2)
    async with asgi.opened(app) as wrapped:
        fits = await asgi.get(wrapped, method="POST", headers=KEY, body=[half, half])
        too_large = await asgi.get(wrapped, method="POST", headers=KEY, body=[half, half, b"x"])
        without_key = await asgi.get(wrapped, method="POST", body=[half, half, b"x"])

    assert [200, 413, 200] == [one.status for one in (fits, too_large, without_key)]


async def test_a_client_that_goes_away_while_it_sends_its_body_is_not_answered() -> None:
    response = asgi.Response()

    async def receive() -> protocol.Message:
        return {"type": "http.disconnect"}

    async def send(message: protocol.Message) -> None:
        response.messages.append(message)

    async with asgi.opened(App()) as wrapped:
        await wrapped(asgi.scope(method="POST", headers=KEY), receive, send)

    assert [] == response.messages


async def test_a_body_that_does_not_come_ends_at_the_deadline() -> None:
    async with asgi.opened(App(), request_seconds=0.02) as wrapped:
        response = asgi.Response()

        async def receive() -> protocol.Message:
            return await asyncio.Event().wait()  # type: ignore[return-value]

        async def send(message: protocol.Message) -> None:
            response.messages.append(message)

        await wrapped(asgi.scope(method="POST", headers=KEY), receive, send)

    assert 503 == response.status
