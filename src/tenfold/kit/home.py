"""The event loop that something was started on, and whether a caller runs on it.

Asked by the SDK before every request and every statement, so it must not cost a system call: `asyncio.get_running_loop`
makes one each time on Python 3.11 (getpid, to notice a fork). Never blocks, starts or stops a loop.
"""

import asyncio
from _thread import get_ident


class Home:
    """At first nobody's; `settle` makes it the running loop's, `leave` nobody's again."""

    __slots__ = ("_thread", "loop")

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    def settle(self) -> None:
        """The loop that runs now is home."""
        self.loop = asyncio.get_running_loop()
        self._thread = get_ident()

    def leave(self) -> None:
        """No loop is home."""
        self.loop = None

    def here(self) -> asyncio.AbstractEventLoop | None:
        """The home loop when the caller runs on it; None on another loop or thread, outside loops, and without a home.

        A thread runs one loop at a time: if ours runs, and this is its thread, it is ours that called.
        """
        loop = self.loop
        if loop is None or (get_ident() == self._thread and loop.is_running()):
            return loop
        return loop if loop is asyncio._get_running_loop() else None
