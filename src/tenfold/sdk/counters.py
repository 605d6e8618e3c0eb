"""What one process counts of what goes on inside it: cache hits, messages handled, sessions refused.

Fed by every part of the SDK, read by `/-/load` and by tests. Process-wide: two `Tenfold`s of one process add up.
It never decides anything. Names are dotted, the part first: `cache.local_hits`, `queue.dead_letters`.
"""

from collections import Counter
from collections.abc import Callable, Mapping

_counts: Counter[str] = Counter()
_sources: list[Callable[[], Mapping[str, int]]] = []


def add(name: str, by: int = 1) -> None:
    """Count something that happened `by` times."""
    _counts[name] += by


def source(read: Callable[[], Mapping[str, int]]) -> Callable[[], None]:
    """Counts that a hot path keeps by itself: `read` is asked when somebody looks. Returns how to take it back."""
    _sources.append(read)

    def take_back() -> None:
        if read in _sources:
            _sources.remove(read)
            _counts.update(read())

    return take_back


def reading() -> dict[str, int]:
    """All counts since the process began, by name."""
    total = Counter(_counts)
    for read in _sources:
        total.update(read())
    return dict(sorted(total.items()))
