"""What a run has seen so far, in figures. Fed with the ledger's records, by `load` while it runs.

Pure: no clock, no I/O. Latencies count from the intended time, failed requests included.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hdrh.histogram import HdrHistogram

from tenfold.traffic import ledger

LONGEST_SECONDS = 3600
MOST_NAMES = 100
MOST_EXAMPLES = 3
MOST_RECENT = 100_000
"""Latencies kept for the next interval, in case nobody ever takes one."""

OTHER_NAMES = "(other names)"
"""Where requests are counted once there are `MOST_NAMES`: a name with an id in it must not eat the memory."""


class Latencies:
    """A histogram of seconds, exact to three digits (HDR: microseconds to an hour)."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, LONGEST_SECONDS * 1_000_000, 3)
        self.longest_seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._histogram.record_value(min(max(1, round(seconds * 1e6)), LONGEST_SECONDS * 1_000_000))
        self.longest_seconds = max(self.longest_seconds, seconds)

    @property
    def count(self) -> int:
        """How many were counted."""
        return int(self._histogram.get_total_count())

    def percentile(self, percent: float) -> float:
        """Seconds within which `percent` of 100 were answered; 0 without any."""
        return float(self._histogram.get_value_at_percentile(percent)) / 1e6 if self.count else 0.0

    def to_dict(self) -> dict[str, float]:
        """The figures that are printed, in seconds."""
        figures = {f"p{percent:g}": self.percentile(percent) for percent in (50, 90, 99, 99.9)}
        return {"count": self.count, **figures, "max": round(self.longest_seconds, 6)}


@dataclass(slots=True)
class Tally:
    """How often one reason occurred, and the first few examples."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Interval:
    """What happened since the last interval was taken."""

    requests: int
    failed: int
    repeated: int
    p50_seconds: float
    p99_seconds: float


class Report:
    """The figures of one run."""

    def __init__(self) -> None:
        self.requests = 0
        self.failed = 0
        """Failed requests, wrong answers, journeys that raised, and requests that were never sent."""
        self.repeated = 0
        """Requests that were sent a second time and then counted like any other."""
        self.refused = 0
        """Requests that the service refused for want of capacity, with 503 and when to come back; not failed."""
        self.interrupted = 0
        """Requests that a person's stop cut short or left unsent; not failed."""
        self.writes_acknowledged = 0
        self.own_reads = 0
        self.stale_reads = 0
        self.total = Latencies()
        self.by_name: dict[str, Latencies] = {}
        self.by_region: dict[str, Latencies] = {}
        """What was sent to each region, where name servers chose it."""
        self.failures: dict[str, Tally] = {}
        self.slowest: ledger.Request | None = None
        """The longest single wait."""
        self.longest_write_gap_seconds = 0.0
        """The longest time between two acknowledged writes (by when they were answered)."""
        self.seconds = 0.0
        """How long the run took, its last answers included; 0 while it runs."""
        self.late_seconds = 0.0
        """How late the load generator itself was at worst, because its machine was busy; part of the latencies."""
        self._last_write_at: float | None = None
        self._recent: deque[float] = deque(maxlen=MOST_RECENT)
        self._recent_counts: Counter[str] = Counter()

    @property
    def is_clean(self) -> bool:
        """Nothing failed and no session missed its own write."""
        return self.failed == 0 and self.stale_reads == 0

    def add(self, record: ledger.Record) -> None:
        """Count one record."""
        match record:
            case ledger.Request():
                self._add_request(record)
            case ledger.OwnRead():
                self.own_reads += 1
                self.stale_reads += not record.is_seen
            case ledger.Trouble(reason="interrupted"):
                self.interrupted += record.count
            case ledger.Trouble():
                where = f"{record.journey or 'load'}: {record.detail}"
                self._add_failure(record.reason, where, record.trace, record.count)
            case _:
                pass

    def take_interval(self) -> Interval:
        """The figures since the last call."""
        taken = sorted(self._recent)
        counts, self._recent_counts = self._recent_counts, Counter()
        self._recent.clear()
        rank = len(taken) - 1
        return Interval(
            requests=counts["requests"],
            failed=counts["failed"],
            repeated=counts["repeated"],
            p50_seconds=taken[round(rank * 0.50)] if taken else 0.0,
            p99_seconds=taken[round(rank * 0.99)] if taken else 0.0,
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON-able values; the names are stable."""
        return {
            "requests": self.requests,
            "failed": self.failed,
            "repeated": self.repeated,
            "refused": self.refused,
            "interrupted": self.interrupted,
            "seconds": round(self.seconds, 3),
            "writes_acknowledged": self.writes_acknowledged,
            "own_reads": self.own_reads,
            "stale_reads": self.stale_reads,
            "longest_write_gap_seconds": round(self.longest_write_gap_seconds, 6),
            "late_seconds": round(self.late_seconds, 6),
            "latency_seconds": self.total.to_dict(),
            "by_name": {name: latencies.to_dict() for name, latencies in sorted(self.by_name.items())},
            "by_region": {name: latencies.to_dict() for name, latencies in sorted(self.by_region.items())},
            "failures": _tallies(self.failures),
            "slowest": _slowest(self.slowest),
        }

    def _add_request(self, record: ledger.Request) -> None:
        if record.reason == "interrupted":
            self.interrupted += 1
            return
        self.requests += 1
        self.repeated += record.repeats > 0
        self._recent_counts["repeated"] += record.repeats > 0
        self.refused += record.reason == ledger.OVERLOADED
        self._add_latency(record)
        if record.is_acknowledged and record.kind:
            self._add_write(record.intended + record.latency)
        if record.is_failed:
            reason = f"status {record.status}" if record.reason == "status" else record.reason
            where = f"{record.name} ({record.method} {record.path}) at {record.intended:.3f} s: {record.detail}"
            self._add_failure(reason, where, record.trace, 1)

    def _add_latency(self, record: ledger.Request) -> None:
        self.total.add(record.latency)
        known = record.name in self.by_name or len(self.by_name) < MOST_NAMES
        self.by_name.setdefault(record.name if known else OTHER_NAMES, Latencies()).add(record.latency)
        if record.region:
            self.by_region.setdefault(record.region, Latencies()).add(record.latency)
        self._recent.append(record.latency)
        self._recent_counts["requests"] += 1
        if self.slowest is None or record.latency > self.slowest.latency:
            self.slowest = record

    def _add_write(self, at: float) -> None:
        self.writes_acknowledged += 1
        if self._last_write_at is not None:
            self.longest_write_gap_seconds = max(self.longest_write_gap_seconds, at - self._last_write_at)
        self._last_write_at = at

    def _add_failure(self, reason: str, where: str, trace: str, count: int) -> None:
        self.failed += count
        self._recent_counts["failed"] += count
        tally = self.failures.setdefault(reason, Tally())
        tally.count += count
        if len(tally.examples) < MOST_EXAMPLES:
            tally.examples.append(f"{where} [trace {trace}]" if trace else where)


def _tallies(failures: Mapping[str, Tally]) -> dict[str, Any]:
    return {reason: {"count": one.count, "examples": one.examples} for reason, one in sorted(failures.items())}


def _slowest(record: ledger.Request | None) -> dict[str, Any] | None:
    if record is None:
        return None
    return {
        "name": record.name,
        "seconds": record.latency,
        "at_seconds": record.intended,
        "status": record.status,
        "trace": record.trace,
    }
