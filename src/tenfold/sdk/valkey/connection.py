"""One connection to a Valkey: commands go out in batches, answers come back in their order, pushes between them.

Owned by a `server.Server` (the multiplexed one) or a `dedicated.Dedicated`. It knows nothing of clusters, deadlines
or trying again: it says when it broke, and which commands were left without an answer.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol, cast

import hiredis

from tenfold.sdk.valkey import command, trouble

HIGH_WATER = 1024 * 1024
"""Bytes that may wait for the kernel before writing pauses."""

_ANSWERS = (b"subscribe", b"unsubscribe")
"""Pushes that answer a command; every other one comes by itself."""

_NOTHING = object()


class Owner(Protocol):
    """Who is told what happens on a connection. All are called from the loop, and must not raise."""

    def refused(self, command: command.Command, error: trouble.Refused) -> None:
        """The server answered this command with an error."""

    def pushed(self, channel: bytes, payload: bytes) -> None:
        """A message came. What was answered after it on this connection is not yet known to anybody."""

    def has_room(self) -> None:
        """Something was answered, or writing goes on after a pause."""

    def lost(self, left: Sequence[command.Command], why: str) -> None:
        """The connection is closed; these commands were sent and got no answer."""


class Connection(asyncio.Protocol):
    """The protocol object of one TCP connection."""

    __slots__ = ("_loop", "_owner", "_reader", "_transport", "_why", "is_paused", "is_silent", "pending", "received_at")

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=trouble.Refused, notEnoughData=_NOTHING)
        self._transport: asyncio.Transport | None = None
        self._why = ""
        self.pending: deque[command.Command] = deque()
        self.is_paused = False
        self.is_silent = False
        """Whether something has waited too long since the last byte came: set by the owner, ended by the next byte."""
        self.received_at = self._loop.time()

    @property
    def is_open(self) -> bool:
        """Whether commands can be written."""
        return self._transport is not None

    def write(self, batch: Sequence[command.Command]) -> None:
        """Send these commands, in their order. Only while `is_open`."""
        assert self._transport is not None
        for one in batch:
            one.is_sent = True
        self.pending.extend(batch)
        self._transport.write(b"".join([one.wire for one in batch]) if len(batch) > 1 else batch[0].wire)

    def abort(self, why: str) -> None:
        """Close at once; the owner hears of it on the loop's next turn."""
        transport, self._transport = self._transport, None
        if transport is not None:
            self._why = why
            transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        self._transport.set_write_buffer_limits(HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        self.received_at = self._loop.time()
        self.is_silent = False
        next_answer, pending = self._reader.gets, self.pending
        try:
            self._reader.feed(data)
            while (answer := next_answer()) is not _NOTHING:
                kind = type(answer)
                if kind is hiredis.PushNotification and not self._is_answer(answer):
                    continue
                answered = pending.popleft()
                if kind is trouble.Refused:
                    self._owner.refused(answered, answer)
                elif not answered.future.done():
                    answered.future.set_result(answer)
        except (hiredis.HiredisError, IndexError) as error:
            self.abort(f"what it says is not the protocol of Valkey ({error})")
            return
        self._owner.has_room()

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        self._owner.has_room()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        left, self.pending = self.pending, deque()
        self._owner.lost(
            left, self._why or (f"the connection broke ({error})" if error else "it closed the connection")
        )

    def _is_answer(self, push: list[Any]) -> bool:
        """Whether a push answers a command; if it is a message, its listeners are told."""
        if push[0] == b"message":
            self._owner.pushed(push[1], push[2])
        return push[0] in _ANSWERS
