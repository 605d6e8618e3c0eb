"""The front door of `tenfold dev`: holds the listening socket, so that a request during a reload waits.

Made by `session`. It passes bytes on to the app's process and back; it reads a request only when there is no app to
read it, to answer with the reason.
"""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tenfold import errors
from tenfold.kit import clock

CHUNK_BYTES = 64 * 1024

NEXT_PORTS = 20
"""How many ports after a taken one are tried."""

READS = (b"GET ", b"HEAD ")
"""How requests begin that may be asked twice."""

AGAIN_SECONDS = 10.0
"""For how long a request that got no answer at all is tried again, with the next app."""

AGAIN_PAUSE_SECONDS = 0.02

Place = tuple[Path | None, str]
"""Where the app serves now; or None, and why not."""


def bind(listen: str, *, may_move: bool) -> socket.socket:
    """The listening socket at `address:port`, or at one of the next ports when that is taken and it may move.

    Raises RuntimeFailure, which says who may be there and what to write.
    """
    host, _, port = listen.rpartition(":")
    for offset in range(NEXT_PORTS + 1 if may_move else 1):
        try:
            return _listening(host.strip("[]"), int(port) + offset)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise errors.RuntimeFailure(
                    f"{listen}: cannot listen there ({error.strerror}); use --listen"
                ) from error
        except OverflowError:
            break
    free = "give another one with --listen ADDRESS:PORT, or leave --listen out"
    raise errors.RuntimeFailure(f"{listen}: taken by another program; {free}")


def address_of(listening: socket.socket) -> str:
    """`address:port`, with brackets around an IPv6 address."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Door:
    """Takes connections and passes them on. `place` says where they go, as late as it must."""

    def __init__(self, place: Callable[[], Awaitable[Place]]) -> None:
        self._place = place
        self._open: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.StreamReader] = set()
        """By the client's side, connections with a request that the app has not begun to answer."""
        self._is_held = False

    @asynccontextmanager
    async def serving(self, listening: socket.socket) -> AsyncIterator[None]:
        """Take connections as long as the block runs."""
        server = await asyncio.start_server(self._take, sock=listening, limit=CHUNK_BYTES)
        try:
            yield
        finally:
            server.close()
            for task in tuple(self._open):
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)

    async def hold(self, seconds: float) -> None:
        """Let no request through to the app any more, and wait until it has begun to answer those that it has."""
        self._is_held = True

        async def is_quiet() -> bool:
            return not self._busy

        await clock.until(is_quiet, seconds=seconds, pause_seconds=0.005)

    def release(self) -> None:
        """Let requests through again."""
        self._is_held = False

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # either side has left, or the door closes; asyncio's streams would report a cancelled task as a crash
        finally:
            self._open.discard(task)
            self._busy.discard(reader)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass a connection on. A request that an app left without a word goes to the next one, if it only reads."""
        unanswered = bytearray(await reader.read(CHUNK_BYTES))
        may_repeat = unanswered.startswith(READS)
        until = asyncio.get_running_loop().time() + AGAIN_SECONDS
        while unanswered:
            path, reason = await self._place()
            if path is None:
                await _refuse(writer, reason)
                return
            self._busy.add(reader)
            is_last = asyncio.get_running_loop().time() > until
            try:
                upstream, onward = await asyncio.open_unix_connection(str(path), limit=CHUNK_BYTES)
            except OSError:  # it has just ended, or does not listen yet: nothing was asked
                if is_last:
                    raise
            else:
                await self._pass_on(reader, writer, unanswered, upstream, onward)
                if not unanswered or is_last or not may_repeat:
                    break
            self._busy.discard(reader)
            await asyncio.sleep(AGAIN_PAUSE_SECONDS)
        writer.close()
        await writer.wait_closed()

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        unanswered: bytearray,
        upstream: asyncio.StreamReader,
        onward: asyncio.StreamWriter,
    ) -> None:
        """Both ways until the app ends it. `unanswered` is what it was asked if it has not said a word, else empty."""
        onward.write(bytes(unanswered))
        sending = asyncio.create_task(self._send_on(reader, onward, unanswered), name="tenfold-dev-request")
        try:
            while chunk := await upstream.read(CHUNK_BYTES):
                unanswered.clear()
                self._busy.discard(reader)
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            if not unanswered:
                raise
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            onward.transport.abort()

    async def _send_on(self, reader: asyncio.StreamReader, onward: asyncio.StreamWriter, unanswered: bytearray) -> None:
        """Every byte of the client's, and its end. A new request on an old connection is not for an app that goes:
        closing tells the client to make a new connection, which waits for the next app."""
        while chunk := await reader.read(CHUNK_BYTES):
            if self._is_held and reader not in self._busy:
                onward.transport.abort()
                return
            self._busy.add(reader)
            if unanswered:
                unanswered += chunk
            onward.write(chunk)
            await onward.drain()
        if onward.can_write_eof():
            onward.write_eof()


async def _refuse(writer: asyncio.StreamWriter, reason: str) -> None:
    body = f"tenfold dev: the app does not run.\n\n{reason}\n\nIt is started again when a file changes.\n".encode()
    head = (
        "HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(128)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made
