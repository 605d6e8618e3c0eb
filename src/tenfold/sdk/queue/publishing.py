"""Publishing: `tx.publish`, a row of the outbox in the transaction, and `tf.queue.publish`, durable on return.

`Publishing` is what `tx.publish` calls (`db/outward`). One round trip in the transaction, none after its commit: who
passes messages on is `relay`.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tenfold import errors, position, request
from tenfold.sdk import counters
from tenfold.sdk.db import primary, transaction
from tenfold.sdk.queue import envelopes, known, messages, outbox, transport

RETRY_SECONDS = 1.0
"""After how long a publisher that was refused may try again."""


class Publishing:
    """Everything that one process publishes. `limits`: what `Queue` knows of its surroundings."""

    def __init__(
        self, shards: primary.Shards, subjects: known.Subjects, passed_on: Callable[[UUID, float], None]
    ) -> None:
        self._shards = shards
        self._subjects = subjects
        self._passed_on = passed_on
        """Told of each message that is committed, and after how many seconds it is due."""
        self.source = "/app"
        self.most_bytes = 1024 * 1024
        self.is_full = False
        """Whether too much waits already; kept up to date by the relay."""
        self.watcher: Callable[[messages.Envelope, Any], None] = _nobody
        """Told of each message that is published for certain, with its payload: for tests."""

    async def publish(
        self,
        tx: transaction.Transaction,
        subject: str,
        payload: Any,
        *,
        key: str | None,
        at: datetime | None,
        delay: float | None,
        headers: dict[str, str] | None,
    ) -> UUID:
        """`tx.publish`: see `outward.Outward.publish`."""
        made = self._envelope(subject, payload, key, at, delay, headers)
        if not self._subjects.knows(subject):
            await self._subjects.ensure_known(subject, tx)
        await tx.execute(outbox.INSERT, *outbox.row(made, at, delay))
        counters.add("queue.published")

        async def committed(_: position.Position | None) -> None:
            self._passed_on(made.id, _seconds(at, delay))
            self.watcher(made, payload)

        tx.after_commit(committed)
        return made.id

    async def publish_alone(
        self,
        carrier: transport.Transport,
        subject: str,
        payload: Any,
        *,
        key: str | None,
        at: datetime | None,
        delay: float | None,
        headers: dict[str, str] | None,
    ) -> UUID:
        """`tf.queue.publish`: durable on return. What is held back waits in the outbox, whatever carries it later."""
        transaction.ensure_none_open("tf.queue.publish")
        request.about_to_write()
        made = self._envelope(subject, payload, key, at, delay, headers)
        if not self._subjects.knows(subject):
            await self._subjects.ensure_known(subject, self._shards)
        if at is not None or delay is not None:
            await outbox.insert(self._shards, made, at, delay)
            self._passed_on(made.id, _seconds(at, delay))
        else:
            seen = (request.current() or self._shards.outside).seen
            if seen:
                made.headers[messages.POSITION] = str(seen)
            await carrier.send([made])
        counters.add("queue.published")
        self.watcher(made, payload)
        return made.id

    def _envelope(
        self,
        subject: str,
        payload: Any,
        key: str | None,
        at: datetime | None,
        delay: float | None,
        headers: dict[str, str] | None,
    ) -> messages.Envelope:
        if self.is_full:
            counters.add("queue.refused")
            raise errors.Overloaded(
                f"publish {subject}: more messages wait than the queue has room for; nothing was published; see "
                "`tenfold queue` for the group that does not keep up",
                RETRY_SECONDS,
            )
        if at is not None and (delay is not None or at.tzinfo is None):
            raise errors.MisuseError(
                f"publish {subject}: at={at!s} found, a time with its zone expected, and no delay= beside it; write "
                "at=datetime.now(UTC) + timedelta(hours=1)"
            )
        if delay is not None and not 0 <= delay < 10 * 366 * 86400:
            raise errors.MisuseError(f"publish {subject}: delay={delay} found, seconds from 0 on expected")
        return envelopes.make(
            subject, payload, key=key, headers=headers, source=self.source, most_bytes=self.most_bytes
        )


def _seconds(at: datetime | None, delay: float | None) -> float:
    """How long a message is held back."""
    return delay or (0.0 if at is None else (at - datetime.now(UTC)).total_seconds())


def _nobody(made: messages.Envelope, payload: Any) -> None:
    """Watches nothing."""
