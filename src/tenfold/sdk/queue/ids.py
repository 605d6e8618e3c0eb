"""Ids of messages: UUIDs whose order within one process is the order in which they were made.

Used by `envelopes`. RFC 9562, version 7 with the fraction of the millisecond in `rand_a` (6.2, method 3): the database
orders messages of one transaction by them.
"""

import os
import threading
import time
from uuid import UUID

_lock = threading.Lock()
_last = 0


def fresh() -> UUID:
    """A new id, later than every other of this process."""
    global _last  # noqa: PLW0603 - the one clock of this process
    with _lock:
        ticks = time.time_ns() * 4096 // 1_000_000
        _last = ticks = max(ticks, _last + 1)
    milliseconds, fraction = divmod(ticks, 4096)
    random = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | random)
