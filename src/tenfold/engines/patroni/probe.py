"""Whether Patroni runs its PostgreSQL, and in which role. Called by the runtime, again and again."""

from tenfold import engines, errors
from tenfold.engines.patroni import rest


async def probe(seat: engines.Seat) -> engines.Health:
    """Ready when PostgreSQL runs and takes connections. Never raises because of the server."""
    try:
        async with rest.opened(seat, timeout_seconds=2.0) as api:
            answer = await api.get("patroni")
    except errors.EngineFailed as error:
        return engines.Health(False, detail=str(error))
    state, role = str(answer.get("state", "unknown")), str(answer.get("role", ""))
    if state == "running":
        return engines.Health(True, role=role)
    return engines.Health(False, role=role, detail=f"PostgreSQL on {seat.server.name} is {state}")
