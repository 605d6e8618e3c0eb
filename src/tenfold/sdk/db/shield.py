"""Work that must run to its end whatever happens to its caller: a COMMIT and what follows it, a rollback.

Called by `transaction`. The work must bound itself: it is waited for, not watched.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

Result = TypeVar("Result")


async def undisturbed(work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` returns or raises. A cancellation of the caller is delivered when the work has ended, and wins.

    The work has a task of its own because asyncpg asks the server to cancel a statement whose waiter is cancelled:
    a COMMIT cancelled so is visible without being replicated.
    """
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled from (None if task.cancelled() else task.exception())
    return task.result()
