"""What one web process carries: the last ten seconds of its requests, for `/-/load`.

Kept by `inflight`, fed by `exchange` and `wrap` on the hot path of every request (`benchmarks/middleware.py` holds it
to that), read by `wrap` when the runtime asks. Pure: moments are handed in, `time.monotonic()` values.

A window is ten slots of a second; whoever reads adds up those that are not too old. Latencies, the time until the
response begins, are counted in buckets that widen by 9 %, so a percentile is never more than 9 % above the truth.
"""

import math
from collections.abc import Iterator
from typing import Any

SLOTS = 10
"""Seconds that a reading looks back."""

BUCKETS = 192
"""The last one begins at 13 minutes; what takes longer is counted there."""

_SCALE = 20_000
"""Below 1 / 20,000 s, where nothing is worth telling apart, buckets are even; above, each is 9 % wider."""

_PER_E = 8 / math.log(2)
"""Eight buckets double the time."""

_log1p = math.log1p


class Slot:
    """One second's counts."""

    __slots__ = ("answers_4xx", "answers_5xx", "busy_seconds", "latencies", "queued_seconds", "shed")

    def __init__(self) -> None:
        self.answers_4xx = 0
        self.answers_5xx = 0
        self.shed = 0
        """Requests that were refused at the door, with 503: the process was full."""
        self.busy_seconds = 0.0
        """Time until the response began, summed up. Over a window's seconds: how many requests were worked on."""
        self.queued_seconds = 0.0
        """Time between the balancer and the door, summed up: queues, and requests held back."""
        self.latencies = [0] * BUCKETS
        """Answers that began, but for those that were shed, by how long they took."""


class Meter:
    """One process's requests. Not for threads: it belongs to one event loop."""

    def __init__(self, now: float = 0.0) -> None:
        self._began = now
        self._slots: dict[int, Slot] = {}
        self._slot = Slot()
        self._requests = 0
        """Answered, and not shed, before the present second; with their times:"""
        self._busy_seconds = 0.0
        self._queued_seconds = 0.0
        self._turn(now)

    def answered(self, status: int, seconds: float, queued_seconds: float, now: float) -> None:
        """A response began, `seconds` after its request had come in."""
        if now >= self._turns_at:
            self._turn(now)
        slot = self._slot
        slot.busy_seconds += seconds
        if queued_seconds:
            slot.queued_seconds += queued_seconds
        if status >= 400:
            if status >= 500:
                slot.answers_5xx += 1
            else:
                slot.answers_4xx += 1
        try:
            slot.latencies[int(_log1p(seconds * _SCALE) * _PER_E)] += 1
        except IndexError:
            slot.latencies[-1] += 1

    def refused(self, now: float) -> None:
        """A request was answered 503 at the door; it took no time worth counting."""
        if now >= self._turns_at:
            self._turn(now)
        self._slot.answers_5xx += 1
        self._slot.shed += 1

    def reading(self, now: float) -> dict[str, Any]:
        """The last ten seconds, as JSON. `latencies`: pairs of a bucket's upper bound in seconds and its count."""
        oldest = int(now) - SLOTS + 1
        slots = [slot for second, slot in self._slots.items() if second >= oldest]
        counts = [sum(slot.latencies[number] for slot in slots) for number in range(BUCKETS)]
        return {
            "window_seconds": round(max(now - max(self._began, oldest), 0.001), 3),
            "requests": sum(counts) + sum(slot.shed for slot in slots),
            "answers_4xx": sum(slot.answers_4xx for slot in slots),
            "answers_5xx": sum(slot.answers_5xx for slot in slots),
            "shed": sum(slot.shed for slot in slots),
            "busy_seconds": round(sum(slot.busy_seconds for slot in slots), 6),
            "queued_seconds": round(sum(slot.queued_seconds for slot in slots), 6),
            "latencies": list(_pairs(counts)),
            "ever": {
                "requests": self._requests + sum(self._slot.latencies),
                "busy_seconds": round(self._busy_seconds + self._slot.busy_seconds, 6),
                "queued_seconds": round(self._queued_seconds + self._slot.queued_seconds, 6),
            },
        }

    def _turn(self, now: float) -> None:
        """A new second begins; slots that nobody will read again are dropped."""
        self._requests += sum(self._slot.latencies)
        self._busy_seconds += self._slot.busy_seconds
        self._queued_seconds += self._slot.queued_seconds
        second = int(now)
        self._turns_at = second + 1
        self._slot = Slot()
        oldest = second - SLOTS + 1
        self._slots = {number: slot for number, slot in self._slots.items() if number >= oldest}
        self._slots[second] = self._slot


def upper_seconds(bucket: int) -> float:
    """The longest latency that a bucket counts."""
    return math.expm1((bucket + 1) / _PER_E) / _SCALE


def _pairs(counts: list[int]) -> Iterator[tuple[float, int]]:
    return ((round(upper_seconds(number), 7), count) for number, count in enumerate(counts) if count)
