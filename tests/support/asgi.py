"""An ASGI server and client in memory, and a service without a database behind the door.

Used by tests/unit/sdk/test_asgi_*.py.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tenfold import bindings
from tenfold.sdk.asgi import idempotency, inflight, protocol, settings, wrap

BALANCER = "10.0.0.10"
SECRET = "5ec2e7" * 8


class Service:
    """What `Tenfold` is to the door, with nothing behind it. Notes what happens to it."""

    def __init__(self, **changes: Any) -> None:
        said = {"name": "shop", "secret": SECRET, "trusted_proxies": (BALANCER, "10.9.0.0/16"), **changes}
        setup = settings.Settings(bindings.Service(**said), idempotency.default_principal)
        self.inflight = inflight.InFlight(setup)
        self.story: list[str] = []

    async def start(self) -> None:
        self.story.append("service starts")
        self.inflight.open()

    async def drain(self) -> None:
        self.story.append("service drains")
        self.inflight.drain()

    async def stop(self) -> None:
        self.story.append("service stops")
        self.inflight.close()


@asynccontextmanager
async def opened(app: protocol.App, **changes: Any) -> AsyncIterator[wrap.Wrapped]:
    """The app, wrapped by a started service."""
    service = Service(**changes)
    await service.start()
    try:
        yield wrap.Wrapped(app, service)
    finally:
        await service.stop()


@dataclass
class Response:
    """What a client got, message by message."""

    messages: list[protocol.Message] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(one.get("body", b"") for one in self.messages[1:])

    def all(self, name: bytes) -> list[str]:
        return [value.decode() for known, value in self.messages[0]["headers"] if known == name]

    def header(self, name: bytes) -> str | None:
        values = self.all(name)
        return values[0] if values else None


def scope(
    path: str = "/", method: str = "GET", headers: Iterable[tuple[bytes, bytes]] = (), **more: Any
) -> protocol.Scope:
    """A request's scope as granian makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(headers),
        "client": ("192.0.2.7", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
        **more,
    }


async def get(
    app: protocol.App,
    path: str = "/",
    *,
    headers: Iterable[tuple[bytes, bytes]] = (),
    method: str = "GET",
    body: Iterable[bytes] = (b"",),
    **more: Any,
) -> Response:
    """Send one request and collect the response. An exception of the app comes through."""
    parts = list(body)
    response = Response()

    async def receive() -> protocol.Message:
        if parts:
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: protocol.Message) -> None:
        response.messages.append(message)

    await app(scope(path, method, headers, **more), receive, send)
    return response


async def until(is_so: Callable[[], bool], turns: int = 100) -> None:
    """Let other tasks run until something is so; they need turns of the loop, not time."""
    for _ in range(turns):
        if is_so():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never became so")


async def answer(send: protocol.Send, status: int = 200, body: bytes = b"hello") -> None:
    """A small response, as an app sends it."""
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})
