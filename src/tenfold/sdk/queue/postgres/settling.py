"""What became of claimed messages, gathered: while one statement is under way the next ones collect.

Owned by `transport`, fed by `consuming`. Nothing waits for it but the end of a process. What does not arrive, because
this process dies or the database does not answer for long, is made good by the lease: the message comes again.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

from tenfold.kit import backoff
from tenfold.sdk.db import primary
from tenfold.sdk.queue import messages, relay, store

log = logging.getLogger("tenfold.queue")

_ACKNOWLEDGE = """
delete from tenfold.delivery d using unnest($1::text[], $2::uuid[]) as gone (group_name, id)
 where d.group_name = gone.group_name and d.id = gone.id
"""

_GIVE_BACK = """
update tenfold.delivery d
   set available_at = now() + back.seconds * interval '1 second', leased_until = null,
       attempt = d.attempt - (back.seconds = 0)::integer
  from unnest($1::text[], $2::uuid[], $3::integer[], $4::float8[]) as back (group_name, id, attempt, seconds)
 where d.group_name = back.group_name and d.id = back.id and d.attempt = back.attempt
"""
"""The attempt says that nobody else has claimed it meanwhile. What comes back untouched does not count as a try."""

_KEEP = """
update tenfold.delivery d set leased_until = now() + $4::interval, available_at = now() + $4::interval
  from (select group_name, id from tenfold.delivery
          join unnest($1::text[], $2::uuid[], $3::integer[]) as held (group_name, id, attempt)
         using (group_name, id, attempt)
           for update of delivery skip locked) held
 where d.group_name = held.group_name and d.id = held.id
"""
"""Rows that are locked are in a handler's own transaction: nobody can claim those, and we must not wait for them."""

PAUSE = backoff.Backoff(first_seconds=0.05, most_seconds=2.0)

Back = tuple[str, UUID, int, float]
Held = tuple[str, UUID, int]


class Settlements:
    """One loop, `run`, owned by whoever starts it."""

    def __init__(self, shards: primary.Shards, sent: Callable[[set[str]], None]) -> None:
        self._shards = shards
        self._sent = sent
        """Told which groups have had something settled: what waited behind it may be taken now."""
        self._acknowledged: list[tuple[str, UUID]] = []
        self._back: list[Back] = []
        self._held: dict[tuple[str, UUID], int] = {}
        self._lease = timedelta(seconds=30)
        self._has_any = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def acknowledge(self, group: str, taken: messages.Taken) -> None:
        """It is handled."""
        self._acknowledged.append((group, taken.envelope.id))
        self._begin()

    def give_back(self, group: str, taken: messages.Taken, after_seconds: float) -> None:
        """Others may have it, so much later."""
        self._back.append((group, taken.envelope.id, taken.attempt, after_seconds))
        self._begin()

    def keep(self, group: str, held: Sequence[messages.Taken], lease_seconds: float) -> None:
        """They are still held."""
        self._lease = timedelta(seconds=lease_seconds)
        self._held.update({(group, one.envelope.id): one.attempt for one in held})
        self._begin()

    async def settled(self) -> None:
        """Returns when nothing is left to send: never, if the loop ends before. The caller sets a deadline."""
        await self._is_empty.wait()

    async def run(self) -> None:
        """Send what collects. Never returns."""
        tries = 0
        while True:
            await self._has_any.wait()
            self._has_any.clear()
            try:
                await self.send()
                tries = 0
            except relay.TROUBLE as error:
                tries += 1
                log.warning("handled messages could not be settled, they may come again: %s", error)
                self._has_any.set()
                await asyncio.sleep(PAUSE.seconds(tries))
            if not (self._acknowledged or self._back or self._held):
                self._is_empty.set()

    async def send(self) -> None:
        """Send everything that has collected so far; what fails stays for the next time."""
        groups = await self._acknowledge() | await self._give_back()
        held, self._held = self._held, {}
        if held:
            keys = list(held)
            await store.execute(
                self._shards,
                _KEEP,
                [key[0] for key in keys],
                [key[1] for key in keys],
                list(held.values()),
                self._lease,
            )
        if groups:
            self._sent(groups)

    async def _acknowledge(self) -> set[str]:
        gone, self._acknowledged = self._acknowledged, []
        if not gone:
            return set()
        try:
            await store.execute(self._shards, _ACKNOWLEDGE, [one[0] for one in gone], [one[1] for one in gone])
        except BaseException:
            self._acknowledged = gone + self._acknowledged
            raise
        return {one[0] for one in gone}

    async def _give_back(self) -> set[str]:
        back, self._back = self._back, []
        if not back:
            return set()
        try:
            await store.execute(self._shards, _GIVE_BACK, *(list(column) for column in zip(*back, strict=True)))
        except BaseException:
            self._back = back + self._back
            raise
        return {one[0] for one in back}

    def _begin(self) -> None:
        self._is_empty.clear()
        self._has_any.set()
