"""Where requests wait for a place when a process works on as many as it may, until one of these has been answered.

Owned by `inflight`. Only where the number of web servers follows the load is there room to wait: others are on their
way then. Without room a request is refused at once, and so is one that has waited for half of its time.
"""

import asyncio
from collections import deque

PATIENCE = 0.5
"""The share of its time that a request may wait here; the balancer's queue has the same patience."""


class Door:
    """The requests that wait, the first first. Not for threads."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.granted = 0
        """Requests that have got a place and have not taken it yet."""

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, seconds: float) -> bool:
        """True as soon as there is a place, which is taken in the same step; False when there is none in time.

        Cancelled: a place that was given is passed on.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(seconds):
                await turn
        except TimeoutError:
            if not _is_given(turn):
                return False
        except asyncio.CancelledError:
            if _is_given(turn):
                self.granted -= 1
                self.open()
            raise
        self.granted -= 1
        return True

    def open(self) -> None:
        """A place is free: it is the first one's."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self.granted += 1
                return


def _is_given(turn: "asyncio.Future[None]") -> bool:
    return turn.done() and not turn.cancelled()
