"""Making envelopes: everything that is said about a message, checked, before anything is written. No I/O.

Called by `publishing`. CloudEvents 1.0.2 in binary mode: its attributes are headers, the payload is the data.
"""

import hashlib
import re
import secrets
from datetime import UTC, datetime
from typing import Any

from tenfold import errors, request
from tenfold.sdk.queue import ids, messages, payloads, subjects

MOST_KEY_CHARACTERS = 256
MOST_HEADER_BYTES = 4096

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_TRACE_ID = re.compile(r"[0-9a-f]{32}")


def make(
    subject: str, payload: Any, *, key: str | None, headers: dict[str, str] | None, source: str, most_bytes: int
) -> messages.Envelope:
    """A message with a new id, published now in the current request.

    Raises `BadSubject`, `NotEncodable` or `TooLarge`, and `MisuseError` for a key or headers that cannot be such.
    """
    where = f"publish {subjects.ensure_subject(subject)}"
    data = payloads.encode(payload, where)
    if len(data) > most_bytes:
        raise errors.TooLarge(
            f"{where}: a payload of {len(data)} bytes found, at most {most_bytes} expected; keep what is large "
            "elsewhere and send where it is, or raise queue.message_size in tenfold.toml"
        )
    id_ = ids.fresh()
    said = {
        messages.SPECIFICATION: "1.0",
        messages.ID: str(id_),
        messages.SOURCE: source,
        messages.TYPE: subject,
        messages.TIME: datetime.now(UTC).isoformat(),
        messages.CONTENT_TYPE: "application/json",
    }
    if name := payloads.schema(payload):
        said[messages.SCHEMA] = name
    if key is not None:
        said[messages.SUBJECT] = _checked_key(where, key)
    said.update(_trace())
    if headers:
        said.update(_checked_headers(where, headers))
    return messages.Envelope(id_, subject, data, said, key)


def _trace() -> dict[str, str]:
    """The trace that goes on with the message: the request's, by W3C's rules and by the name in the logs."""
    serving = request.current()
    if serving is None or not serving.trace:
        return {}
    trace = serving.trace
    known = trace if _TRACE_ID.fullmatch(trace) else hashlib.blake2s(trace.encode(), digest_size=16).hexdigest()
    return {messages.REQUEST_ID: trace, messages.TRACE_PARENT: f"00-{known}-{secrets.token_hex(8)}-01"}


def _checked_key(where: str, key: object) -> str:
    if isinstance(key, str) and 0 < len(key) <= MOST_KEY_CHARACTERS and key.isprintable():
        return key
    raise errors.MisuseError(
        f"{where}: the key {key!r:.60} found, a printable text of at most {MOST_KEY_CHARACTERS} characters expected; "
        "write key=str(...)"
    )


def _checked_headers(where: str, headers: dict[str, str]) -> dict[str, str]:
    lowered = {str(name).lower(): value for name, value in headers.items()}
    for name, value in lowered.items():
        if not _NAME.fullmatch(name) or name.startswith(messages.OURS):
            raise errors.MisuseError(
                f"{where}: the header {name!r:.60} found, a name of letters, digits, - and _ expected that does not "
                f"begin with {', '.join(messages.OURS)}"
            )
        if not isinstance(value, str) or not value.isprintable():
            raise errors.MisuseError(f"{where}: header {name}: {value!r:.60} found, a text of one line expected")
    if sum(len(name) + len(value) for name, value in lowered.items()) > MOST_HEADER_BYTES:
        raise errors.TooLarge(f"{where}: headers of more than {MOST_HEADER_BYTES} bytes found; put data in the payload")
    return lowered
