"""What a request brings along in its headers: positions, trace, time spent in queues, and who is behind the balancer.

Called by `wrap` for requests that have any such header. No I/O.
"""

import asyncio
import time

from tenfold.sdk.asgi import answers, client, cookies, exchange, protocol, settings, tracing
from tenfold.sdk.cdn import visits

POSITION = b"x-tenfold-position"
STARTED = b"x-request-start"
TRACE = b"x-request-id"
KEY = b"idempotency-key"
COOKIE = b"cookie"
FORWARDED_FOR = b"x-forwarded-for"
FORWARDED_PROTO = b"x-forwarded-proto"

READ = frozenset((POSITION, STARTED, TRACE, KEY, COOKIE, tracing.DEBUG)) | client.FORWARDING
"""The headers that are looked at: all others cost one look into this set."""

MOST_TRACE_CHARACTERS = 128
MOST_QUEUED_SECONDS = 120.0
"""A request that seems to have waited for longer has met a clock that is wrong."""

Found = dict[bytes, bytes]


def note(headers: protocol.Headers) -> Found | None:
    """The headers that matter here; of one that comes several times, all values (RFC 9110, 5.3)."""
    found: Found | None = None
    for name, value in headers:
        if name in READ:
            if found is None:
                found = {name: value}
            elif name in found:
                found[name] += (b"; " if name == COOKIE else b",") + value
            else:
                found[name] = value
    return found


def apply(found: Found, one: exchange.Exchange) -> None:
    """Take everything in `found` into the exchange and its scope. Raises RefusedError when its time is over already."""
    setup = one.tracker.settings
    peer = one.scope.get("client")
    if peer is not None and setup.trusts(peer[0]):
        _from_balancer(found, one, setup)
    elif not client.FORWARDING.isdisjoint(found):
        client.strip(one.scope)
    cookie = found.get(COOKIE)
    if cookie is not None and setup.slot_prefix in cookie:
        one.seen, one.brought = cookies.read(cookie, setup)
        one.is_known = bool(one.seen)
    if cookie is not None and setup.bypasses.prefix in cookie:
        visits.of(one).brought = setup.bypasses.read(cookie)
    token = found.get(POSITION)
    if token is not None:
        one.seen = one.seen.raised(setup.positions.read(token.decode("latin-1")).values())
        one.is_known = bool(one.seen)
    debug = found.get(tracing.DEBUG)
    if debug is not None:
        tracing.begin(debug, one)


def _from_balancer(found: Found, one: exchange.Exchange, setup: settings.Settings) -> None:
    """What only the balancer may say: these headers are overwritten there."""
    scope = one.scope
    forwarded = found.get(FORWARDED_FOR)
    if forwarded is not None:
        behind = setup.client_of(forwarded)
        if behind is not None:
            scope["client"] = behind
    named = found.get(FORWARDED_PROTO)
    if named is not None:
        scope["scheme"] = client.scheme(named, scope["scheme"])
    trace = found.get(TRACE)
    if trace is not None and len(trace) <= MOST_TRACE_CHARACTERS:
        one.trace = trace.decode("latin-1")
    started = found.get(STARTED)
    if started is not None:
        waited = queued_seconds(started, time.time())
        if waited:
            one.queued_seconds = waited
            one.deadline = one.expires = one.expires - waited
            if one.expires <= asyncio.get_running_loop().time():
                raise answers.RefusedError(answers.queued_too_long())


def queued_seconds(started: bytes, now: float) -> float:
    """How long ago the balancer got the request: `1700000000123` or `t=1700000000123`, in milliseconds since 1970.

    16 digits are microseconds, as HAProxy says them. 0 for what is not such a number, lies in the future, or so far
    back that a clock must be wrong.
    """
    digits = started.removeprefix(b"t=")
    if not digits.isdigit() or len(digits) > 16:
        return 0.0
    waited = now - int(digits) / (1_000_000 if len(digits) == 16 else 1000)
    return waited if 0.0 <= waited <= MOST_QUEUED_SECONDS else 0.0
