"""Waiting for a state with a deadline, in place of sleeping and hoping.

Called by the runtime, engines' admin functions and tests. Knows nothing of tenfold.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

Seen = TypeVar("Seen")


async def until(look: Callable[[], Awaitable[Seen]], *, seconds: float, pause_seconds: float = 0.05) -> Seen | None:
    """What `look` returned as soon as it is true, or its last answer when `seconds` have passed.

    Looks at least once. Exceptions of `look` pass through.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        seen = await look()
        if seen or loop.time() >= deadline:
            return seen
        await asyncio.sleep(min(pause_seconds, max(0.0, deadline - loop.time())))
