"""What the local cache counts of itself, on ways too hot for `counters.add`. Read by `/-/load` through `counters`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Tally:
    """Since the process began. Each hit of the process's own cache raises one of these by one."""

    local_hits: int = 0
    misses: int = 0
    """Reads that found nothing they could use in this process."""
    shared_used: int = 0
    """Of these, how many found it in the cache's servers."""
    stale_served: int = 0
    """Hits of expired values, served while they were loaded anew or because that failed."""
    refused_by_floor: int = 0
    behind_session: int = 0
    """Values that were older than what the reader had written."""
    untrusted: int = 0
    """Values that could not be judged, because what is stale was not known."""
    loads: int = 0
    loads_failed: int = 0
    loads_not_kept: int = 0
    """Loads whose value was stale, too large, or made of too many others, when it came."""
    refreshes: int = 0
    """Loads that nobody waited for."""
    unreadable: int = 0
    """Entries of the cache's servers that this release cannot read."""

    def counts(self) -> Mapping[str, int]:
        """By the names that `counters` knows them by."""
        return {f"cache.{name}": count for name, count in asdict(self).items()}
