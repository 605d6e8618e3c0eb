"""tenfold.outbox: messages of committed transactions that have not been passed on yet.

Written by `publishing`, emptied by the transports, looked at by `relay`. Ids do not follow the order of commits: rows
are taken and deleted, never read "after the last one".
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from tenfold import errors, position
from tenfold.sdk.db import connect, deadline, primary
from tenfold.sdk.queue import messages, relayed, store

INSERT = """
insert into tenfold.outbox (id, subject, key, payload, headers, available_at)
values ($1, $2, $3, $4, $5::text::jsonb, coalesce($6, now() + $7 * interval '1 second', now()))
on conflict (id) do nothing
"""

GRACE = timedelta(seconds=1)
"""The process that publishes a message passes it on itself; after so long anybody does."""

UNHEARD = timedelta(minutes=10)
"""A message whose subject no group has subscribed to waits so long for one, and is dropped then."""

MOST_WAITING = 100_000
"""More messages than this in the outbox, and publishers are refused."""

MOST_DELIVERIES = 1_000_000
"""The same for those that wait for groups in PostgreSQL, each group counted."""

_BATCH = """
select id, subject, key, payload, headers::text as headers,
       $4 || '.' || to_hex((pg_current_wal_flush_lsn() - '0/0')::bigint) as position
  from tenfold.outbox_batch($1, $2, $3)
"""

_DELETE = "delete from tenfold.outbox where id = any ($1)"

_LOOK = """
select exists (
           select from tenfold.outbox
            where available_at <= now() and (available_at > created_at or available_at <= now() - $1::interval)),
       (select extract(epoch from min(available_at) - now())::float8 from tenfold.outbox where available_at > now()),
       pg_stat_get_live_tuples('tenfold.outbox'::regclass),
       pg_stat_get_live_tuples('tenfold.delivery'::regclass)
"""

_COUNT = """
select (select count(*) from (select from tenfold.outbox limit $1) waiting) >= $1
    or (select count(*) from (select from tenfold.delivery limit $2) waiting) >= $2
"""

_DROP_UNHEARD = """
delete from tenfold.outbox o
 where available_at < now() - $1::interval
   and not exists (
       select from tenfold.subscription s
        where s.subject = o.subject or (s.pattern is not null and o.subject ~ s.pattern))
"""

TRANSACTION_SECONDS = 30.0
"""How long rows may stay locked while they are sent: then the database ends the session of a process that hangs."""


async def insert(
    shards: primary.Shards, envelope: messages.Envelope, at: datetime | None = None, delay: float | None = None
) -> None:
    """One message without a transaction: on return it is committed. Raises `StoreUnavailable` when it may not be."""

    async def work(lease: primary.Lease) -> position.Position | None:
        await lease.connection.execute(INSERT, *row(envelope, at, delay))
        return await shards.flushed(lease)

    committed = await store.run(shards, work)
    if committed is not None:
        try:
            await shards.ensure_held(committed, deadline.limits(store.SECONDS).wait)
        except errors.OutcomeUnknown as error:
            raise errors.StoreUnavailable(f"queue: the message may be published: {error}") from error


def row(envelope: messages.Envelope, at: datetime | None, delay: float | None) -> tuple[Any, ...]:
    """The arguments of `INSERT`."""
    headers = msgspec.json.encode(envelope.headers).decode()
    return envelope.id, envelope.subject, envelope.key, envelope.payload, headers, at, delay


@dataclass(frozen=True, slots=True)
class Look:
    """How the outbox is: whether rows are due, when the next one will be, whether it is too full to publish."""

    is_due: bool
    next_seconds: float | None
    is_full: bool


async def look(shards: primary.Shards) -> Look:
    """Looks by index and statistics; counts only when these say that it may be too full."""
    found = (await store.fetch(shards, _LOOK, GRACE))[0]
    is_full = found[2] > MOST_WAITING or found[3] > MOST_DELIVERIES
    if is_full:
        is_full = (await store.fetch(shards, _COUNT, MOST_WAITING, MOST_DELIVERIES))[0][0]
    return Look(found[0], found[1], is_full)


async def drop_unheard(shards: primary.Shards) -> int:
    """Delete what no group has wanted for too long; returns how many."""
    return int((await store.execute(shards, _DROP_UNHEARD, UNHEARD)).rpartition(" ")[2])


class InHand:
    """Rows that no other process can take now."""

    __slots__ = ("durable", "envelopes", "stream")

    def __init__(self, envelopes: Sequence[messages.Envelope]) -> None:
        self.envelopes = envelopes
        """In the order in which they are to be sent. Their headers hold the position that covers them."""
        self.durable: dict[UUID, int] = {}
        """For whoever sends them to fill: these rows leave the outbox at the end. With the numbers that they got."""
        self.stream = ""
        """What gave the numbers, when their rows are to be kept in tenfold.relayed; empty: they are deleted."""


@asynccontextmanager
async def in_hand(shards: primary.Shards, ids: Sequence[UUID], most: int) -> AsyncIterator[InHand]:
    """These rows (none named: those that are due), locked until the block ends, which deletes what became durable.

    What is durable is deleted when the block raises, too. A process that dies inside leaves everything as it was.
    Raises `StoreUnavailable` when the database does not answer: then rows may be there that were sent.
    """
    until = asyncio.get_running_loop().time() + store.SECONDS
    lease = await shards.primary(0, until)
    try:
        connection = lease.connection
        await connection.execute(
            f"begin; set local idle_in_transaction_session_timeout = '{TRANSACTION_SECONDS:.0f}s'",
            timeout=store.SECONDS,
        )
        rows = await connection.fetch(_BATCH, ids, most, GRACE, store.origin(lease), timeout=store.SECONDS)
        found = InHand([envelope(one) for one in rows])
        try:
            yield found
        finally:
            if found.durable and found.stream:
                arguments = (list(found.durable), list(found.durable.values()), found.stream)
                await connection.execute(relayed.KEEP, *arguments, timeout=store.SECONDS)
            elif found.durable:
                await connection.execute(_DELETE, list(found.durable), timeout=store.SECONDS)
            await connection.execute("commit", timeout=store.SECONDS)
    except connect.ANSWERS as error:
        lease.discard()
        raise errors.StoreUnavailable(f"queue: the outbox does not answer ({error or type(error).__name__})") from error
    except BaseException:
        lease.discard()
        raise
    await lease.release()


def envelope(row: Any) -> messages.Envelope:
    """A row of the outbox or of tenfold.delivery as a message; the position joins its headers."""
    headers = msgspec.json.decode(row["headers"], type=dict[str, str])
    if row["position"]:
        headers[messages.POSITION] = row["position"]
    return messages.Envelope(row["id"], row["subject"], row["payload"], headers, row["key"])
