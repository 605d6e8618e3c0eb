"""The servers of the cache tier as one: a command goes to the server that holds its key, through failovers.

Made by `sdk/service`, one a `Tenfold`; used by `sdk/cache`, `sdk/sessions` and `sdk/tokens`.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from tenfold import bindings
from tenfold.sdk.valkey import cluster, command, dedicated, scripts, server, slots, trouble

log = logging.getLogger("tenfold.valkey")

CALL_SECONDS = 1.0
"""How long a command may take, unless its caller says otherwise."""

Listener = Callable[[bytes], None]
"""Gets a message of a channel, on the loop, before anything that the server answered after it is known to anybody."""

WholeListener = Callable[[bool], None]


class Client:
    """The way to the cache's servers. Without any, `is_there` is False and every command fails at once.

    A command raises `Unavailable` when its answer did not come in time, `Refused` when the answer is an error. Whoever
    is cancelled while it waits disturbs no other command.
    """

    def __init__(self) -> None:
        self._bound = bindings.Cache()
        self._cluster: cluster.Cluster | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: dict[bytes, list[Listener]] = {}
        self._whole_listeners: list[WholeListener] = []
        self._is_whole = False
        self._dedicated = dedicated.Pool()

    @property
    def is_there(self) -> bool:
        """Whether the service has a shared cache."""
        return bool(self._bound.nodes)

    @property
    def is_whole(self) -> bool:
        """Whether every channel is listened to on every primary: no message is being missed."""
        return self._is_whole

    async def start(self, bound: bindings.Cache) -> None:
        """Begin to connect. Servers that are down do not make it fail."""
        self._loop = asyncio.get_running_loop()
        self._cluster = cluster.Cluster(self._delivered, self._changed)
        self.update(bound)

    def update(self, bound: bindings.Cache) -> None:
        """Follow changed bindings: servers join and leave, none may be left."""
        self._bound = bound
        if self._cluster is not None:
            self._cluster.bind(bound)

    async def stop(self) -> None:
        """Close every connection; commands under way fail. Twice is once."""
        self._bound = bindings.Cache()
        stopped, self._cluster = self._cluster, None
        self._dedicated.close()
        if stopped is not None:
            await stopped.close()
            self._tell(is_whole=False)

    # Commands

    def call(
        self,
        *parts: command.Part,
        key: command.Part | None = None,
        timeout: float = CALL_SECONDS,
        until: float = math.inf,
        repeat: bool = False,
        hurry: bool = False,
    ) -> "asyncio.Future[Any]":
        """Send a command; what is returned is to be awaited for its answer.

        `key` says which server gets it: the second part, unless it is given. With `repeat` it is sent again when the
        connection breaks before the answer came: for what may happen twice. Redirects and servers that are loading
        are dealt with, up to `timeout` (seconds) from now and the loop's time `until`. In a `hurry` it fails at once
        where no quick answer can be hoped for.
        """
        found, loop = self._cluster, self._loop
        if found is None or loop is None:
            raise trouble.Unavailable(f"{parts[0]!s}: the client is not started")
        if key is None:
            key = parts[1] if len(parts) > 1 else b""
        one = command.Command(parts, loop.create_future(), min(loop.time() + timeout, until), slots.of(key))
        one.may_repeat = repeat
        if hurry:
            owner = found.owners[one.slot]
            if owner is None or not owner.is_well:
                raise trouble.Away(f"{parts[0]!s}: the server of its key is away")
        found.dispatch(one)
        return one.future

    async def many(
        self, commands: Iterable[tuple[command.Part, ...]], *, timeout: float = CALL_SECONDS, repeat: bool = False
    ) -> list[Any]:
        """The answers to all these commands, sent at once, each to its server. An error is in its place, not raised."""
        sent = [self.call(*parts, timeout=timeout, repeat=repeat) for parts in commands]
        return await asyncio.gather(*sent, return_exceptions=True)

    def is_well(self, key: str | bytes) -> bool:
        """Whether the server that holds this key can be hoped to answer quickly: a look, no I/O."""
        owner = self.owner(key)
        return owner is not None and owner.is_well

    def owner(self, key: str | bytes) -> server.Server | None:
        """The server that holds this key, as far as is known now."""
        return self._cluster.owners[slots.of(key)] if self._cluster is not None else None

    def primaries(self) -> tuple[server.Server, ...]:
        """The servers that own slots, as far as is known now."""
        return self._cluster.primaries if self._cluster is not None else ()

    def call_on(
        self, asked: server.Server, *parts: command.Part, timeout: float = CALL_SECONDS
    ) -> "asyncio.Future[Any]":
        """As `call`, to this very server; its redirects are errors."""
        if self._cluster is None:
            raise trouble.Unavailable(f"{parts[0]!s}: the client is not started")
        return self._cluster.ask(asked, parts, timeout)

    async def every(self, *parts: command.Part, timeout: float = CALL_SECONDS) -> list[Any]:
        """The answers of all primaries. Raises the first error, after all have answered or failed.

        `Unavailable` when no primary is known.
        """
        asked = self.primaries()
        if not asked:
            raise trouble.Unavailable(f"{parts[0]!s}: no server is known yet")
        sent = [self.call_on(one, *parts, timeout=timeout) for one in asked]
        answers = await asyncio.gather(*sent, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers

    async def run(
        self,
        script: scripts.Script,
        *args: command.Part,
        keys: tuple[str | bytes, ...],
        timeout: float = CALL_SECONDS,
        repeat: bool = False,
    ) -> Any:
        """What a script returns. All its keys must be of one slot."""
        tail = (len(keys), *keys, *args)
        try:
            return await self.call("EVALSHA", script.sha, *tail, key=keys[0], timeout=timeout, repeat=repeat)
        except trouble.Refused as error:
            if error.code != "NOSCRIPT":
                raise
        return await self.call("EVAL", script.source, *tail, key=keys[0], timeout=timeout, repeat=repeat)

    # Channels

    def subscribe(self, channel: str, listener: Listener) -> Callable[[], None]:
        """Listen to a channel on every primary, on the connection that answers our commands. Returns how to end it.

        It takes effect on a server a round trip later, and again after each reconnect: `is_whole` and `on_break` say
        when messages may have been missed.
        """
        name = channel.encode()
        self._listeners.setdefault(name, []).append(listener)
        self._changed()

        def end() -> None:
            left = self._listeners.get(name, [])
            if listener in left:
                left.remove(listener)

        return end

    def on_break(self, listener: WholeListener) -> Callable[[], None]:
        """Be told False as soon as messages may be missed, and True when none are any more. Returns how to end it."""
        self._whole_listeners.append(listener)

        def end() -> None:
            if listener in self._whole_listeners:
                self._whole_listeners.remove(listener)

        return end

    # Connections of one's own

    @contextlib.asynccontextmanager
    async def dedicated(self, key: str | bytes, *, timeout: float = CALL_SECONDS) -> AsyncIterator[dedicated.Dedicated]:
        """A connection of one's own to the server that holds this key: for WAIT, WAITAOF and commands that block."""
        if self.owner(key) is None:
            await self.call("PING", key=key, timeout=timeout, repeat=True)  # it waits until somebody owns the key
        found, owner = self._cluster, self.owner(key)
        if found is None or owner is None:
            raise trouble.Unavailable("a connection of its own: no server holds the key")
        async with self._dedicated.lend(owner, found, timeout) as lent:
            yield lent

    # What the cluster tells

    def _delivered(self, channel: bytes, payload: bytes) -> None:
        for listener in tuple(self._listeners.get(channel, ())):
            try:
                listener(payload)
            except Exception:
                log.exception("a listener to %r failed", channel)

    def _changed(self) -> None:
        """Listen where it is not done yet, and tell whether every channel is heard on every primary."""
        found = self._cluster
        if found is None:
            return
        wanted = set(self._listeners)
        is_whole = bool(found.primaries) and None not in found.owners
        for one in found.primaries:
            missing = wanted - one.channels
            is_whole = is_whole and one.connection is not None and not missing
            if one.connection is not None:
                for channel in missing - one.asked_channels:
                    self._listen(found, one, channel)
        self._tell(is_whole=is_whole)

    def _listen(self, found: cluster.Cluster, one: server.Server, channel: bytes) -> None:
        one.asked_channels.add(channel)
        made = one.connection

        def heard(answer: "asyncio.Future[Any]") -> None:
            one.asked_channels.discard(channel)
            if answer.cancelled() or answer.exception() is not None:
                asyncio.get_running_loop().call_later(CALL_SECONDS, self._changed)
                return
            if one.connection is made:
                one.channels.add(channel)
            self._changed()

        found.ask(one, ("SUBSCRIBE", channel), CALL_SECONDS).add_done_callback(heard)

    def _tell(self, *, is_whole: bool) -> None:
        if is_whole == self._is_whole:
            return
        self._is_whole = is_whole
        for listener in tuple(self._whole_listeners):
            try:
                listener(is_whole)
            except Exception:
                log.exception("a listener to the channels' state failed")
