"""The event loop that something was started on, and whether a caller runs on it.

Asked by the SDK before every request and every statement, so it must not cost a system call: `asyncio.get_running_loop`
makes one each time on Python 3.11 (getpid, to notice a fork). Never blocks, starts or stops a loop.
"""

import asyncio
import os
import weakref
from _thread import get_ident


class Home:
    """At first nobody's; `settle` makes it the running loop's, `leave` nobody's again."""

    __slots__ = ("__weakref__", "_thread", "loop")

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        _all.add(self)

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


_all: "weakref.WeakSet[Home]" = weakref.WeakSet()


def _forked() -> None:
    """A child has its parent's loops in its memory, as if they ran; their connections are the parent's."""
    for one in _all:
        one._thread = 0


os.register_at_fork(after_in_child=_forked)
