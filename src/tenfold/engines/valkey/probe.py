"""Whether a Valkey answers, and as what. Called by the runtime, again and again."""

from tenfold import engines, errors
from tenfold.engines.valkey import connection

ROLES = {"master": "primary", "slave": "replica"}


async def probe(seat: engines.Seat) -> engines.Health:
    """Ready when it has read its data and answers. Never raises because of the server.

    Ready is not whole: that its cluster serves every key is `admin.form`'s work, which needs servers that answer.
    """
    try:
        async with connection.of(seat) as server:
            role, *_ = await server.ask("ROLE")
    except errors.EngineFailed as error:
        return engines.Health(False, detail=str(error))
    return engines.Health(True, role=ROLES.get(role, role))
