"""The queue's own tasks: each has an owner, and one that ends by itself is heard of.

Used by everything in this package that runs a loop.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any

log = logging.getLogger("tenfold.queue")


def begin(name: str, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    """A task that its caller owns, and ends with `end`."""
    task = asyncio.get_running_loop().create_task(work, name=f"tenfold-queue-{name}")
    task.add_done_callback(_report)
    return task


async def end(tasks: Iterable["asyncio.Task[None]"]) -> None:
    """Cancel them and wait until they have ended."""
    found = list(tasks)
    for task in found:
        task.cancel()
    await asyncio.gather(*found, return_exceptions=True)


def _report(task: "asyncio.Task[None]") -> None:
    """A loop that ends by itself is a flaw of ours, or met what no program survives: say so, loudly."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("%s ended by itself: the queue does not work in this process", task.get_name(), exc_info=error)
