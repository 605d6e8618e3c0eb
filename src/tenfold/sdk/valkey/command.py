"""One command on its way: its bytes, the future of its answer, and how long it may take.

Made by `client`, moved by `server` and `cluster`. It is sent at most once unless its caller allows more, and a caller
that goes away cancels the future alone: the answer still comes, and is then dropped in its place.
"""

import asyncio
from typing import TYPE_CHECKING, Any

import hiredis

from tenfold.sdk.valkey import trouble

if TYPE_CHECKING:
    from tenfold.sdk.valkey.server import Server

Part = str | bytes | int | float


class Command:
    """A command; `parts` are its words, the name first."""

    __slots__ = ("future", "is_sent", "may_repeat", "parts", "server", "size", "slot", "tries", "until", "wire")

    def __init__(self, parts: tuple[Part, ...], future: "asyncio.Future[Any]", until: float, slot: int = 0) -> None:
        self.parts = parts
        self.wire = hiredis.pack_command(parts)  # type: ignore[arg-type]  # its stub says a tuple of one
        self.size = len(self.wire)
        self.future = future
        self.until = until
        """The `loop.time()` at which its caller gets `Unavailable`."""
        self.slot = slot
        self.server: Server | None = None
        """The server that it is meant for, whoever owns its slot; None: the slot's owner."""
        self.may_repeat = False
        """Whether it may be sent again when the connection breaks before its answer came."""
        self.is_sent = False
        self.tries = 0

    def fail(self, why: str) -> None:
        """Tell its caller that there is no answer."""
        if not self.future.done():
            self.future.set_exception(trouble.Unavailable(f"{self.parts[0]!s}: {why}", is_unknown=self.is_sent))

    def refuse(self, error: trouble.Refused) -> None:
        """Give its caller the server's error."""
        if not self.future.done():
            self.future.set_exception(error)


def unheard(parts: tuple[Part, ...], until: float) -> Command:
    """A command whose answer nobody waits for."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return Command(parts, future, until)
