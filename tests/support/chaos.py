"""Delays at every await: tasks that go on a little later than they could, by chance, wherever they have waited.

For tests of races. `disturbed(chance)` wraps the coroutine of every task that is made meanwhile, also inside libraries;
nothing in the code under test knows of it. Most delays are a few turns of the loop, so that whatever else is ready
overtakes; some are real time, so that servers do.
"""

import asyncio
import random
import types
from collections.abc import Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Chaos:
    """How often and how long. Of 100 awaits, `turns` and `sleeps` are disturbed in one or the other way."""

    chance: random.Random
    turns: int = 30
    sleeps: int = 3
    longest_seconds: float = 0.004
    delays: int = 0
    """How many there have been."""

    def factory(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> "asyncio.Task[Any]":
        """For `loop.set_task_factory`."""
        return asyncio.Task(self.run(work), loop=loop, **options)

    async def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What `work` returns."""
        return await self._disturbed(work)

    @types.coroutine
    def _disturbed(self, work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        error: BaseException | None = None
        while True:
            try:
                awaited = work.send(None) if error is None else work.throw(error)
            except StopIteration as stop:
                return stop.value
            error = None
            try:
                yield awaited
                yield from self._delay()
            except BaseException as raised:  # noqa: BLE001 - a cancellation, for `work` to see where it waits
                error = raised

    def _delay(self) -> Generator[Any, Any, None]:
        roll = self.chance.randrange(100)
        if roll < self.sleeps:
            self.delays += 1
            yield from asyncio.sleep(self.chance.random() * self.longest_seconds).__await__()
        elif roll < self.sleeps + self.turns:
            self.delays += 1
            for _ in range(self.chance.randrange(1, 6)):
                yield


@contextmanager
def disturbed(chaos: Chaos) -> Iterator[Chaos]:
    """Disturb every task that is made inside."""
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    loop.set_task_factory(chaos.factory)  # type: ignore[arg-type]
    try:
        yield chaos
    finally:
        loop.set_task_factory(before)
