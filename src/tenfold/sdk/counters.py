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
    """Counts that a hot path keeps by itself: `read` is asked when somebody looks. Returns how to take it back.

    What it has counted before counts no more: it was added when it was taken back.
    """
    before = Counter(read())

    def since() -> Mapping[str, int]:
        return {name: count - before[name] for name, count in read().items()}

    _sources.append(since)

    def take_back() -> None:
        if since in _sources:
            _sources.remove(since)
            _counts.update(since())

    return take_back


def reading() -> dict[str, int]:
    """All counts since the process began, by name."""
    total = Counter(_counts)
    for read in _sources:
        total.update(read())
    return dict(sorted(total.items()))
