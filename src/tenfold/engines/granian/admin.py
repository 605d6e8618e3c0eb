"""What can be asked of a granian while it runs: one small HTTP request at a time.

Its whole HTTP client is here, because a probe runs several times a second for every server.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from tenfold import bindings, engines

ANSWER_SECONDS = 1.0

MOST_BYTES = 64 * 1024


async def load(seat: engines.Seat) -> dict[str, Any] | None:
    """What one of its workers carries (`/-/load`), whichever took the connection; None when none says so in time."""
    key = {"Tenfold-Key": bindings.private_key(seat.secrets.signing)}
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            status, body = await get(seat.address, seat.process.port, "/-/load", key)
        return msgspec.json.decode(body, type=dict[str, Any]) if status == 200 else None
    except (OSError, ValueError):  # a timeout is one, a body that is not JSON the other
        return None


async def get(address: str, port: int, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Status and body of a GET on a connection of its own. Raises OSError, or ValueError when it is no HTTP."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    reader, writer = await asyncio.open_connection(address, port, limit=MOST_BYTES)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{lines}\r\n".encode())
        await writer.drain()
        answer = await reader.read(MOST_BYTES)
        while (more := await reader.read(MOST_BYTES)) and len(answer) < MOST_BYTES:
            answer += more
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    version, _, rest = head.partition(b" ")
    if not version.startswith(b"HTTP/1") or not rest[:3].isdigit():
        raise ValueError(f"{answer[:40]!r}")
    return int(rest[:3]), body.decode(errors="replace")
