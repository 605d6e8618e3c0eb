"""What comes in for one request: its body, and then that its client has left.

The lower half of `exchange.Exchange`. The server is asked for the body by whoever reads it, but only once whether the
client has left: granian takes a question that is withdrawn for an answer, and `request.is_disconnected()` withdraws its
own each time.
"""

import asyncio

from tenfold import request
from tenfold.sdk.asgi import inflight, protocol

STEADY_BYTES = 64 * 1024
"""A body that brings so much within the request's time may take longer as a whole; one that trickles in may not."""


BODYLESS = frozenset(("GET", "HEAD"))
"""Methods whose requests hardly ever have a body. It is kept until it is known whether the request goes home."""


class Kept:
    """A body that is given to the app and kept as well. Its head has said how long it is."""

    def __init__(self, source: protocol.Receive) -> None:
        self._source = source
        self._parts: list[bytes] = []
        self._is_whole = False

    async def __call__(self) -> protocol.Message:
        message = await self._source()
        if message["type"] == "http.request" and not self._is_whole:
            self._parts.append(message.get("body", b""))
            self._is_whole = not message.get("more_body", False)
        return message

    async def whole(self) -> bytes | None:
        """All of it, with what the app has not read; None when the client has left before."""
        while not self._is_whole:
            if (await self())["type"] == "http.disconnect":
                return None
        return b"".join(self._parts)


class Incoming(request.Request):
    """The app's `receive`. Fields whose first value is the same for all live on the class."""

    source: protocol.Receive
    """The server's `receive`, or the body that was read for its key. Set by `wrap`."""
    tracker: inflight.InFlight
    expires: float
    """When the app is cut, in `loop.time()`."""
    watched: "asyncio.Task[object] | None"
    """The task to cancel at the deadline."""
    has_expired = False
    scope: protocol.Scope
    has_asked = False
    """Whether the app has asked for the body."""
    is_read = False
    """Whether the whole body has been given to the app."""
    steady_bytes = 0
    """Of the body, since the deadline was put off for it."""
    gone: "asyncio.Future[protocol.Message] | None" = None
    """Set when the client has left, or when the app is to believe so. None while nobody has asked."""
    leaving: "asyncio.Task[None] | None" = None
    """Waits for the server to say that the client has left."""
    kept: Kept | None = None
    """What the app has read, of a body that may have to be sent home."""
    listening = 0
    """How many tasks of the app's, beside its first, wait for `gone`."""

    async def receive(self) -> protocol.Message:
        """What the server says, and once the deadline has passed, that the client has left."""
        if self.has_expired:
            return {"type": "http.disconnect"}
        if self.is_read:
            return await self._left()
        if not self.has_asked:
            self.has_asked = True
            if has_no_body(self.scope):
                self.is_read = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if self.tracker.road is not None and self.scope["method"] in BODYLESS:
                self.source = self.kept = Kept(self.source)
        message = await self.source()
        self.is_read = not message.get("more_body", False)
        self._arrived(len(message.get("body", b"")))
        return message

    def tell(self) -> bool:
        """Let who listens believe that the client has left. False when nobody but the app's first task does."""
        if self.gone is None or self.gone.done() or not self.listening:
            return False
        self.gone.set_result({"type": "http.disconnect"})
        return True

    def close(self) -> None:
        """The app has returned: nobody waits any more."""
        if self.leaving is not None:
            self.leaving.cancel()
        if self.gone is not None and not self.gone.done():
            self.gone.set_result({"type": "http.disconnect"})

    async def _left(self) -> protocol.Message:
        if self.gone is None:
            self.gone = asyncio.get_running_loop().create_future()
            self.leaving = asyncio.create_task(self._watch(self.gone), name="tenfold-client")
        is_other = asyncio.current_task() is not self.watched
        self.listening += is_other
        try:
            return {**await asyncio.shield(self.gone)}
        finally:
            self.listening -= is_other

    async def _watch(self, gone: "asyncio.Future[protocol.Message]") -> None:
        message = await self.source()
        while message["type"] == "http.request":  # an empty body that nobody needed to be asked for
            message = await self.source()
        if not gone.done():
            gone.set_result(message)

    def _arrived(self, count: int) -> None:
        """A part of the body is here. The deadline is for the app's work: while much comes, it is put off."""
        self.steady_bytes += count
        if self.steady_bytes >= STEADY_BYTES and not self.has_responded:
            self.steady_bytes = 0
            self.deadline = self.expires = self.tracker.deadline()


def has_no_body(scope: protocol.Scope) -> bool:
    """Whether it is certain from a GET's head that nothing follows it (RFC 9112, 6.3); HTTP/2 has other ways to say."""
    if scope["method"] not in {"GET", "HEAD"} or scope["http_version"] not in {"1.0", "1.1"}:
        return False
    headers = scope["headers"]
    return all(name != b"transfer-encoding" and (name != b"content-length" or value == b"0") for name, value in headers)
