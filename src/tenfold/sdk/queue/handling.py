"""Handling one message: its handler's surroundings, and what becomes of the message afterwards.

Called by `running` for each message that a consumer took, and by `tf.queue.drain` in tests. What happens to a message
is decided in `_attempt` and `_after`; `Handling.handle` does it.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from tenfold import errors, position, request
from tenfold.sdk import counters
from tenfold.sdk.db import connect, primary, run, transaction
from tenfold.sdk.queue import dead_letters, messages, payloads, subscribers, transport

log = logging.getLogger("tenfold.queue")

SOON_SECONDS = 0.001
"""A try that failed never comes back in no time: that is for messages given back untouched."""

MOST_LOST = 50
"""Tries that say nothing about a message (the database was away, a process was ended) do not make it a dead letter, up
to so many: a message that kills whoever handles it must not go round for ever."""

HANDLED_BEFORE = "INSERT 0 0"


@dataclass(frozen=True, slots=True)
class Done:
    """It is handled, or its handler does not want it."""


@dataclass(frozen=True, slots=True)
class Again:
    """It failed, and is to be tried again."""

    after_seconds: float
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Dead:
    """It cannot be handled."""

    reason: str
    error: BaseException | None = None


Outcome = Done | Again | Dead


class _HandledBeforeError(Exception):
    """The inbox has it: rolls back the transaction of a try too many."""


class Handling:
    """The messages of one subscriber, on one transport."""

    def __init__(
        self, subscriber: subscribers.Subscriber, consumer: transport.Consumer, shards: primary.Shards
    ) -> None:
        self._subscriber = subscriber
        self._consumer = consumer
        self._shards = shards

    async def handle(self, taken: messages.Taken) -> None:
        """Handle a message and settle it. A cancellation gives it back at once."""
        try:
            outcome = await self.attempt(taken)
            await self.settle(taken, outcome)
        except BaseException:
            self._consumer.give_back(taken, 0.0)
            raise

    async def settle(self, taken: messages.Taken, outcome: Outcome) -> None:
        """Let the transport know, and keep a dead letter first."""
        if isinstance(outcome, Again):
            counters.add("queue.retries")
            self._consumer.give_back(taken, outcome.after_seconds)
        elif isinstance(outcome, Dead):
            await self._bury(taken, outcome)
        else:
            counters.add("queue.handled")
            self._consumer.acknowledge(taken)

    async def attempt(self, taken: messages.Taken) -> Outcome:
        """Run the handler once; says what is to become of the message. Raises only what no handler may catch."""
        policy, envelope = self._subscriber.policy, taken.envelope
        if taken.attempt > policy.retries + MOST_LOST:
            return Dead(f"{taken.attempt - 1} tries, of which the last ended its process, or met trouble elsewhere")
        try:
            payload = self._subscriber.decode(envelope.payload, envelope.headers.get(messages.SCHEMA, ""))
        except payloads.PoisonError as error:
            return Dead(f"not what {self._subscriber.name} expects: {error}", error)
        message = messages.Message(envelope, payload, taken.attempt)
        serving = self._surroundings(envelope)
        token = request.enter(serving)
        deadline = serving.deadline
        try:
            async with asyncio.timeout_at(deadline):
                await self._run(message)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            assert deadline is not None
            return self._after(taken, error, is_late=asyncio.get_running_loop().time() >= deadline)
        finally:
            request.leave(token)
        return Done()

    def _surroundings(self, envelope: messages.Envelope) -> request.Request:
        """What a request has: a deadline, its trace, and what its maker had seen; it reads nothing older."""
        headers = envelope.headers
        try:
            seen = position.Positions.parse(headers.get(messages.POSITION, ""))
        except errors.BadPosition:
            seen = position.Positions()
        return request.Request(
            deadline=asyncio.get_running_loop().time() + self._subscriber.policy.timeout_seconds,
            trace=headers.get(messages.REQUEST_ID, ""),
            seen=seen,
            is_known=True,
        )

    async def _run(self, message: messages.Message[Any]) -> None:
        if not self._subscriber.is_transactional:
            await self._subscriber.function(message)
            return
        try:
            await run.run(self._shards, self._in_transaction, (message,))
        except _HandledBeforeError:
            counters.add("queue.handled_before")

    async def _in_transaction(self, tx: transaction.Transaction, message: messages.Message[Any]) -> None:
        """The inbox first: of two tries at once the second waits here for the first, and finds it done."""
        status = await tx.execute(self._consumer.handled, self._subscriber.group, message.id)
        if status == HANDLED_BEFORE:
            raise _HandledBeforeError
        await self._subscriber.function(message, tx=tx)

    def _after(self, taken: messages.Taken, error: BaseException, *, is_late: bool) -> Outcome:
        """What a failed try means."""
        policy = self._subscriber.policy
        if isinstance(error, messages.Discard):
            counters.add("queue.discarded")
            return Done()
        reason = f"no end after {policy.timeout_seconds:g} s" if is_late else f"{type(error).__name__}: {error}"
        after = policy.pause.seconds(taken.attempt)
        if isinstance(error, messages.Retry):
            reason = "its handler asked for another try"
            after = after if error.after is None else max(SOON_SECONDS, error.after)
        elif isinstance(error, errors.TryAgain | errors.OutcomeUnknown) and not is_late:
            # The world's trouble, not the message's.
            log.warning("%s: %s: again in %.1f s", self._said(taken), reason, after)
            return Again(after, error)
        if taken.attempt > policy.retries:
            return Dead(reason[:2000], error)
        if not isinstance(error, messages.Retry):
            log.warning("%s: again in %.1f s", self._said(taken), after, exc_info=error)
        return Again(after, error)

    async def _bury(self, taken: messages.Taken, outcome: Dead) -> None:
        """Keep it as a dead letter; until that is certain it stays where it is."""
        counters.add("queue.dead_letters")
        log.error("%s: given up: %s", self._said(taken), outcome.reason, exc_info=outcome.error)
        if self._subscriber.policy.keeps_dead:
            try:
                await dead_letters.keep(self._shards, self._subscriber.group, taken, outcome.reason)
            except (errors.TenfoldError, *connect.ANSWERS) as error:
                log.warning("%s: cannot be kept as a dead letter: %s", self._said(taken), error)
                self._consumer.give_back(taken, self._subscriber.policy.pause.seconds(taken.attempt))
                return
        self._consumer.acknowledge(taken)

    def _said(self, taken: messages.Taken) -> str:
        envelope = taken.envelope
        trace = envelope.headers.get(messages.REQUEST_ID)
        published = f", published in request {trace}" if trace else ""
        return f"{self._subscriber.group}: {envelope.subject} {envelope.id} (try {taken.attempt}{published})"


def _is_cancelled() -> bool:
    """Whether we are told to stop. A handler may also raise the cancellation of a task of its own: a failure."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
