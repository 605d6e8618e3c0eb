"""Is a granian ready? One GET of `/-/ready`, as the balancers ask."""

import asyncio

from tenfold import engines
from tenfold.engines.granian import admin


async def probe(seat: engines.Seat) -> engines.Health:
    """Ready when the wrapped app says so. Never raises for a server that is not there; answers within 1 s."""
    try:
        async with asyncio.timeout(admin.ANSWER_SECONDS):
            status, body = await admin.get(seat.address, seat.process.port, "/-/ready")
    except OSError as error:  # TimeoutError is one
        return engines.Health(False, detail=f"does not answer on {seat.address}:{seat.process.port}: {_words(error)}")
    except ValueError as error:
        return engines.Health(False, detail=f"answers something else than HTTP: {error}")
    return engines.Health(status == 200, detail="" if status == 200 else f"/-/ready says {status} {body.strip()}")


def _words(error: OSError) -> str:
    return error.strerror or type(error).__name__
