"""Whether an edge serves. Called by the runtime, again and again."""

import aiohttp

from tenfold import engines
from tenfold.engines.varnish import settings

_TIMEOUT = aiohttp.ClientTimeout(total=2.0)


async def probe(seat: engines.Seat) -> engines.Health:
    """Ready when the process that serves answers, under its own name. Never raises because of it.

    Whether the origins answer is no part of it: without them an edge serves what it has.
    """
    url = f"http://{seat.address}:{seat.process.port}{settings.READY_PATH}"
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, session.get(url) as response:
            name = response.headers.get("Tenfold-Edge", "")
            if response.status == 200 and name == seat.server.name:
                return engines.Health(True)
            detail = f"status {response.status} from {name or 'a stranger'}"
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        detail = str(error) or type(error).__name__
    return engines.Health(False, detail=f"varnish on {seat.server.name}: {detail}")
