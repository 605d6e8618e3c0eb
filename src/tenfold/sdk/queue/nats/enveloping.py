"""An envelope as a message on the servers, and back.

Called by `publishing` and `consuming`. Pure. What other clients publish to our subjects becomes an envelope too: it is
the subscriber's side that finds out whether it can be handled.
"""

from typing import NamedTuple
from uuid import UUID, uuid5

from tenfold.sdk.queue import messages
from tenfold.sdk.queue.nats import naming, wire

DEDUPLICATED_BY = "Nats-Msg-Id"

STRANGERS = UUID("9b7f2b0e-6a55-4d2c-8f0c-2f6f3a1de0c4")
"""Makes ids for messages that came without one: the same for every try of the same message."""


class Source(NamedTuple):
    """What the servers say about a message that they deliver, in the subject to answer to."""

    attempt: int
    sequence: bytes
    published_at: float
    """Seconds since 1970, by the clock of the server that took it in."""


def packed(envelope: messages.Envelope, names: naming.Names) -> tuple[bytes, bytes]:
    """The subject and the headers to publish it under."""
    lane = naming.lane_of(envelope.key, envelope.id.bytes)
    headers = [(DEDUPLICATED_BY, str(envelope.id)), *envelope.headers.items()]
    return names.subject(envelope.subject, lane).encode(), wire.head_of(headers)


def unpacked(delivered: wire.Delivered, source: Source) -> messages.Envelope:
    """The envelope in a message."""
    headers = wire.headers(delivered.head) if delivered.head else {}
    said = headers.pop("nats-msg-id", "")
    return messages.Envelope(
        id=_id(headers.get(messages.ID, said), source),
        subject=naming.plain_subject(delivered.subject.decode("utf-8", "replace")),
        payload=delivered.payload,
        headers=headers,
        key=headers.get(messages.SUBJECT),
    )


def source(reply: bytes) -> Source:
    """What stands in `$JS.ACK.STREAM.CONSUMER.TRIES.SEQUENCE.COUNT.TIME.PENDING`, or in its longer form with a domain
    and an account (ADR-15 of the NATS architecture)."""
    words = reply.split(b".")
    at = 4 if len(words) == 9 else 6
    return Source(int(words[at]), words[at + 1], int(words[at + 3]) / 1e9)


def _id(said: str, source: Source) -> UUID:
    try:
        return UUID(said)
    except ValueError:
        return uuid5(STRANGERS, f"{said} {source.sequence.decode()}")
