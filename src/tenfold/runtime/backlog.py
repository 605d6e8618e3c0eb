"""What waits in the database's queue, and what could not be handled: for the status, and for a queue that is emptied.

Asked of the primary, on a connection of its own. Reads two tables of tenfold's and changes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tenfold import errors
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
