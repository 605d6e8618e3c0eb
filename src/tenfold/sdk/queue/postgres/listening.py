"""The connection on which processes wake each other: LISTEN, and a poll that is slower while it works.

Owned by `transport`. A notification is a hint and nothing else: what it would have said is found by the poll too. It is
sent after the relay's commit, never inside a transaction, where it would serialise commits.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from tenfold import errors
from tenfold.kit import backoff
from tenfold.sdk.db import connect, primary
from tenfold.sdk.queue import store

log = logging.getLogger("tenfold.queue")

CHANNEL = "tenfold_queue"

_NOTIFY = f"select pg_notify('{CHANNEL}', group_name) from unnest($1::text[]) as group_name"

ALIVE_SECONDS = 10.0
"""How often a silent connection is asked whether it is still there."""

PAUSE = backoff.Backoff(first_seconds=0.1, most_seconds=5.0)


class Listening:
    """One loop, `run`, owned by whoever starts it."""

    def __init__(self, shards: primary.Shards, woken: Callable[[str], None], changed: Callable[[], None]) -> None:
        self._shards = shards
        self._woken = woken
        """Gets the group that was named."""
        self._changed = changed
        """Told when it begins or ceases to listen."""
        self.is_alive = False

    async def tell(self, groups: Iterable[str]) -> None:
        """Wake whoever handles these groups. A failure is no loss."""
        try:
            await store.fetch(self._shards, _NOTIFY, list(groups))
        except (errors.TenfoldError, *connect.ANSWERS) as error:
            log.debug("nobody was woken: %s", error)

    async def run(self) -> None:
        """Listen on whoever is primary. Never returns."""
        tries = 0
        while True:
            try:
                await self._listen()
                tries = 0
            except (errors.TenfoldError, *connect.ANSWERS) as error:
                tries += 1
                log.debug("not listening for messages, polling: %s", error)
            await asyncio.sleep(PAUSE.seconds(max(1, tries)))

    async def _listen(self) -> None:
        """Returns when the connection has ended."""
        until = asyncio.get_running_loop().time() + store.SECONDS
        connection: Any = await self._shards.connect(0, until, {})
        try:
            await connection.add_listener(CHANNEL, lambda *said: self._woken(said[-1]))
            self._say(is_alive=True)
            while not connection.is_closed():
                await connection.execute("select 1", timeout=ALIVE_SECONDS)
                await asyncio.sleep(ALIVE_SECONDS)
        finally:
            self._say(is_alive=False)
            connection.terminate()

    def _say(self, *, is_alive: bool) -> None:
        self.is_alive = is_alive
        self._changed()
