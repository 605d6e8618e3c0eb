"""Answers that tenfold gives itself: to errors of its own, to what it will not let in, and to `/-/ready`.

Called by `exchange` and `wrap`. Pure. Errors are answered as problem details (RFC 9457); what a client is told holds no
names or addresses of servers, those are in the log.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenfold import errors
from tenfold.sdk.asgi import protocol

REFUSED = (b"tenfold-refused", b"full")
"""A header of what was refused because there was too much else; balancers say `queue`."""

BAD_TOKEN = b'Bearer error="invalid_token"'
"""What a client hears of a token that does not verify (RFC 6750, 3)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def start(self) -> protocol.Message:
        """The message that begins it."""
        headers = [(b"content-length", str(len(self.body)).encode()), (b"cache-control", b"no-store"), *self.headers]
        return {"type": "http.response.start", "status": self.status, "headers": headers}

    @property
    def end(self) -> protocol.Message:
        """The message that ends it."""
        return {"type": "http.response.body", "body": self.body}

    async def give(self, send: protocol.Send) -> None:
        """Send it."""
        await send(self.start)
        await send(self.end)


class RefusedError(Exception):
    """The request goes no further; `answer` says why. Never leaves this package."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__(answer.status)


def problem(
    status: int, title: str, detail: str, *, after_seconds: float | None = None, more: Mapping[str, Any] | None = None
) -> Answer:
    """A problem in RFC 9457's form. With `after_seconds` it says when to come back."""
    body = {"title": title, "status": status, "detail": detail, **(more or {})}
    headers = [(b"content-type", b"application/problem+json")]
    if after_seconds is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(after_seconds))).encode()))
    return Answer(status, json.dumps(body).encode(), tuple(headers))


def text(status: int, words: str) -> Answer:
    """A line of plain text."""
    return Answer(status, f"{words}\n".encode(), ((b"content-type", b"text/plain; charset=utf-8"),))


def overloaded() -> Answer:
    """There is more work here than one process takes on."""
    return _refused("There are too many requests at once; nothing was done.")


def too_late(*, has_written: bool) -> Answer:
    """The response did not begin before the deadline. Whoever may have done something is not told to repeat it."""
    if has_written:
        return problem(503, "Took too long", "The answer did not come in time; a part of the request was done.")
    return problem(503, "Took too long", "The answer did not come in time.", after_seconds=1)


def home_is_away() -> Answer:
    """The home region could not be reached, and nothing was sent there."""
    return problem(503, "Try again", "What writes cannot be done right now; nothing was done.", after_seconds=1)


def home_broke_off() -> Answer:
    """The home region was at it, or is, and its answer does not come."""
    return problem(502, "Broken off", "The answer broke off while the request was worked on; look before trying again.")


def home_is_late() -> Answer:
    """The same, and time is up."""
    return problem(504, "Took too long", "The answer did not come in time; the request may be done all the same.")


def queued_too_long() -> Answer:
    """The deadline had passed before the request arrived here."""
    return _refused("The request waited in a queue for as long as it may take; nothing was done.")


def _refused(detail: str) -> Answer:
    """For want of capacity, and for nothing else: who counts failures can tell it from one."""
    answer = problem(503, "Overloaded", detail, after_seconds=1)
    return dataclasses.replace(answer, headers=(*answer.headers, REFUSED))


def to(error: BaseException) -> Answer | None:
    """The answer to an error of tenfold's, or None when it is another's, and the server's own 500 says it best."""
    own = unwrapped(error)
    if isinstance(own, errors.StoreUnavailable):
        detail = "Something that this request needs does not answer; a part of the request may be done."
        return problem(503, "Try again", detail, after_seconds=own.after_seconds)
    if isinstance(own, errors.TryAgain):
        detail = "The service cannot do this right now; nothing was done."
        return problem(503, "Try again", detail, after_seconds=own.after_seconds)
    if isinstance(own, errors.OutcomeUnknown):
        detail = "It is not known whether this was done: it was done once or not at all. Look before trying again."
        return problem(503, "Outcome unknown", detail, more={"token": own.token})
    if isinstance(own, errors.NotFound):
        return problem(404, "Not found", "There is no such thing.")
    if isinstance(own, errors.KeyInUse):
        return problem(409, "Idempotency-Key in use", "The first request with this Idempotency-Key still runs.")
    if isinstance(own, errors.KeyReused):
        detail = "This Idempotency-Key was used for another request before; use a new key for a new request."
        return problem(422, "Idempotency-Key reused", detail)
    if isinstance(own, errors.BadToken):
        refused = problem(401, "Bad token", "The token is not valid here.", more={"reason": own.reason})
        return dataclasses.replace(refused, headers=(*refused.headers, (b"www-authenticate", BAD_TOKEN)))
    if isinstance(own, errors.CsrfFailed):
        return problem(403, "Bad CSRF token", "The form is too old, or from elsewhere; load the page again.")
    return None


def unwrapped(error: BaseException) -> BaseException:
    """The one error inside groups of one, as task groups raise them."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
