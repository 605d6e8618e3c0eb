"""Serving the static files: an ASGI app that `asgi/wrap` asks before the service's own.

A name that changes with its content may be kept for ever, by everyone; any other is asked for again each time. A name
that no release here knows is answered 404 and kept by nobody: the next web server may know it.
"""

import asyncio
import os
from pathlib import Path
from typing import Any, NamedTuple

from tenfold.sdk import counters
from tenfold.sdk.cdn import conditions, files

FOR_EVER = b"public, max-age=31536000, immutable"
ASK_AGAIN = b"no-cache"
CHUNK_BYTES = 256 * 1024

Headers = list[tuple[bytes, bytes]]


class Static:
    """The files below one path."""

    def __init__(self, folder: files.Folder, path: str) -> None:
        self.folder = folder
        self.path = path
        """It begins and ends with a slash."""

    def url(self, name: str) -> str | None:
        """The path of this file under the name of its content; None when there is none."""
        found = self.folder.fixed_name(name)
        return None if found is None else self.path + found

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request for what is below the path."""
        if scope["method"] not in ("GET", "HEAD"):
            await _say(send, 405, "only GET and HEAD are for files", [(b"allow", b"GET, HEAD")])
            return
        name = scope["path"][len(self.path) :]
        found = await asyncio.to_thread(self.folder.find, name)
        if found is None:
            counters.add("cdn.static_missing")
            await _say(send, 404, "there is no such file")
            return
        fields = {key.lower(): value for key, value in scope["headers"]}
        await self._give(found, fields, send, has_body=scope["method"] == "GET")

    async def _give(self, found: files.Found, fields: conditions.Fields, send: Any, *, has_body: bool) -> None:
        is_small = found.size <= files.MOST_KEPT_BYTES
        contents = None
        if is_small:
            is_kept = self.folder.is_kept(found)
            contents = self.folder.body(found) if is_kept else await asyncio.to_thread(self.folder.body, found)
            if contents is None:  # it was replaced under our hands
                await _say(send, 503, "this file is being replaced", [(b"retry-after", b"1")])
                return
        body, compressed = contents or (b"", b"")
        is_gzip = bool(compressed) and b"range" not in fields and conditions.takes_gzip(fields)
        answer = _answer(found, fields, len(compressed) if is_gzip else found.size, is_gzip=is_gzip)
        await send({"type": "http.response.start", "status": answer.status.value, "headers": answer.headers})
        is_empty = not has_body or answer.part.length <= 0
        if is_empty or is_small:
            whole = b"" if is_empty else (compressed if is_gzip else body)[answer.part.first : answer.part.last + 1]
            await send({"type": "http.response.body", "body": whole})
        else:
            await _stream(found.path, answer.part, send)


class _Answer(NamedTuple):
    status: conditions.Wanted
    headers: Headers
    part: conditions.Part


def _answer(found: files.Found, fields: conditions.Fields, size: int, *, is_gzip: bool) -> _Answer:
    tag, packed = f'"{found.digest[:32]}"', f'"{found.digest[:32]}-gz"'
    headers = [
        (b"etag", (packed if is_gzip else tag).encode()),
        (b"cache-control", FOR_EVER if found.is_fixed else ASK_AGAIN),
        (b"last-modified", conditions.http_date(found.modified).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    if found.is_compressible:
        headers.append((b"vary", b"accept-encoding"))
    if conditions.is_current(fields, (tag, packed), found.modified):
        return _Answer(conditions.Wanted.NOTHING_NEW, headers, conditions.Part(0, -1))
    status, part = conditions.part(fields, size, tag, found.modified)
    headers += [(b"content-type", found.media_type.encode()), (b"content-length", str(part.length).encode())]
    if is_gzip:
        headers.append((b"content-encoding", b"gzip"))
    else:
        headers.append((b"accept-ranges", b"bytes"))
    if status is conditions.Wanted.PART:
        headers.append((b"content-range", f"bytes {part.first}-{part.last}/{size}".encode()))
    elif status is conditions.Wanted.NO_SUCH_PART:
        headers.append((b"content-range", f"bytes */{size}".encode()))
    return _Answer(status, headers, part)


async def _stream(path: Path, part: conditions.Part, send: Any) -> None:
    """A large file, a piece at a time."""
    descriptor = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        at, left = part.first, part.length
        while left > 0:
            piece = await asyncio.to_thread(os.pread, descriptor, min(CHUNK_BYTES, left), at)
            if not piece:
                raise OSError(f"{path} became shorter while it was sent")
            at, left = at + len(piece), left - len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
    finally:
        os.close(descriptor)


async def _say(send: Any, status: int, words: str, more: Headers = []) -> None:  # noqa: B006 - only read
    body = f"{words}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
