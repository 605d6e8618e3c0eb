"""What waits in the database's queue, and what could not be handled: for the status, and for a queue that is emptied.

Asked of the primary, on a connection of its own. Reads two tables of tenfold's and changes nothing. `Watch` asks again
and again, for autoscaling, and of the queue servers as well.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import asyncpg

from tenfold import errors
from tenfold.engines.nats import admin as nats
from tenfold.engines.postgres import connection
from tenfold.observation import conditions
from tenfold.runtime import publish, seats

LOOK = """
select (select count(*) from tenfold.delivery where available_at <= now()),
       (select coalesce(extract(epoch from now() - min(available_at)), 0) from tenfold.delivery
         where available_at <= now()),
       (select count(*) from tenfold.dead_letter)
"""

LOOK_SECONDS = 2.0

LATE_SECONDS = 30.0
"""A message that has been due for longer than that has nobody who handles it, or too few."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """The messages of all groups."""

    waiting: int
    """In the database's queue, and due."""
    oldest_seconds: float
    """How long the one that has waited longest has been due."""
    dead_letters: int


def troubles(found: Backlog) -> Iterator[conditions.Condition]:
    """What of it a person should know."""
    if found.dead_letters:
        text = f"{found.dead_letters} messages could not be handled and were put aside; see: tenfold queue dead"
        yield conditions.Condition("dead_letters", "warning", text)
    if found.oldest_seconds > LATE_SECONDS:
        text = f"{found.waiting} messages wait to be handled, the first for {found.oldest_seconds:.0f} s"
        yield conditions.Condition("messages_wait", "warning", text)


async def look(places: seats.Seats, primary: str) -> Backlog:
    """What there is on this primary. Raises EngineFailed when it does not answer, or has no such tables yet."""
    name = publish.database_name(places.topology.service.name)
    async with connection.connected(places.seat(primary, "postgres"), name, LOOK_SECONDS) as opened:
        row = await opened.fetchrow(LOOK, timeout=LOOK_SECONDS)
    if row is None:
        raise errors.EngineFailed(f"{primary}: no answer about the queue")
    return Backlog(int(row[0]), float(row[1]), int(row[2]))


async def look_everywhere(places: seats.Seats, primary: str) -> Backlog:
    """The same, with what waits on the queue servers. One that does not answer says nothing.

    They do not say since when the first that waits does; the first that is not settled has come before it.
    """
    found, (waiting, oldest) = await asyncio.gather(look(places, primary), _on_queue_servers(places))
    return Backlog(found.waiting + waiting, max(found.oldest_seconds, oldest), found.dead_letters)


WATCH = """
select pg_is_in_recovery(),
       (select count(*) from tenfold.delivery where available_at <= now()),
       (select coalesce(extract(epoch from now() - min(available_at)), 0) from tenfold.delivery
         where available_at <= now()),
       (select count(*) from pg_stat_activity where state = 'active' and datname = current_database()
           and pid <> pg_backend_pid() and backend_type = 'client backend')
"""

WATCH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One look of a watch."""

    waiting: int
    """Messages that wait for a handler, in the database and on the queue servers."""
    oldest_seconds: float
    """In the database; queue servers do not say."""
    active: int
    """Sessions of the app's database that work at this moment."""


class Watch:
    """Keeps one connection to the primary. For one task; `close` ends it."""

    def __init__(self) -> None:
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def look(self, places: seats.Seats) -> Seen | None:
        """What there is now; None when the primary or a queue server does not say so in time."""
        try:
            async with asyncio.timeout(2 * WATCH_SECONDS):
                row = await self._ask(places)
                waiting, _ = await _on_queue_servers(places)
        except (*connection.LOST, errors.TenfoldError):
            await self.close()
            return None
        return Seen(int(row[1]) + waiting, float(row[2]), int(row[3])) if row else None

    async def close(self) -> None:
        """End the connection; the next look opens another."""
        ending, self._connection = self._connection, None
        if ending is not None:
            await connection.close(ending)

    async def _ask(self, places: seats.Seats) -> "asyncpg.Record | None":
        """The row of the primary; of the servers there are, the one that is no standby."""
        if self._connection is not None and not self._connection.is_closed():
            row = await self._connection.fetchrow(WATCH, timeout=WATCH_SECONDS)
            if row is not None and not row[0]:
                return row
            await self.close()
        name = publish.database_name(places.topology.service.name)
        for server in places.wanted.databases:
            address, secret = server.address(places.store.records.network), places.secrets.superuser
            try:
                opened = await connection.connect(address, secret, name, WATCH_SECONDS)
            except connection.LOST:
                continue
            self._connection = opened
            row = await opened.fetchrow(WATCH, timeout=WATCH_SECONDS)
            if row is not None and not row[0]:
                return row
            await self.close()
        return None


def waiting_in(streams: Iterable[nats.Stream], now: float) -> tuple[int, float]:
    """How many messages wait in them, and for how many seconds the first that is not settled has been there, where any
    waits."""
    found = [(sum(one.waiting for one in stream.consumers), stream.oldest_at) for stream in streams]
    oldest = (now - at for count, at in found if count and at)
    return sum(count for count, _ in found), max(0.0, *oldest, 0.0)


async def _on_queue_servers(places: seats.Seats) -> tuple[int, float]:
    servers = places.wanted.of(places.topology.home).running("nats")
    if not servers:
        return 0, 0.0
    streams = await nats.streams([places.seat(one.name, "nats") for one in servers])
    return waiting_in(streams, time.time())
