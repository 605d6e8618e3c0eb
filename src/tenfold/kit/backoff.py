"""How long to wait before the next try: exponential, bounded, with full jitter.

Source: M. Brooker, "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015). Pure but for the random source.
"""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits grow from `first_seconds` by `factor` up to `most_seconds`."""

    first_seconds: float = 0.1
    most_seconds: float = 30.0
    factor: float = 2.0

    def ceiling(self, tries: int) -> float:
        """The longest wait after `tries` failures (1 for the first)."""
        return float(min(self.most_seconds, self.first_seconds * self.factor ** min(max(tries, 1) - 1, 64)))

    def seconds(self, tries: int) -> float:
        """A wait after `tries` failures: at least half the ceiling, so that restarts never spin."""
        ceiling = self.ceiling(tries)
        return ceiling / 2 + random.uniform(0, ceiling / 2)  # noqa: S311 - spreads load, guards nothing
