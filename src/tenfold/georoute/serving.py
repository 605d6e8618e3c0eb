"""Lines in, lines out: PowerDNS asks over a unix socket, the runtime looks in over TCP. Both get the same answers.

Owned by `program`. One answer a line, in the order of the lines; whoever sends a line without end is cut off.
"""

import asyncio
from collections.abc import Callable
from typing import cast

MOST_BYTES = 64 * 1024
"""The longest line: a DNS name has 255 bytes."""


class Lines(asyncio.Protocol):
    """One connection."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where the answers go."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none of asyncio's classes

    def data_received(self, data: bytes) -> None:
        """Answer every whole line, and keep what is left."""
        assert self._transport is not None
        *lines, self._rest = (self._rest + data).split(b"\n") if self._rest else data.split(b"\n")
        if lines:
            self._transport.write(b"".join([self._answer(line) for line in lines]))
        if len(self._rest) > MOST_BYTES:
            self._transport.abort()
