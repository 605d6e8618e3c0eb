"""A request that turns out to write in a region that is not the home: whether all of it goes there, and in which words.

Asked by `exchange` at a request's first write; `road` carries it. Pure. A request goes home whole or not at all, and
once at most: what came from another region is worked on where it is, whichever region is the home by now.
"""

from enum import Enum
from urllib.parse import quote

from tenfold.sdk.asgi import incoming, protocol

SENT = b"tenfold-sent-home"
"""The header by which the home's balancers mark what comes from other regions. A client's is taken away."""

METHODS = incoming.BODYLESS
"""What balancers leave where it comes in, and what may write all the same."""

MOST_BODY_BYTES = 1024 * 1024
"""A request with a larger body stays where it is, and each of its statements crosses."""

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Headers that are about one connection (RFC 9110, 7.6.1)."""

SAID_ANEW = frozenset((b"content-length", b"expect"))

NO_BODY = frozenset((204, 304))
"""Statuses whose answers end with their head (RFC 9112, 6.3)."""


class GoHomeError(BaseException):
    """The rest of this request is the home region's. As little an `Exception` as a cancellation is: no app answers it.

    Whatever an app does about it, the answer comes from home. Never leaves a request.
    """


class BadAnswerError(Exception):
    """What came back is no HTTP/1.1."""


class Place(Enum):
    """Where a request's writes are made."""

    UNDECIDED = "undecided"
    HERE = "here"
    """It writes from where it is. So it stays: what was begun here is ended here."""
    HOME = "home"
    """The home region does all of it; nothing was written here, and nothing will be."""
    SENT = "sent"
    """The home region has it."""


def may_go(scope: protocol.Scope) -> bool:
    """Whether the home region can be asked the same thing, once."""
    if scope["type"] != "http" or scope["method"] not in METHODS:
        return False
    if any(name == SENT for name, _ in scope["headers"]):
        return False
    length = body_bytes(scope)
    return length is not None and length <= MOST_BODY_BYTES and _is_plain(_target(scope))


def body_bytes(scope: protocol.Scope) -> int | None:
    """How long the request's body is; None when its head does not say."""
    if incoming.has_no_body(scope):
        return 0
    said = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(said[0]) if len(said) == 1 and said[0].isdigit() and len(said[0]) < 19 else None


def head(scope: protocol.Scope, body: bytes, added: protocol.Headers) -> bytes:
    """The request as it is sent home: the client's headers and those of the balancer it came to."""
    kept = end_to_end(scope["headers"], SAID_ANEW)
    if not any(name == b"host" for name, _ in kept):
        kept.insert(0, (b"host", b"home"))
    if body:
        kept.append((b"content-length", str(len(body)).encode()))
    lines = [scope["method"].encode() + b" " + _target(scope) + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in (*kept, *added)]
    return b"\r\n".join((*lines, b"", b""))


def parsed(answer: bytes) -> tuple[int, protocol.Headers]:
    """An answer's status and headers, names in lower case. Raises BadAnswerError."""
    first, *lines = answer.rstrip(b"\r\n").split(b"\r\n")
    version, _, said = first.partition(b" ")
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or not said[:3].isdigit():
        raise BadAnswerError(f"{first[:40]!r} found, HTTP/1.1 expected")
    pairs = (line.partition(b":") for line in lines)
    return int(said[:3]), [(name.strip().lower(), value.strip()) for name, _, value in pairs]


def end_to_end(headers: protocol.Headers, but: frozenset[bytes] = frozenset()) -> protocol.Headers:
    """The headers that are not about one connection alone, and not one of `but`."""
    named = {
        part.strip().lower() for name, value in headers if name == b"connection" for part in value.lower().split(b",")
    }
    return [(name, value) for name, value in headers if name not in HOP_BY_HOP and name not in named | but]


def _target(scope: protocol.Scope) -> bytes:
    """The path with its query, as the client wrote it."""
    path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path


def _is_plain(target: bytes) -> bool:
    """Whether it ends nothing in a request line."""
    return target.startswith(b"/") and all(0x21 <= byte <= 0x7E for byte in target)
