"""One connection of the runtime to a Valkey, and the one place where its errors become ours.

Called by probe and admin, and by tests. Never used by the app, whose connections are the SDK's.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import hiredis

from tenfold import engines, errors
from tenfold.engines.valkey import settings

TIMEOUT_SECONDS = 2.0

CHUNK_BYTES = 64 * 1024


class Refused(errors.EngineFailed):
    """Valkey answered with an error; `code` is its first word (`ERR`, `NOAUTH`, `CLUSTERDOWN`)."""

    def __init__(self, message: str, code: str) -> None:
        self.code = code
        super().__init__(message)


class Connection:
    """Commands one after the other. For one task."""

    def __init__(self, address: str, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self._address = address
        self._reader, self._writer = streams
        self._replies = hiredis.Reader(encoding="utf-8", errors="surrogateescape")

    async def ask(self, *words: str | int, timeout_seconds: float = TIMEOUT_SECONDS) -> Any:
        """The answer of one command. Raises Refused when it is an error, EngineFailed when none comes in time."""
        try:
            async with asyncio.timeout(timeout_seconds):
                packed = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub means one word
                self._writer.write(packed)
                await self._writer.drain()
                answer = await self._answer()
        except (OSError, EOFError) as error:  # a timeout is the first
            raise errors.EngineFailed(
                f"Valkey at {self._address}: no answer to {words[0]} ({str(error) or type(error).__name__})"
            ) from error
        if isinstance(answer, hiredis.ReplyError):
            text = str(answer)
            raise Refused(f"Valkey at {self._address}: {words[0]}: {text}", text.split(" ", 1)[0]) from answer
        return answer

    async def _answer(self) -> Any:
        while (answer := self._replies.gets()) is False:
            chunk = await self._reader.read(CHUNK_BYTES)
            if not chunk:
                raise EOFError("connection closed")
            self._replies.feed(chunk)
        return answer


@asynccontextmanager
async def of(seat: engines.Seat, timeout_seconds: float = TIMEOUT_SECONDS) -> AsyncIterator[Connection]:
    """The runtime's connection to the seat's server, see `opened`."""
    user, password = settings.ADMIN, seat.secrets.cache_admin
    async with opened(seat.address, seat.process.port, user, password, timeout_seconds) as made:
        yield made


@asynccontextmanager
async def opened(
    address: str, port: int, user: str, password: str, timeout_seconds: float = TIMEOUT_SECONDS
) -> AsyncIterator[Connection]:
    """A connection for one piece of work, logged in. Raises EngineFailed when the server is not there, Refused when
    it does not know the password."""
    try:
        async with asyncio.timeout(timeout_seconds):
            streams = await asyncio.open_connection(address, port)
    except OSError as error:
        raise errors.EngineFailed(f"Valkey at {address}: {str(error) or type(error).__name__}") from error
    try:
        made = Connection(address, streams)
        await made.ask("AUTH", user, password, timeout_seconds=timeout_seconds)
        yield made
    finally:
        streams[1].transport.abort()
