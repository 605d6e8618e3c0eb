"""Puts on their way into the servers' streams: many in one message, acknowledged when they cannot be lost any more.

Called by `write_back`. A batch has a connection of its own, because waiting for disks and replicas holds up whatever
else is on a connection.
"""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tenfold import errors
from tenfold.sdk import valkey
from tenfold.sdk.cache import journal
from tenfold.sdk.valkey import dedicated

log = logging.getLogger("tenfold.cache")

BATCH = 500
"""Puts in one message."""

AT_ONCE = 4
"""Batches of one lane that may be under way: each waits for a disk that is written once a second."""

PATIENCE_SECONDS = 3.0
"""How long a batch may take until it counts as not kept."""

ASK_MILLISECONDS = 25
"""How often a replica is asked how far it has come: it only says so when it is asked, or once a second."""

MISTRUST_SECONDS = 2.0
"""How long a lane is left alone after it could not keep a batch: waiting for a replica that is gone takes long."""

STOP_SECONDS = 5.0
"""How long the puts that are under way have when the process stops."""

Fallback = Callable[[Sequence[journal.Written]], Awaitable[None]]


class Lane:
    """One stream's way in. `fallback` keeps what the servers cannot; what it raises, the callers get."""

    def __init__(self, servers: valkey.Client, stream: str, fallback: Fallback, *, is_disk: bool) -> None:
        self._servers = servers
        self._stream = stream
        self._fallback = fallback
        self._is_disk = is_disk
        self._line: list[tuple[journal.Written, tuple[str | bytes, ...], asyncio.Future[None]]] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._mistrusted_until = 0.0
        self._is_kicked = False

    async def put(self, one: journal.Written, command: tuple[str | bytes, ...]) -> None:
        """Return when it is kept: by the servers, or by the fallback."""
        loop = asyncio.get_running_loop()
        kept = loop.create_future()
        self._line.append((one, command, kept))
        if not self._is_kicked:
            self._is_kicked = True
            loop.call_soon(self._kick)
        await kept

    async def settled(self) -> None:
        """Return when nothing is under way any more; what takes too long is broken off, and its callers get that."""
        until = asyncio.get_running_loop().time() + STOP_SECONDS
        while self._under_way and (left := until - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._under_way, timeout=left)
        line, self._line = self._line, []
        for _, _, waiting in line:
            if not waiting.done():
                waiting.set_exception(errors.StoreUnavailable("write_back: the process stops; the put was not kept"))
        for task in self._under_way:
            task.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way)

    def _kick(self) -> None:
        """Send what waits, as batches in tasks of this lane's: a put that is cancelled does not end its batch."""
        self._is_kicked = False
        while self._line and len(self._under_way) < AT_ONCE:
            batch, self._line = self._line[:BATCH], self._line[BATCH:]
            task = asyncio.get_running_loop().create_task(self._send(batch), context=contextvars.Context())
            self._under_way.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._kick()

    async def _send(self, batch: list[tuple[journal.Written, tuple[str | bytes, ...], "asyncio.Future[None]"]]) -> None:
        """Every future of the batch is done on return."""
        try:
            kept = await self._append([command for _, command, _ in batch])
            # Told meanwhile that the servers go away: what is in them may have been moved just before this was.
            kept = kept if self._servers.is_there else [False] * len(batch)
            lost = [one for (one, _, _), is_kept in zip(batch, kept, strict=True) if not is_kept]
            if lost:
                await self._fallback(lost)
        except BaseException as error:
            for _, _, waiting in batch:
                if not waiting.done():
                    waiting.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
                    waiting.exception()  # whoever has gone does not ask
            if not isinstance(error, Exception):
                raise
        else:
            for _, _, waiting in batch:
                if not waiting.done():
                    waiting.set_result(None)

    async def _append(self, commands: list[tuple[str | bytes, ...]]) -> list[bool]:
        """Which of these the servers have kept, as surely as was asked for."""
        loop = asyncio.get_running_loop()
        owner = self._servers.owner(self._stream)
        has_copy = self._is_disk or (owner is not None and owner.is_cluster)
        if owner is None or not owner.is_well or not has_copy or loop.time() < self._mistrusted_until:
            return [False] * len(commands)
        until = loop.time() + PATIENCE_SECONDS
        try:
            async with self._servers.dedicated(self._stream, timeout=PATIENCE_SECONDS) as own:
                answers = await own.many(commands, timeout=PATIENCE_SECONDS)
                kept = [isinstance(answer, bytes) for answer in answers]
                if any(kept) and await self._is_safe(own, until):
                    return kept
                reason: Any = next(
                    (one for one in answers if not isinstance(one, bytes)), "no replica has said that it has it"
                )
        except valkey.ValkeyError as error:
            reason = error
        self._mistrusted_until = loop.time() + MISTRUST_SECONDS
        log.warning("cache: %s is not kept by the servers, and goes into the database: %s", self._stream, reason)
        return [False] * len(commands)

    async def _is_safe(self, own: dedicated.Dedicated, until: float) -> bool:
        """Wait until what was written on this connection is where it must be."""
        replicas = 1 if own.server.is_cluster else 0
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            if self._is_disk:
                local, copies = await own.call("WAITAOF", 1, replicas, ASK_MILLISECONDS, timeout=PATIENCE_SECONDS)
                is_safe = local >= 1 and copies >= replicas
            else:
                is_safe = await own.call("WAIT", replicas, ASK_MILLISECONDS, timeout=PATIENCE_SECONDS) >= replicas
            if is_safe:
                return True
        return False
