"""What waits in the database's queue, and what could not be handled: for the status, and for a queue that is emptied.

Asked of the primary, on a connection of its own. Reads two tables of tenfold's and changes nothing.
"""

from dataclasses import dataclass

from tenfold import errors
from tenfold.engines.postgres import connection
from tenfold.runtime import publish, seats

LOOK = """
select (select count(*) from tenfold.delivery where available_at <= now()),
       (select coalesce(extract(epoch from now() - min(available_at)), 0) from tenfold.delivery
         where available_at <= now()),
       (select count(*) from tenfold.dead_letter)
"""

LOOK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Backlog:
    """The messages of all groups."""

    waiting: int
    """In the database's queue, and due."""
    oldest_seconds: float
    """How long the one that has waited longest has been due."""
    dead_letters: int


async def look(places: seats.Seats, primary: str) -> Backlog:
    """What there is on this primary. Raises EngineFailed when it does not answer, or has no such tables yet."""
    name = publish.database_name(places.topology.service.name)
    async with connection.connected(places.seat(primary, "postgres"), name, LOOK_SECONDS) as opened:
        row = await opened.fetchrow(LOOK, timeout=LOOK_SECONDS)
    if row is None:
        raise errors.EngineFailed(f"{primary}: no answer about the queue")
    return Backlog(int(row[0]), float(row[1]), int(row[2]))
