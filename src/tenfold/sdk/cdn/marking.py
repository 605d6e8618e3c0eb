"""What a response says about being kept: `tf.cdn.public` and `tf.cdn.private`. Pure but for the response it is handed.

Called by `cdn`; `visits` looks at the result when the response begins.
"""

import math
from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any, TypeVar

from tenfold import errors, request
from tenfold.sdk.cdn import purges

Response = TypeVar("Response")

FOR_EDGES = "CDN-Cache-Control"
"""RFC 9213: what caches of the service's own do, whatever other caches are told."""

TAGS = "Surrogate-Key"
FOR_BROWSERS = "Cache-Control"

ASK_AGAIN = "no-cache"
"""A browser may keep it, and asks each time: nobody can purge a browser."""

NOBODY = "private, no-cache"

MOST_SECONDS = 365 * 86400


def public(response: Response, max_age: float, stale: float, tags: Sequence[str]) -> Response:
    """Mark it: see `Cdn.public`."""
    headers = _headers_of("tf.cdn.public", response)
    fresh_seconds, stale_seconds = _seconds("max_age", max_age), _seconds("stale", stale)
    text = purges.header_of(purges.checked_tags("tf.cdn.public", tags))
    directives = f"max-age={fresh_seconds}"
    _set(headers, FOR_EDGES, f"{directives}, stale-while-revalidate={stale_seconds}" if stale_seconds else directives)
    _set(headers, FOR_BROWSERS, ASK_AGAIN)
    _set(headers, TAGS, text)
    return response


def private(response: Response) -> Response:
    """Mark it: see `Cdn.private`."""
    headers = _headers_of("tf.cdn.private", response)
    _set(headers, FOR_EDGES, "no-store")
    _set(headers, FOR_BROWSERS, NOBODY)
    _set(headers, TAGS, "")
    return response


def is_kept(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether an edge would keep a response with these headers because it was marked."""
    said = [value.lower() for name, value in headers if name.lower() == b"cdn-cache-control"]
    return bool(said) and not any(b"no-store" in value or b"private" in value for value in said)


def personal(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Why a response with these headers is for one person alone; empty when nothing says so."""
    for name, value in headers:
        if name.lower() == b"set-cookie":
            return f"sets the cookie {value.partition(b'=')[0].decode('latin-1')!r}"
        if name.lower() == b"vary" and b"cookie" in value.lower():
            return "depends on the request's cookies (its session was asked for)"
    return ""


def closed(headers: Iterable[tuple[bytes, bytes]]) -> request.Headers:
    """The same headers for a response that nobody may keep."""
    marks = {FOR_EDGES.lower().encode(), FOR_BROWSERS.lower().encode(), TAGS.lower().encode()}
    kept = [(name, value) for name, value in headers if name.lower() not in marks]
    return [*kept, (b"cdn-cache-control", b"no-store"), (b"cache-control", NOBODY.encode())]


def _headers_of(where: str, response: Any) -> MutableMapping[str, Any]:
    headers: Any = getattr(response, "headers", None)
    if not hasattr(headers, "__setitem__") or not hasattr(headers, "items"):
        raise errors.MisuseError(
            f"{where}: a {type(response).__name__} found, a response with headers expected; in FastAPI take "
            "`response: Response` as a parameter of the endpoint, or return a Response of your own"
        )
    found: MutableMapping[str, Any] = headers
    return found


def _set(headers: MutableMapping[str, Any], name: str, value: str) -> None:
    """The one header of this name; without a value none. Plain dicts know upper and lower case."""
    for known in [one for one, _ in headers.items() if one.lower() == name.lower()]:
        if known in headers:
            del headers[known]
    if value:
        headers[name] = value


def _seconds(name: str, value: float) -> int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not 0 <= value <= MOST_SECONDS:
        raise errors.MisuseError(f"tf.cdn.public: {name}={value!r} found, seconds from 0 to {MOST_SECONDS} expected")
    return math.ceil(value)
