"""One subscription's messages out of tenfold.delivery: claimed in batches, each with a lease.

Made by `transport`. A claim moves `available_at` to the end of the lease, so that what is in work does not stand in the
way of what is not; the attempt counts from the claim on, so that a message that kills its process counts too.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from tenfold.kit import backoff
from tenfold.sdk.db import primary
from tenfold.sdk.queue import messages, outbox, relay, store, subjects, transport
from tenfold.sdk.queue.postgres import settling

LEASE_SECONDS = 30.0
"""How long a message is a process's own after its last sign of life: at least three times `transport.KEEP_SECONDS`."""

_IS_MINE = "group_name = $1 and subject {is_meant} $2"

_CLAIM = """
update tenfold.delivery d
   set attempt = attempt + 1, leased_until = now() + $4::interval, available_at = now() + $4::interval
  from ({due}) due
 where d.group_name = $1 and d.id = due.id
returning d.id, d.subject, d.key, d.payload, d.headers::text as headers, d.position, d.attempt, d.number,
          extract(epoch from d.created_at)::float8 as due_at
"""

_FREE = """
select id from tenfold.delivery where {is_mine} and available_at <= now() {more}
 order by available_at limit $3 for update skip locked
"""

_HEADS = """
with recursive heads as (
    (select key, number, id, subject, available_at from tenfold.delivery
      where group_name = $1 and key > $5 order by key, number limit 1)
    union all
    select next.* from heads, lateral (
        select key, number, id, subject, available_at from tenfold.delivery
         where group_name = $1 and key > heads.key order by key, number limit 1) next
)
select d.id from tenfold.delivery d
 where d.group_name = $1 and d.available_at <= now()
   and d.id in (select id from heads where subject {is_meant} $2 and available_at <= now() limit $3)
   for update skip locked
"""
"""The first message of each key, from one key on: the others of a key wait until it is gone."""

_NEXT = """
select extract(epoch from min(available_at) - now())::float8 from tenfold.delivery
 where group_name = $1 and available_at > now()
"""

_HANDLED = """
with gone as (delete from tenfold.delivery where group_name = $1 and id = $2)
insert into tenfold.inbox (group_name, id) values ($1, $2) on conflict do nothing
"""
"""The delivery goes with the handler's transaction: acknowledged exactly when that commits."""

PAUSE = backoff.Backoff(first_seconds=0.1, most_seconds=5.0)

CLOSE_SECONDS = 3.0
"""How long the last settlements may take; what did not arrive comes again when its lease ends."""


class Consumer:
    """See `transport.Consumer`."""

    handled = _HANDLED

    def __init__(
        self, wanted: transport.Subscription, shards: primary.Shards, settlements: settling.Settlements, poll: "Poll"
    ) -> None:
        self.subscription = wanted
        self._shards = shards
        self._settlements = settlements
        self._poll = poll
        self._woken = asyncio.Event()
        self._claiming: asyncio.Task[list[messages.Taken]] | None = None
        self._after_key = ""
        self._free, self._heads = _statements(wanted)
        pattern = subjects.expression(wanted.subject) if subjects.is_pattern(wanted.subject) else wanted.subject
        self._arguments = (wanted.group, pattern)
        self.is_hungry = False
        """Whether it waits for messages now."""

    def wake(self) -> None:
        """There may be something to take."""
        self._woken.set()

    async def take(self, most: int) -> Sequence[messages.Taken]:
        tries = 0
        while True:
            self._woken.clear()
            self._claiming = asyncio.get_running_loop().create_task(self.claim(most), name="tenfold-queue-claim")
            try:
                taken = await asyncio.shield(self._claiming)
                self._claiming = None
                if taken:
                    return taken
                await self._wait(await self._next_seconds())
                tries = 0
            except relay.TROUBLE as error:
                tries += 1
                settling.log.warning("%s: no messages can be taken: %s", self.subscription.group, error)
                await asyncio.sleep(PAUSE.seconds(tries))

    async def claim(self, most: int) -> list[messages.Taken]:
        """Up to `most` messages that may be handled now; none when there are none."""
        rows = await self._claim_keys(most) if self.subscription.is_ordered else []
        if len(rows) < most:
            rows += await self._claim(self._free, most - len(rows))
        return [
            messages.Taken(outbox.envelope(row), row["attempt"], row["due_at"]) for row in sorted(rows, key=_number)
        ]

    def acknowledge(self, taken: messages.Taken) -> None:
        self._settlements.acknowledge(self.subscription.group, taken)

    def give_back(self, taken: messages.Taken, after_seconds: float) -> None:
        self._settlements.give_back(self.subscription.group, taken, after_seconds)

    def keep(self, held: Sequence[messages.Taken]) -> None:
        self._settlements.keep(self.subscription.group, held, LEASE_SECONDS)

    async def settled(self) -> None:
        await self._settlements.settled()

    async def close(self) -> None:
        if self._claiming is not None:
            claimed = (await asyncio.gather(self._claiming, return_exceptions=True))[0]
            for one in claimed if isinstance(claimed, list) else ():
                self.give_back(one, 0.0)
            self._claiming = None
        self._poll.leave(self)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.settled(), CLOSE_SECONDS)

    async def _claim_keys(self, most: int) -> list[Any]:
        """The first message of each key, going round: no key waits for ever behind busier ones."""
        rows = await self._claim(self._heads, most, self._after_key)
        if len(rows) < most and self._after_key:
            rows += await self._claim(self._heads, most - len(rows), "")
        self._after_key = rows[-1]["key"] if len(rows) == most else ""
        return rows

    async def _claim(self, statement: str, most: int, *more: Any) -> list[Any]:
        lease = timedelta(seconds=LEASE_SECONDS)
        return await store.fetch(self._shards, statement, *self._arguments, most, lease, *more)

    async def _next_seconds(self) -> float | None:
        """When the next message of the group becomes due, be it a retry or the end of a lease."""
        found: float | None = (await store.fetch(self._shards, _NEXT, self.subscription.group))[0][0]
        return found

    async def _wait(self, next_seconds: float | None) -> None:
        """Until somebody wakes us, the next message is due, or it is time to look again."""
        seconds = self._poll.seconds
        if next_seconds is not None:
            seconds = min(seconds, max(0.001, next_seconds))
        self.is_hungry = True
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass
        finally:
            self.is_hungry = False


class Poll:
    """The consumers of this process, and how often they look without being woken."""

    def __init__(self) -> None:
        self.consumers: list[Consumer] = []
        self.seconds = 1.0

    def leave(self, one: Consumer) -> None:
        """It takes no more."""
        if one in self.consumers:
            self.consumers.remove(one)


def _statements(wanted: transport.Subscription) -> tuple[str, str]:
    """What claims messages that are free of any order, and what claims the first ones of keys."""
    is_meant = "~" if subjects.is_pattern(wanted.subject) else "="
    more = "and key is null" if wanted.is_ordered else ""
    free = _FREE.format(is_mine=_IS_MINE.format(is_meant=is_meant), more=more)
    return _CLAIM.format(due=free), _CLAIM.format(due=_HEADS.format(is_meant=is_meant))


def _number(row: Any) -> int:
    return int(row["number"])
