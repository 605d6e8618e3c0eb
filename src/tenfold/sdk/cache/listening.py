"""PostgreSQL's channel of invalidations: LISTEN on the primary, NOTIFY after a commit.

For services without cache servers. One connection a process, which also carries the pulse: a primary that does not
answer it is as good as gone. The app's own transactions never notify, which would let their commits queue up.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from tenfold import errors
from tenfold.kit import backoff
from tenfold.sdk import counters
from tenfold.sdk.cache import channel
from tenfold.sdk.db import connect, primary

log = logging.getLogger("tenfold.cache")

PAUSE = backoff.Backoff(first_seconds=0.02, most_seconds=1.0)

LOOK_SECONDS = 1.0
"""Without a primary, how long until the next look for one."""


class PostgresChannel:
    """Follows the primary of one shard."""

    is_awaited = False

    def __init__(self, shards: primary.Shards, number: int, ears: channel.Ears) -> None:
        self._shards = shards
        self._number = number
        self._ears = ears
        self._woken = asyncio.Event()
        self.is_whole = False

    async def run(self) -> None:
        """Listen, and let the ears pulse, until cancelled."""
        tries = 0
        while True:
            try:
                if await self._listen():
                    tries = 0
            except (errors.TenfoldError, connect.UnreachableError, *connect.ANSWERS) as error:
                log.debug("the channel of invalidations: %s", error)
            tries += 1
            await channel.wait(self._woken, PAUSE.seconds(tries))

    async def tell(self, floors: Sequence[channel.Floor], seconds: float) -> bool:
        """Notify, in a transaction of its own that waits for no disk and no replica."""
        messages = [message for floor, slots in floors for message in channel.encode(floor, slots)]
        until = asyncio.get_running_loop().time() + seconds
        try:
            lease = await self._shards.primary(self._number, until)
        except errors.TenfoldError:
            return False
        try:
            await lease.connection.execute(_notification(messages), timeout=seconds)
        except connect.ANSWERS as error:
            log.debug("some processes will hear of an invalidation from the database: %s", error)
            lease.discard()
            return False
        except BaseException:
            lease.discard()
            raise
        await lease.release()
        return True

    def turn(self) -> None:
        """The database goes on on another timeline, and so perhaps on another node: the next pulse will tell."""
        self.is_whole = False
        self._woken.set()

    async def _listen(self) -> bool:
        """Listen on the primary of this moment until that breaks. False when there is none."""
        node = self._shards.shard(self._number).writable
        if node is None:
            await self._ears.pulse()
            await channel.wait(self._woken, LOOK_SECONDS)
            return False
        connection = await self._shards.connector.open(node.where, connect.CONNECT_SECONDS)
        try:
            node.followers.add(connection)
            connection.add_termination_listener(lambda _: self._woken.set())
            await connection.add_listener(channel.NAME, self._heard)
            while not connection.is_closed():
                self.is_whole = True
                await self._ears.pulse_on(connection)
                await channel.wait(self._woken, channel.PULSE_SECONDS)
        finally:
            self._break(connection)
        return True

    def _break(self, connection: Any) -> None:
        counters.add("cache.channel_breaks")
        self.is_whole = False
        connection.terminate()
        self._ears.lost()

    def _heard(self, _: Any, __: int, ___: str, message: Any) -> None:
        channel.heard(message, self._ears)


def _notification(messages: Sequence[str]) -> str:
    """One message to the server. What is said has digits, letters and `.+/=` in it alone."""
    notify = "; ".join(f"notify {channel.NAME}, '{one}'" for one in messages)
    return f"begin; set local synchronous_commit = off; {notify}; commit"
