"""A client of Patroni's REST API, and the one place where its refusals become our errors.

Called by probe and admin. It decides nothing.
"""

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tenfold import engines, errors
from tenfold.engines.patroni import settings


@asynccontextmanager
async def opened(seat: engines.Seat, timeout_seconds: float = 5.0) -> AsyncIterator["Api"]:
    """The API of the Patroni on this server, for one piece of work."""
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    credentials = base64.b64encode(f"{settings.REST_USER}:{seat.secrets.patroni}".encode()).decode()
    headers = {"Authorization": f"Basic {credentials}"}
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        yield Api(seat, session)


class Api:
    """One Patroni. Every call raises EngineFailed when it does not answer or says no."""

    def __init__(self, seat: engines.Seat, session: aiohttp.ClientSession) -> None:
        self._seat = seat
        self._session = session

    async def get(self, path: str) -> dict[str, Any]:
        """What it says; 503 (not running) comes with an answer too, 502 (no configuration yet) with one of no use."""
        return await self._ask("GET", path, None, accepted=(200, 502, 503))

    async def patch(self, changes: Mapping[str, object]) -> dict[str, Any]:
        """Change the dynamic configuration; None removes a key. Returns the whole of it.

        Patroni refuses a change that another one overtook (409): it is asked once more, twice at most.
        """
        for accepted in ((200, 409), (200, 409)):
            answer = await self._ask("PATCH", "config", changes, accepted)
            if "ttl" in answer:
                return answer
        return await self._ask("PATCH", "config", changes, accepted=(200,))

    async def post(self, path: str, body: Mapping[str, object]) -> str:
        """Ask for an action; returns its answer in words when it was done."""
        answer = await self._ask("POST", path, body, accepted=(200, 202))
        return str(answer.get("text", ""))

    async def _ask(
        self, method: str, path: str, body: Mapping[str, object] | None, accepted: tuple[int, ...]
    ) -> dict[str, Any]:
        url = f"http://{self._seat.address}:{settings.REST_PORT}/{path}"
        where = f"Patroni on {self._seat.server.name} ({self._seat.address})"
        try:
            async with self._session.request(method, url, json=body) as response:
                if response.content_type == "application/json":
                    answer: dict[str, Any] = await response.json()
                else:
                    answer = {"text": await response.text()}
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise errors.EngineFailed(f"{where}: {error or type(error).__name__}") from error
        if response.status not in accepted:
            raise errors.EngineFailed(f"{where}: {method} /{path}: {response.status} {answer}")
        return answer
