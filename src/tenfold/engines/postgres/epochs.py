"""The epochs of a database: each begins when another region's copy becomes the primary. Called by `runtime/crossing`.

The first thing that a new home writes is its epoch, while its doors are still shut: whatever is written after that is
of the new epoch, and every copy that shows the row has everything of the old one that there is.
"""

from dataclasses import dataclass

import asyncpg

from tenfold import engines, errors
from tenfold.engines.postgres import connection
from tenfold.kit import clock
from tenfold.position import format_lsn, parse_lsn

FIRST = 1
"""The epoch before any region was promoted. It has no row."""

_MANY = 1_000_000
"""So many transactions back none is open any more, as a rule."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What a copy held just before it was promoted: what the former home has beyond that is lost."""

    held: str
    """A `pg_snapshot` of the old home's transactions: whatever is not visible in it may be lost."""
    lsn: int
    """How far the copy had replayed."""


async def number(seat: engines.Seat) -> int:
    """The epoch that this server's copy reflects."""
    async with connection.connected(seat, seat.topology.service.name) as superuser:
        return await _number(superuser)


async def ending(seat: engines.Seat, seconds: float = 30.0) -> Ending:
    """What a standby that receives nothing more holds, once it has replayed everything that it received."""
    async with connection.connected(seat) as superuser:

        async def has_replayed_all() -> bool:
            return bool(
                await superuser.fetchval(
                    "select pg_last_wal_receive_lsn() is null or pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn()"
                )
            )

        if not await clock.until(has_replayed_all, seconds=seconds, pause_seconds=0.01):
            raise errors.EngineFailed(f"{seat.server.name}: has not replayed what it received after {seconds:g} s")
        row = await superuser.fetchrow("select pg_current_snapshot()::text, pg_last_wal_replay_lsn()::text")
        assert row is not None
        return Ending(row[0], parse_lsn(row[1] or "0/0"))


async def begin(seat: engines.Seat, home: str, number: int, ending: Ending | None) -> None:
    """The primary on this server is the home's, of this epoch. For a primary that still holds its writes.

    Without an `ending` (whoever knew it was cut short) more is asked of the former home than must be.
    """
    async with connection.connected(seat, seat.topology.service.name) as superuser, superuser.transaction():
        await superuser.execute("set transaction read write")
        await superuser.execute(
            "insert into tenfold.epoch (number, region, held, left_at) values ($1, $2, coalesce($3::text::pg_snapshot,"
            " (select format('%s:%s:', x, x) from (select greatest(3, pg_snapshot_xmin(pg_current_snapshot())::text"
            "::bigint - $5)) as oldest(x))::pg_snapshot), coalesce($4::text::pg_lsn, pg_current_wal_flush_lsn()))"
            " on conflict do nothing",
            number,
            home,
            ending and ending.held,
            ending and format_lsn(ending.lsn),
            _MANY,
        )


async def held(seat: engines.Seat) -> str:
    """The snapshot of what this home had of the former one's transactions."""
    async with connection.connected(seat, seat.topology.service.name) as superuser:
        return str(await superuser.fetchval("select held::text from tenfold.epoch order by number desc limit 1"))


async def home(seat: engines.Seat) -> str:
    """The region that this copy takes for the home; empty: no region was ever promoted."""
    async with connection.connected(seat, seat.topology.service.name) as superuser:
        found = await superuser.fetchval("select region from tenfold.epoch order by number desc limit 1")
        return str(found or "")


async def _number(superuser: "asyncpg.Connection[asyncpg.Record]") -> int:
    return int(await superuser.fetchval("select coalesce(max(number), $1) from tenfold.epoch", FIRST))
