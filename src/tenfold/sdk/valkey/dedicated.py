"""Connections of one's own, for commands that make their connection wait: WAIT, WAITAOF, blocking reads.

Lent by `client`. What is written and waited for on one connection is waited for in that order, and holds nobody else
up. A connection that is given back clean is kept for the next; one with an open question is closed.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from tenfold.sdk.valkey import cluster, command, connection, greeting, server, trouble

IDLE = 4
"""Connections to one server that are kept for the next one who asks."""

MOST = 64
"""Connections to one server that may be lent at once; whoever asks then waits for one."""


class Dedicated:
    """One connection to one server. For one task at a time."""

    def __init__(self, at: server.Server, router: cluster.Cluster) -> None:
        self.server = at
        self._router = router
        self._connection: connection.Connection | None = None

    @property
    def is_clean(self) -> bool:
        """Whether it is open, and everything that was asked on it has been answered."""
        return self._connection is not None and self._connection.is_open and not self._connection.pending

    async def open(self) -> None:
        """Connect. Raises `Unavailable`."""
        try:
            self._connection, _ = await greeting.connect(self.server.address, self._router.account, lambda: self)
        except server.TROUBLES as error:
            raise trouble.Unavailable(f"{self.server.name}: {error or type(error).__name__}") from error

    def close(self) -> None:
        """At once. Twice is once."""
        if self._connection is not None:
            self._connection.abort("it was closed")

    async def call(self, *parts: command.Part, timeout: float = 1.0) -> Any:
        """The answer to one command. Raises `Unavailable` or `Refused`; redirects are errors here."""
        (answer,) = await self.many([parts], timeout=timeout)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def many(self, commands: Sequence[tuple[command.Part, ...]], *, timeout: float = 1.0) -> list[Any]:
        """The answers to these commands, sent at once. An error is in its place, not raised."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        sent = [command.Command(parts, loop.create_future(), until) for parts in commands]
        made = self._connection
        if made is None or not made.is_open:
            raise trouble.Unavailable(f"{self.server.name}: the connection is closed")
        made.write(sent)
        timer = loop.call_at(until, self._expire, sent)
        try:
            return await asyncio.gather(*(one.future for one in sent), return_exceptions=True)
        finally:
            timer.cancel()

    def refused(self, one: command.Command, error: trouble.Refused) -> None:
        self._router.moved(self.server, error)
        one.refuse(error)

    def pushed(self, channel: bytes, payload: bytes) -> None:
        """Nobody listens on a connection of its own."""

    def has_room(self) -> None:
        """Nothing waits: it is written at once."""

    def lost(self, left: Sequence[command.Command], why: str) -> None:
        for one in left:
            one.fail(f"{self.server.name}: {why}")

    def _expire(self, sent: Sequence[command.Command]) -> None:
        for one in sent:
            one.fail(f"{self.server.name} gave no answer in time")
        self.close()


class Pool:
    """The connections that are lent and kept."""

    def __init__(self) -> None:
        self._idle: dict[server.Server, list[Dedicated]] = {}
        self._lent: dict[server.Server, asyncio.Semaphore] = {}

    @contextlib.asynccontextmanager
    async def lend(self, at: server.Server, router: cluster.Cluster, seconds: float) -> AsyncIterator[Dedicated]:
        """A connection to this server, kept or new, within so many seconds. Raises `Unavailable`."""
        self._leave(router)
        room = self._lent.setdefault(at, asyncio.Semaphore(MOST))
        try:
            async with asyncio.timeout(seconds):
                await room.acquire()
        except TimeoutError as error:
            raise trouble.Unavailable(f"{at.name}: {MOST} connections of their own are lent already") from error
        lent: Dedicated | None = None
        try:
            lent = await self._open(at, router, seconds)
            yield lent
        finally:
            room.release()
            if lent is not None:
                self._give_back(lent)

    def close(self) -> None:
        """Close what is kept; what is lent is closed when it comes back."""
        for kept in self._idle.values():
            for one in kept:
                one.close()
        self._idle.clear()
        self._lent.clear()

    def _leave(self, router: cluster.Cluster) -> None:
        """Keep no connection to a server that has left."""
        for gone in [one for one in self._lent if router.servers.get(one.address) is not one]:
            del self._lent[gone]
            for kept in self._idle.pop(gone, ()):
                kept.close()

    async def _open(self, at: server.Server, router: cluster.Cluster, seconds: float) -> Dedicated:
        kept = self._idle.get(at, [])
        while kept:
            one = kept.pop()
            if one.is_clean:
                return one
            one.close()
        made = Dedicated(at, router)
        try:
            async with asyncio.timeout(seconds):
                await made.open()
        except TimeoutError as error:
            raise trouble.Unavailable(f"{at.name}: no connection in time") from error
        return made

    def _give_back(self, one: Dedicated) -> None:
        if one.is_clean and one.server in self._lent and len(self._idle.setdefault(one.server, [])) < IDLE:
            self._idle[one.server].append(one)
        else:
            one.close()
