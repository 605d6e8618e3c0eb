"""Varnish's command line over its management port: one command, one answer.

Called by `admin`, which knows what to ask. Every call has a deadline; whatever goes wrong is one `EngineFailed`.
Source: varnish-cli(7), "Details": each answer is a line of 13 bytes (status, length), the text and a newline; a
challenge is answered with SHA-256 of the challenge, the secret file and the challenge again.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from tenfold import engines, errors
from tenfold.engines.varnish import render, settings

OK, AUTHENTICATE = 200, 107

CONNECT_SECONDS = 5.0


@dataclass(slots=True)
class Console:
    """An open and authenticated connection."""

    name: str
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter

    async def ask(self, command: str, seconds: float = 10.0) -> str:
        """The answer's text. Raises EngineFailed with Varnish's own words when it refuses, or says nothing in time."""
        status, text = await self._exchange(command, seconds)
        if status != OK:
            raise errors.EngineFailed(f"varnish on {self.name}: `{command}` refused (status {status})\n{text.strip()}")
        return text

    async def authenticate(self, secret_file: str) -> None:
        """Say the secret, if it is asked for."""
        status, text = await self._answer()
        if status == AUTHENTICATE:
            challenge = text.split("\n", 1)[0]
            digest = hashlib.sha256(f"{challenge}\n{secret_file}{challenge}\n".encode()).hexdigest()
            status, _ = await self._exchange(f"auth {digest}", CONNECT_SECONDS)
        if status != OK:
            raise errors.EngineFailed(f"varnish on {self.name}: does not take its secret; restart this edge")

    async def _exchange(self, command: str, seconds: float) -> tuple[int, str]:
        try:
            async with asyncio.timeout(seconds):
                self._writer.write(f"{command}\n".encode())
                return await self._answer()
        except TimeoutError as error:
            raise errors.EngineFailed(
                f"varnish on {self.name}: no answer to `{command}` within {seconds:g} s"
            ) from error

    async def _answer(self) -> tuple[int, str]:
        try:
            status, length = (await self._reader.readexactly(13)).split()
            text = await self._reader.readexactly(int(length) + 1)
        except (OSError, EOFError, ValueError) as error:
            raise errors.EngineFailed(f"varnish on {self.name}: its console broke off: {error}") from error
        return int(status), text.decode(errors="replace")


@asynccontextmanager
async def opened(seat: engines.Seat) -> AsyncIterator[Console]:
    """The console of this seat's edge. Raises EngineFailed when there is nobody, or it does not take the secret."""
    name = seat.server.name
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(seat.address, settings.CONSOLE_PORT, limit=2**22)
    except (OSError, TimeoutError) as error:
        raise errors.EngineFailed(f"varnish on {name}: {error or 'no answer'}; is it running?") from error
    try:
        console = Console(name, reader, writer)
        async with asyncio.timeout(CONNECT_SECONDS):
            await console.authenticate(render.secret_file(seat))
        yield console
    except TimeoutError as error:
        raise errors.EngineFailed(f"varnish on {name}: its console says nothing") from error
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
