"""The debug header: a request that brings the service's debug key gets back what became of it.

Called by `arrival` for requests that carry `Tenfold-Debug`, and by `exchange` when the response to such a request
begins. The header never reaches the app, whatever is in it; neither the key nor a trace is ever logged. What happens
after the response has begun is not in the trace: it travels in the response's headers.
"""

import logging
import time
from typing import TYPE_CHECKING

from tenfold import bindings, spans
from tenfold.sdk.asgi import protocol

if TYPE_CHECKING:
    from tenfold.sdk.asgi import exchange

log = logging.getLogger("tenfold.trace")

DEBUG = b"tenfold-debug"
TRACE = b"tenfold-trace"
TIMING = b"server-timing"
REQUEST_ID = b"x-request-id"

MOST_BYTES = 7168
"""Below what common clients take as one header (8 KiB), and well below what the balancer has room for (32 KiB)."""

DATABASE = frozenset(("classify", "statement", "begin", "commit", "rollback", "settle", "connection", "wait"))
"""The kinds of spans that are time spent on the database; what a transaction does between them is the app's."""


def begin(said: bytes, one: "exchange.Exchange") -> None:
    """Take the header away; record the request if it holds the key."""
    one.scope["headers"] = [(name, value) for name, value in one.scope["headers"] if name != DEBUG]
    secret = one.tracker.settings.service.secret
    if not secret or not bindings.is_key(said, bindings.debug_key(secret)):
        return
    if one.scope["type"] == "http":
        name = bindings.server_from_environment() or "this process"
        one.recorder = spans.Recorder(time.monotonic, one.began, "web", name)
        one.recorder.root.decide(_admission(one))


def onto(message: protocol.Message, one: "exchange.Exchange") -> protocol.Message:
    """The message that begins the response, with the trace in it. Nothing is recorded from now on.

    No cache may keep it: the next one to ask has no key.
    """
    recorder, one.recorder = one.recorder, None
    if recorder is None:
        return message
    root = recorder.finish()
    log.info(
        "request %s: traced: %s %s: %d after %.1f ms",
        *(one.trace, one.scope["method"], one.scope["path"], message["status"], root.duration_ms),
    )
    timing = _timing(root)
    added = [(TIMING, timing), (TRACE, spans.encode(root, MOST_BYTES).encode()), (b"cache-control", b"no-store")]
    if not any(name.lower() == REQUEST_ID for name, _ in message.get("headers", ())):
        added.append((REQUEST_ID, one.trace.encode("latin-1")))
    kept = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"cache-control"]
    return {**message, "headers": [*kept, *added]}


def _admission(one: "exchange.Exchange") -> str:
    """How it came in. It is among those that are worked on itself."""
    at_once = f"admitted: {len(one.tracker.working)} of at most {one.tracker.settings.max_requests} at once"
    return f"{at_once}, {one.queued_seconds * 1000:.1f} ms after the balancer had it" if one.queued_seconds else at_once


def _timing(root: spans.Span) -> bytes:
    """The sums that browsers show in their developer tools (W3C, Server Timing)."""
    database = spans.covered_ms(span for span in root.walk() if span.kind in DATABASE)
    statements = sum(1 + span.omitted for span in root.walk() if span.kind in ("statement", "commit"))
    return (
        f"app;dur={root.duration_ms - database:.2f}, "
        f'database;dur={database:.2f};desc="{statements} statements", total;dur={root.duration_ms:.2f}'
    ).encode()
