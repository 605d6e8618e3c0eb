"""The client's address and scheme: believed from the balancer, taken away from everybody else."""

from typing import Any

import pytest

from support import asgi
from tenfold.sdk.asgi import protocol

pytestmark = pytest.mark.anyio


class App:
    """Remembers the scope it was called with."""

    scope: protocol.Scope

    async def __call__(self, scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        self.scope = scope
        await asgi.answer(send)


async def seen(headers: dict[str, str], peer: str, **changes: Any) -> protocol.Scope:
    app = App()
    async with asgi.opened(app, **changes) as wrapped:
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await asgi.get(wrapped, headers=pairs, client=(peer, 4711))
    return app.scope


async def test_the_balancer_names_the_client_and_the_scheme() -> None:
    scope = await seen({"x-forwarded-for": "203.0.113.5", "x-forwarded-proto": "https"}, asgi.BALANCER)

    assert "203.0.113.5" == scope["client"][0]
    assert "https" == scope["scheme"]


async def test_a_balancer_in_a_trusted_network_is_believed() -> None:
    scope = await seen({"x-forwarded-for": "203.0.113.5"}, "10.9.7.7")

    assert "203.0.113.5" == scope["client"][0]


async def test_anybody_else_is_neither_believed_nor_passed_on() -> None:
    lies = {
        "x-forwarded-for": "10.0.0.1",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "evil",
        "forwarded": "for=1",
    }
    scope = await seen({**lies, "accept": "*/*"}, "192.0.2.7")

    assert ("192.0.2.7", 4711) == scope["client"]
    assert "http" == scope["scheme"]
    assert [(b"accept", b"*/*")] == scope["headers"]


async def test_what_the_client_put_in_front_of_the_balancers_word_is_made_up() -> None:
    scope = await seen({"x-forwarded-for": "1.2.3.4, 203.0.113.5, 10.9.0.3"}, asgi.BALANCER)

    assert "203.0.113.5" == scope["client"][0]


async def test_an_ipv6_client_is_restored() -> None:
    scope = await seen({"x-forwarded-for": "[2001:db8::5]"}, asgi.BALANCER)

    assert "2001:db8::5" == scope["client"][0]


@pytest.mark.parametrize("nonsense", ["", "unknown", "203.0.113.5:8080:1", ",,", "'; drop table", "\x00"])
async def test_what_is_no_address_leaves_the_peer(nonsense: str) -> None:
    scope = await seen({"x-forwarded-for": nonsense}, asgi.BALANCER)

    assert asgi.BALANCER == scope["client"][0]


async def test_a_request_by_a_unix_socket_is_nobodys_that_is_trusted() -> None:
    app = App()
    async with asgi.opened(app) as wrapped:
        await asgi.get(wrapped, headers=[(b"x-forwarded-for", b"203.0.113.5")], client=None)

    assert app.scope["client"] is None
    assert [] == app.scope["headers"]
