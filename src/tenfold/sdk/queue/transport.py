"""What the queue asks of whatever carries its messages: PostgreSQL (`postgres`) or NATS JetStream (`nats`).

Called by the core: `relay` passes messages on from the outbox, `publishing` sends without a transaction, `running`
consumes. A transport decides nothing about a message: retries, dead letters, time limits and order of work are the
core's. Nothing here is awaited for each message: messages come in batches, and settling one is a plain call whose
network traffic the transport gathers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from tenfold import bindings
from tenfold.sdk.queue import messages

INBOX = "insert into tenfold.inbox (group_name, id) values ($1, $2) on conflict do nothing"
"""Inserted first in a handler's own transaction: of two tries of one message only one commits. `INSERT 0 0`: done."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """One group's wish for the messages of one subject (or pattern), as all its processes have it."""

    group: str
    subject: str
    """NATS' form: tokens between dots, `*` for one token, `>` for all that follow."""
    is_ordered: bool = False
    """One at a time for each key, across processes and retries; messages without a key are free."""
    prefetch: int = 64
    """How many messages one process may hold at once, those that are being handled included."""
    most_seconds: float = 60.0
    """How long handling one message may take: after a lease of this kind a silent process has lost it."""


class Consumer(Protocol):
    """One subscription's messages in this process. Used by one event loop, from `consume` to `close`."""

    handled: str
    """SQL that marks a message as handled in the handler's own transaction, before it runs: `INBOX`, or more.
    `$1` is the group, `$2` the id; its status is `INSERT 0 0` when the message was handled before."""

    async def take(self, most: int) -> Sequence[messages.Taken]:
        """Up to `most` messages, at least one: waits for it. A cancellation loses none.

        Troubles of the transport are its own to wait out (backoff, reconnect); it raises only what is a flaw.
        """
        ...

    def acknowledge(self, taken: messages.Taken) -> None:
        """It is handled. Sent soon, with others; a lost acknowledgement means the message comes again."""
        ...

    def give_back(self, taken: messages.Taken, after_seconds: float) -> None:
        """It is not handled: again, for any process, not before `after_seconds`. An ordered key waits for it."""
        ...

    def keep(self, held: Sequence[messages.Taken]) -> None:
        """These are still held here: nobody else may get them. Called every `KEEP_SECONDS` while any is held."""
        ...

    async def settled(self) -> None:
        """Returns when all that was settled so far has been sent (or given up, which means again)."""
        ...

    async def close(self) -> None:
        """Ask for no more, give back at once what `take` has not returned yet, send what was settled."""
        ...


KEEP_SECONDS = 5.0
"""How often a process says that it still holds what it holds; a lease is at least three times as long."""


class Transport(Protocol):
    """One way for messages to travel. Started once, stopped once; twice is once."""

    async def start(self, bound: bindings.Queue) -> None:
        """Connect. A server that is down does not make it fail: what needs it waits, or raises `StoreUnavailable`."""
        ...

    def update(self, bound: bindings.Queue) -> None:
        """Follow changed bindings."""
        ...

    async def stop(self) -> None:
        """Close everything. Consumers were closed before."""
        ...

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Make sure that from now on each of these groups gets every message of its subject. Idempotent."""
        ...

    def consume(self, subscription: Subscription) -> Consumer:
        """Begin to take this subscription's messages."""
        ...

    async def send(self, batch: Sequence[messages.Envelope]) -> None:
        """Take in messages without a transaction. On return all are durable; the same id twice counts once.

        Raises `StoreUnavailable` when some may not be: sending all again is right.
        """
        ...

    async def pass_on(self, ids: Sequence[UUID], most: int) -> int:
        """Pass on these rows of tenfold.outbox (none named: those that are due); returns how many were.

        A row is gone exactly when its message is durable with the transport. Rows that another process has in hand are
        left to it. Of a message with a key, older due rows with that key go before it. A transport outside the
        database does it inside `outbox.in_hand`, which locks the rows, and deletes those that it says are durable.
        """
        ...

    async def figures(self) -> Sequence["Figures"]:
        """What waits for each group: for people."""
        ...


@dataclass(frozen=True, slots=True)
class Figures:
    """What one subscription has before it."""

    group: str
    subject: str
    waiting: int
    in_flight: int
    oldest_seconds: float
    """How long the oldest that waits has been due; 0 when none is."""
