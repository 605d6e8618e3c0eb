"""What can be asked of a granian while it runs: one small HTTP request at a time.

Its whole HTTP client is here, because a probe runs several times a second for every server.
"""

import asyncio

ANSWER_SECONDS = 1.0

MOST_BYTES = 64 * 1024


async def get(address: str, port: int, path: str) -> tuple[int, str]:
    """Status and body of a GET on a connection of its own. Raises OSError, or ValueError when it is no HTTP."""
    reader, writer = await asyncio.open_connection(address, port, limit=MOST_BYTES)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
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
