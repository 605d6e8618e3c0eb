"""The `Idempotency-Key` header: the key, its scope, the body's fingerprint, and the body once more for the app.

Called by `wrap`, only for requests that carry the header. The body is read before the app starts, because the
fingerprint covers it; it is bounded, and a larger one is refused: a client or a balancer that repeats a request keeps
its body, and keeps no more than that either.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from tenfold import request
from tenfold.sdk.asgi import answers, protocol

MOST_BODY_BYTES = 1024 * 1024
MOST_KEY_CHARACTERS = 255
SAFE = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
"""Methods that change nothing: a key means nothing on them."""


class DisconnectedError(Exception):
    """The client went away before its body was here: there is nobody to answer."""


@dataclass(slots=True)
class Body:
    """A body that was read, given to the app as if it came from the client."""

    content: bytes
    receive: protocol.Receive
    is_given: bool = False

    async def __call__(self) -> protocol.Message:
        if self.is_given:
            return await self.receive()
        self.is_given = True
        return {"type": "http.request", "body": self.content, "more_body": False}


async def read(
    scope: protocol.Scope, receive: protocol.Receive, principal: str
) -> tuple[request.IdempotencyKey, protocol.Receive]:
    """The request's key and a `receive` that gives the app the body. Raises Refused or DisconnectedError."""
    key = _valid([value for name, value in scope["headers"] if name == b"idempotency-key"])
    body = await _whole(scope, receive)
    where = json.dumps([scope["method"], scope["path"], principal])
    return request.IdempotencyKey(where, key, fingerprint(scope, body)), Body(body, receive)


def fingerprint(scope: protocol.Scope, body: bytes) -> bytes:
    """What makes two requests the same: method, path, query and body."""
    digest = hashlib.sha256()
    for part in (scope["method"].encode(), scope["path"].encode(), scope["query_string"], body):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def default_principal(scope: protocol.Scope) -> str:
    """Who makes the request, by its Authorization header; empty for everybody without one."""
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    return hashlib.sha256(b"\n".join(values)).hexdigest() if values else ""


def _valid(keys: Iterable[bytes]) -> str:
    found = [key.decode("latin-1").strip() for key in keys]
    if len(found) == 1 and 0 < len(found[0]) <= MOST_KEY_CHARACTERS and found[0].isascii() and found[0].isprintable():
        return found[0]
    detail = f"Send one Idempotency-Key of 1 to {MOST_KEY_CHARACTERS} printable ASCII characters."
    raise answers.RefusedError(answers.problem(400, "Bad Idempotency-Key", detail))


async def _whole(scope: protocol.Scope, receive: protocol.Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MOST_BODY_BYTES:
            detail = f"A request with an Idempotency-Key may have a body of {MOST_BODY_BYTES} bytes at most."
            raise answers.RefusedError(answers.problem(413, "Body too large", detail))
        if not message.get("more_body", False):
            return b"".join(parts)
