"""The queue on PostgreSQL, as the core sees it: rows of the outbox become rows of tenfold.delivery, one for each group.

Made by `queue`, which keeps one for the life of the process: what is in tenfold.delivery is looked after whichever
transport carries new messages.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from tenfold import bindings
from tenfold.sdk.db import primary
from tenfold.sdk.queue import messages, outbox, store, tasks, transport
from tenfold.sdk.queue.postgres import consuming, listening, settling

POLL_SECONDS = 1.0
"""How often consumers look while nobody wakes them: only retries and what a dead process left come so."""

DEAF_SECONDS = 0.2
"""The same while there is no connection to be woken on."""

BESIDE_SECONDS = 3.0
"""The same while another transport carries new messages."""

_RELAY = "select passed, reached from tenfold.pass_on($1, $2, $3, $4)"

_SEND = """
insert into tenfold.outbox (id, subject, key, payload, headers)
select sent.id, sent.subject, sent.key, sent.payload, sent.headers::jsonb
  from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::text[]) as sent (id, subject, key, payload, headers)
    on conflict (id) do nothing
"""

_FIGURES = """
select s.group_name, s.subject,
       count(d.id) filter (where d.leased_until is null or d.leased_until <= now()),
       count(d.id) filter (where d.leased_until > now()),
       coalesce(extract(epoch from now() - min(d.created_at) filter (
           where d.available_at <= now() or d.attempt > 0)), 0)::float8
  from tenfold.subscription s
  left join tenfold.delivery d on d.group_name = s.group_name and (
       s.subject = d.subject or (s.pattern is not null and d.subject ~ s.pattern))
 group by s.group_name, s.subject order by s.group_name, s.subject
"""


class Postgres:
    """See `transport.Transport`."""

    def __init__(self, shards: primary.Shards, sent: Callable[[UUID], None]) -> None:
        self._shards = shards
        self._sent = sent
        """Told of each message that is in the outbox without a transaction: it is to be passed on at once."""
        self._poll = consuming.Poll()
        self._settlements = settling.Settlements(shards, self._wake)
        self._listening = listening.Listening(shards, self._wake_one, self._changed)
        self._tasks: list[asyncio.Task[None]] = []
        self._is_active = True

    async def start(self, bound: bindings.Queue) -> None:
        self.update(bound)

    def update(self, bound: bindings.Queue) -> None:
        self._is_active = "postgres" in (bound.transport, bound.former)
        self._changed()

    async def stop(self) -> None:
        found, self._tasks = self._tasks, []
        await tasks.end(found)

    async def subscribe(self, subscriptions: Sequence[transport.Subscription]) -> None:
        """Nothing to do: the rows of tenfold.subscription, which the core writes for every transport, are enough."""

    def consume(self, subscription: transport.Subscription) -> consuming.Consumer:
        made = consuming.Consumer(subscription, self._shards, self._settlements, self._poll)
        self._poll.consumers.append(made)
        if not self._tasks:
            self._run()
        return made

    async def send(self, batch: Sequence[messages.Envelope]) -> None:
        rows = [outbox.row(one, None, None)[:5] for one in batch]
        await store.execute(self._shards, _SEND, *(list(column) for column in zip(*rows, strict=True)))
        for one in batch:
            self._sent(one.id)

    async def pass_on(self, ids: Sequence[UUID], most: int) -> int:
        passed, reached = (
            await store.run(
                self._shards,
                lambda lease: lease.connection.fetch(_RELAY, ids, most, outbox.GRACE, store.origin(lease)),
            )
        )[0]
        await self._tell(set(reached))
        return int(passed)

    async def figures(self) -> list[transport.Figures]:
        rows = await store.fetch(self._shards, _FIGURES)
        return [transport.Figures(row[0], row[1], row[2], row[3], row[4]) for row in rows]

    async def _tell(self, groups: set[str]) -> None:
        """Wake our own consumers, and for groups whose consumers here have enough to do, everybody's."""
        hungry = {one.subscription.group for one in self._poll.consumers if one.is_hungry}
        self._wake(groups)
        if groups - hungry:
            await self._listening.tell(groups - hungry)

    def _wake(self, groups: Iterable[str]) -> None:
        for one in self._poll.consumers:
            if one.subscription.group in groups:
                one.wake()

    def _wake_one(self, group: str) -> None:
        self._wake((group,))

    def _changed(self) -> None:
        if not self._is_active:
            self._poll.seconds = BESIDE_SECONDS
        else:
            self._poll.seconds = POLL_SECONDS if self._listening.is_alive else DEAF_SECONDS

    def _run(self) -> None:
        self._tasks = [tasks.begin("settle", self._settlements.run()), tasks.begin("listen", self._listening.run())]
