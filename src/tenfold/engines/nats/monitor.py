"""What a NATS server says on its monitoring port. Called by probe and admin."""

from collections.abc import Mapping
from typing import Any

import aiohttp

from tenfold import engines, errors
from tenfold.engines.nats import settings

_TIMEOUT = aiohttp.ClientTimeout(total=2.0)


async def ask(seat: engines.Seat, path: str, **options: str) -> tuple[int, Mapping[str, Any]]:
    """The status and the JSON of a page. Raises EngineFailed when the server does not answer as one."""
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.get(settings.monitor_url(seat) + path, params=options) as response,
        ):
            return response.status, await response.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise errors.EngineFailed(f"NATS on {seat.server.name}: {str(error) or type(error).__name__}") from error
