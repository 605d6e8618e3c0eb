"""A thing that happens again and again, and tasks that wait for its next time.

Called by the probes and by whoever waits for what they see.
"""

import asyncio


class Signal:
    """`fire` wakes every task that waits at that moment; `waiting` counts them."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def waiting(self) -> int:
        """How many tasks wait for the next `fire`."""
        return len(self._waiters)

    def fire(self) -> None:
        """Wake everyone who waits now."""
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, until: float) -> bool:
        """True after the next `fire`, False when `loop.time()` has reached `until` before it."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiters.add(waiter)
        timer = loop.call_at(until, _expire, waiter)
        try:
            await waiter
        except TimeoutError:
            return False
        finally:
            timer.cancel()
            self._waiters.discard(waiter)
        return True


def _expire(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
