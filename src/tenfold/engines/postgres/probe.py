"""Whether PostgreSQL takes connections, and in which role. Called by the runtime, again and again."""

from tenfold import engines, errors
from tenfold.engines.postgres import connection


async def probe(seat: engines.Seat) -> engines.Health:
    """Ready when a superuser can connect and ask. Never raises because of the server."""
    try:
        async with connection.connected(seat, timeout_seconds=2.0) as open_connection:
            is_standby = await open_connection.fetchval("select pg_is_in_recovery()", timeout=2.0)
    except errors.EngineFailed as error:
        return engines.Health(False, detail=str(error))
    return engines.Health(True, role="standby" if is_standby else "primary")
