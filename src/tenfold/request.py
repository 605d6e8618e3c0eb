"""What travels with one request through the SDK: its deadline, trace, positions and idempotency key.

Set by `sdk/asgi` (one per request) or `tf.db.session()` (one per script); read by everything below it.
Pure: times are `loop.time()` values handed in, nothing here looks at a clock.
"""

from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from tenfold import position, spans


@dataclass(slots=True)
class IdempotencyKey:
    """The client's `Idempotency-Key`, its scope (method, path, principal) and the body's fingerprint.

    `next_number` counts the request's `run` calls: the n-th uses `(scope, key, n)` as its token.
    """

    scope: str
    key: str
    fingerprint: bytes
    next_number: int = 0

    def take_number(self) -> int:
        """The number of this `run` within the request, from 0."""
        number = self.next_number
        self.next_number += 1
        return number


Headers = list[tuple[bytes, bytes]]

BeforeResponse = Callable[[int], Awaitable[Headers]]
"""Gets the response's status before its first byte is sent; what it returns joins the response's headers."""


@dataclass(slots=True)
class Request:
    """One request's (or script's) state. Mutable, owned by one request; never shared between two."""

    deadline: float | None = None
    """`loop.time()` after which no wait may go on; None outside a request."""
    trace: str = ""
    seen: position.Positions = field(default_factory=position.Positions)
    """What this session has written or read so far: no read may go behind it."""
    is_known: bool = False
    """Whether the client brought positions or wrote in this request; without, `unknown_client` applies."""
    has_written: bool = False
    """Whether `seen` was raised by a write of this request: the response then carries it."""
    has_responded: bool = False
    """Whether the response has begun: a position raised now cannot reach the client."""
    idempotency: IdempotencyKey | None = None
    pinned: dict[int, str] = field(default_factory=dict)
    """By shard, the node that this request's reads are pinned to: reads within one request are monotonic."""
    is_stamped: bool = False
    """Whether what it reads becomes a cached value that claims to reflect `seen`: even an eventual read then must."""
    is_waiting: bool = False
    """Set by `sdk/db` while it waits for a primary: the request then does not count as work that overloads us."""
    scope: MutableMapping[str, Any] = field(default_factory=dict)
    """The ASGI scope; empty outside a server."""
    visit: Any = None
    """What `sdk/sessions` knows of this request's session, once that was asked for."""
    edge: Any = None
    """What `sdk/cdn` has to do when its response begins; None: nothing."""
    before_response: BeforeResponse | None = None
    """What must happen before the response begins: a session that has changed is kept, and its cookie set."""
    missed: dict[str, dict[str, position.Position]] | None = None
    """By cache key that was not found, how far the nodes had come then: what is read now reflects at least that."""
    recorder: spans.Recorder | None = None
    """What `tenfold trace` is shown; None unless the request asked for it with the service's debug key."""

    def about_to_write(self) -> None:
        """Whoever asks for the primary on the request's behalf says so before. What this raises ends the request's work
        here: another region does all of it."""

    def wrote(self, at: position.Position) -> None:
        """Remember a write of this request; its later reads see it, and so does the client's next request."""
        self.seen = self.seen.raised([at])
        self.is_known = True
        self.has_written = True

    def saw(self, at: position.Position) -> None:
        """Remember how new a copy was that this request read: it never reads an older one."""
        self.seen = self.seen.raised([at])


_current: ContextVar[Request | None] = ContextVar("tenfold_request", default=None)


def current() -> Request | None:
    """The request that this task serves, or None outside one."""
    return _current.get()


enter = _current.set
"""Make a request the current one until `leave` gets the token: `serving`, for the one place that counts its time."""

leave = _current.reset
"""Undo `enter`, in the same task."""


def about_to_write() -> None:
    """The request of this task, if there is one, is about to write: `Request.about_to_write`."""
    serving = _current.get()
    if serving is not None:
        serving.about_to_write()


def recording() -> spans.Recording:
    """Where what this task does now is written down: nowhere, unless its request is being traced."""
    serving = _current.get()
    recorder = None if serving is None else serving.recorder
    return spans.NOWHERE if recorder is None else recorder.inside()


@contextmanager
def serving(request: Request) -> Iterator[Request]:
    """Make `request` the current one for this task and the tasks it starts."""
    token = _current.set(request)
    try:
        yield request
    finally:
        _current.reset(token)
