"""The queue by hand, for tests: nothing runs until it is asked to, and then everything that waits.

Made by `tf.queue.by_hand` for `tenfold.testing`. Messages go the same way as in production, through the outbox and
tenfold.delivery to the same handling; only the loops around it are missing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tenfold import errors
from tenfold.sdk.db import primary
from tenfold.sdk.queue import handling, messages, store, subscribers, subscriptions, transport
from tenfold.sdk.queue.postgres import consuming

MOST = 10_000
"""Messages that one drain handles at most: a handler that publishes its own subject would go on for ever."""

_DUE = "select id from tenfold.outbox where available_at <= now() order by available_at, id limit 500"

_SOONER = (
    "update tenfold.outbox set available_at = available_at - $1::interval "
    "where available_at > now() and available_at <= now() + $1::interval",
    "update tenfold.delivery set available_at = available_at - $1::interval "
    "where available_at > now() and available_at <= now() + $1::interval",
)


@dataclass(frozen=True, slots=True)
class Handled:
    """One message that one group has handled."""

    group: str
    subject: str
    payload: Any
    key: str | None
    attempt: int


class ByHand:
    """What a test does in the place of senders, sweepers and workers."""

    def __init__(
        self,
        shards: primary.Shards,
        handled_by: Sequence[subscribers.Subscriber],
        carrier: Callable[[], transport.Transport],
    ) -> None:
        self._shards = shards
        self._subscribers = handled_by
        self._carrier = carrier

    async def drain(self, ahead: timedelta) -> list[Handled]:
        """Handle what waits, what that publishes, and what becomes due in so long a time; returns what was handled.

        Raises the first error of a handler, with a note that names the message, which is then as after a failed try.
        """
        done: list[Handled] = []
        if not self._subscribers:
            return done
        await subscriptions.write(self._shards, [one.subscription for one in self._subscribers])
        carrier = self._carrier()
        consumers = [carrier.consume(one.subscription) for one in self._subscribers]
        try:
            while await self._pass_on(ahead) + len(found := await self._round(consumers)):
                done += found
                if len(done) > MOST:
                    raise errors.MisuseError(f"drain: more than {MOST} messages found; does a handler publish its own?")
        finally:
            for one in consumers:
                await one.close()
        return done

    async def _pass_on(self, ahead: timedelta) -> int:
        if ahead > timedelta(0):
            for statement in _SOONER:
                await store.execute(self._shards, statement, ahead)
        due = [row[0] for row in await store.fetch(self._shards, _DUE)]
        return await self._carrier().pass_on(due, len(due)) if due else 0

    async def _round(self, consumers: Sequence[transport.Consumer]) -> list[Handled]:
        """Each subscriber's messages of now, one after the other."""
        done: list[Handled] = []
        for subscriber, consumer in zip(self._subscribers, consumers, strict=True):
            assert isinstance(consumer, consuming.Consumer)
            for taken in await consumer.claim(100):
                await self._handle(subscriber, consumer, taken)
                done.append(_handled(subscriber, taken))
            await consumer.settled()
        return done

    async def _handle(
        self, subscriber: subscribers.Subscriber, consumer: transport.Consumer, taken: messages.Taken
    ) -> None:
        work = handling.Handling(subscriber, consumer, self._shards)
        outcome = await work.attempt(taken)
        await work.settle(taken, outcome)
        if isinstance(outcome, handling.Done) or isinstance(outcome.error, messages.Retry):
            return
        one = taken.envelope
        error = outcome.error or errors.TenfoldError(str(outcome))
        error.add_note(f"while {subscriber.name} handled {one.subject} {one.payload[:200]!r} (try {taken.attempt})")
        raise error


def _handled(subscriber: subscribers.Subscriber, taken: messages.Taken) -> Handled:
    one = taken.envelope
    payload = subscriber.decode(one.payload, one.headers.get(messages.SCHEMA, ""))
    return Handled(subscriber.group, one.subject, payload, one.key, taken.attempt)
