"""What one process does for the queue: the last ten seconds, for `/-/load`.

Fed by `running` for every message, read by `Queue.reading`. Pure: moments are handed in, `time.monotonic()` values.
"""

from typing import Any

SLOTS = 10
"""Seconds that a reading looks back."""


class _Slot:
    __slots__ = ("handled", "seconds", "waited_seconds")

    def __init__(self) -> None:
        self.handled = 0
        self.seconds = 0.0
        """What handling them took, summed up."""
        self.waited_seconds = 0.0
        """The longest that a message waited, from when it was due until its handler began."""


class Meter:
    """One process's messages. Not for threads."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._slots: dict[int, _Slot] = {}
        self._turn(now)

    def handled(self, seconds: float, waited_seconds: float, now: float) -> None:
        """A handler has ended, `seconds` after it began on a message that had waited."""
        if now >= self._turns_at:
            self._turn(now)
        slot = self._slot
        slot.handled += 1
        slot.seconds += seconds
        slot.waited_seconds = max(slot.waited_seconds, waited_seconds)

    def reading(self, now: float) -> dict[str, Any]:
        """The last ten seconds, as JSON."""
        oldest = int(now) - SLOTS + 1
        slots = [slot for second, slot in self._slots.items() if second >= oldest]
        return {
            "window_seconds": round(max(now - max(self._began, oldest), 0.001), 3),
            "handled": sum(slot.handled for slot in slots),
            "busy_seconds": round(sum(slot.seconds for slot in slots), 6),
            "most_waited_seconds": round(max((slot.waited_seconds for slot in slots), default=0.0), 3),
        }

    def _turn(self, now: float) -> None:
        second = int(now)
        self._turns_at = second + 1
        oldest = second - SLOTS + 1
        self._slots = {number: slot for number, slot in self._slots.items() if number >= oldest}
        self._slot = self._slots[second] = _Slot()
