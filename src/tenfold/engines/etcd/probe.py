"""Whether etcd answers with a quorum behind it. Called by the runtime, again and again."""

import aiohttp

from tenfold import engines
from tenfold.engines.etcd import settings

_TIMEOUT = aiohttp.ClientTimeout(total=2.0)


async def probe(seat: engines.Seat) -> engines.Health:
    """Ready when this server can read through the cluster's leader. Never raises because of the server.

    While too few servers run none of them is ready, however well it feels.
    """
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.get(f"{settings.client_url(seat.address)}/health") as response,
        ):
            answer = await response.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return engines.Health(False, detail=f"etcd on {seat.server.name}: {error or type(error).__name__}")
    if answer.get("health") == "true":
        return engines.Health(True, role="member")
    return engines.Health(False, detail=f"etcd on {seat.server.name}: has no leader; a majority of servers must run")
