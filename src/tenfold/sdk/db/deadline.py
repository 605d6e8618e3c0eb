"""Until when a call may wait, and when a running statement is cut. Times are `loop.time()`.

Called by the read half of `tf.db`.
"""

import asyncio
from dataclasses import dataclass

from tenfold import request

WAIT_SECONDS = 10.0
"""Without a deadline (a script, a response that has begun), how long a call waits for a node and a connection."""

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Limits:
    """When waiting ends, and when a statement that runs is cut (`NEVER`: it may take its time)."""

    wait: float
    cut: float


def limits(timeout: float | None = None) -> Limits:
    """For a call that starts now: its own `timeout` in seconds, or the request's deadline, whichever comes first."""
    now = asyncio.get_running_loop().time()
    cut = cut_at(request.current())
    if timeout is not None:
        cut = min(cut, now + timeout)
    return Limits(min(cut, now + WAIT_SECONDS) if cut == NEVER else cut, cut)


def cut_at(serving: request.Request | None) -> float:
    """The request's deadline, which holds until its response has begun."""
    if serving is None or serving.deadline is None or serving.has_responded:
        return NEVER
    return serving.deadline
