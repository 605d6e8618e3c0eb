"""Messages: the envelope that transports carry, and the `Message` that a subscriber's function gets. Pure.

An envelope's headers hold all that is said about a message, by CloudEvents' names (binary content mode), so that a
transport carries them as they are and knows nothing else.
"""

from datetime import UTC, datetime
from typing import Generic, TypeVar
from uuid import UUID

import msgspec

from tenfold import position

Payload = TypeVar("Payload")

ID = "ce-id"
SOURCE = "ce-source"
SUBJECT = "ce-subject"
"""The message's key, where it has one. (What we call subject, its kind, is CloudEvents' `type`.)"""
TYPE = "ce-type"
TIME = "ce-time"
SCHEMA = "ce-dataschema"
"""The name of the payload's class: what tells the versions of a payload apart."""
SPECIFICATION = "ce-specversion"
CONTENT_TYPE = "content-type"
TRACE_PARENT = "traceparent"
"""W3C Trace Context: the trace that the message was published in."""
REQUEST_ID = "x-request-id"
"""The request that the message was published in, as the service's logs name it."""
POSITION = "tenfold-position"
"""What the publisher had written or seen: the handler reads nothing older."""

OURS = ("ce-", "tenfold-", "nats-", CONTENT_TYPE, REQUEST_ID)
"""How names of headers begin that an app cannot give."""


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """One message as transports carry it: its payload is JSON, its headers hold everything about it."""

    id: UUID
    subject: str
    payload: bytes
    headers: dict[str, str] = {}
    key: str | None = None


class Message(Generic[Payload]):
    """One message as a subscriber's function gets it. `message.payload` is of the type that its annotation names."""

    __slots__ = ("attempt", "headers", "id", "key", "payload", "subject")

    def __init__(self, envelope: Envelope, payload: Payload, attempt: int) -> None:
        self.id = envelope.id
        """The same for every try, and for every group that gets it."""
        self.subject = envelope.subject
        self.key = envelope.key
        self.headers = envelope.headers
        """Those given with `headers=` and those of CloudEvents; names in lower case."""
        self.payload = payload
        self.attempt = attempt
        """1 for the first try."""

    @property
    def published_at(self) -> datetime:
        """When it was published, by the publisher's clock; now, when that is no publisher of ours and did not say."""
        try:
            return datetime.fromisoformat(self.headers.get(TIME, ""))
        except ValueError:
            return datetime.now(UTC)

    @property
    def position(self) -> position.Positions:
        """What the publisher had written or seen."""
        return position.Positions.parse(self.headers.get(POSITION, ""))

    def __repr__(self) -> str:
        return f"<Message {self.subject} {self.id} attempt {self.attempt}>"


class Discard(Exception):  # noqa: N818 - it is a word of the handler's, not an error
    """Raised by a subscriber's function: done with this message, do not try again and do not keep it."""


class Retry(Exception):  # noqa: N818 - it is a word of the handler's, not an error
    """Raised by a subscriber's function: again after so many seconds, without noise in the log. Counts as a try."""

    def __init__(self, after: float | None = None) -> None:
        super().__init__(after)
        self.after = after


class Taken:
    """A message that this process has been given for one group. Settled exactly once, by its consumer.

    Transports make their own kind, with what they need to settle it.
    """

    __slots__ = ("attempt", "due_at", "envelope")

    def __init__(self, envelope: Envelope, attempt: int, due_at: float = 0.0) -> None:
        self.envelope = envelope
        self.attempt = attempt
        """1 for the first try. Also counts tries that ended with the death of their process."""
        self.due_at = due_at
        """Since when it could have been handled, in seconds since 1970; 0: not known."""
