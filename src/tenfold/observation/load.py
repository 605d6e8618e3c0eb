"""What web servers and the front door carry: figures of one moment, merged from many processes. Pure.

Made by `runtime/traffic` from what engines say; read by `tenfold status`, and by whoever decides how many servers are
needed. Rates are per second over the last ten seconds; latencies are those of the web tier, from a request's arrival
there until its response begins; percentiles are at most 9 % above the truth.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Latencies = Mapping[float, int]
"""How many requests took at most so many seconds and more than the next smaller bound."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One web process, as it said at `/-/load`; sums are over `window_seconds`."""

    pid: int
    window_seconds: float
    in_flight: int
    waiting_for_primary: int
    streams: int
    max_requests: int
    requests: int
    answers_4xx: int
    answers_5xx: int
    shed: int
    busy_seconds: float
    queued_seconds: float
    latencies: Latencies
    ever: "Ever"
    queue: Mapping[str, Any]
    """What it does for the queue."""
    at_door: int
    """Requests that wait for a place in it."""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Worker":
        """From the JSON that it answered. Raises KeyError, TypeError or ValueError when it is of another form."""
        own = ("latencies", "ever", "queue", "at_door")
        counts = {name: _figure(told[name]) for name in cls.__dataclass_fields__ if name not in own}
        latencies = {float(bound): int(count) for bound, count in told["latencies"]}
        ever = Ever(**{name: _figure(one) for name, one in told.get("ever", {}).items()})  # earlier code did not say
        queue, at_door = dict(told.get("queue", {})), int(told.get("at_door", 0))
        return cls(**counts, latencies=latencies, ever=ever, queue=queue, at_door=at_door)


def _figure(said: Any) -> Any:
    """A count or a time as it was said; ValueError for what cannot be one: nobody is to add that up."""
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said < math.inf:
        raise ValueError(f"{said!r} found, a number of 0 or more expected")
    return said


@dataclass(frozen=True, slots=True)
class Ever:
    """What one process has answered since it began; what it shed is left out."""

    requests: int = 0
    busy_seconds: float = 0.0
    queued_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class WebLoad:
    """What one web server, or all of them, carry."""

    requests_per_second: float
    answers_4xx_per_second: float
    answers_5xx_per_second: float
    shed_per_second: float
    """Requests refused with 503 because a process was full; among the 5xx."""
    p50_milliseconds: float | None
    """None while there are no requests."""
    p95_milliseconds: float | None
    p99_milliseconds: float | None
    queue_milliseconds: float
    """From the balancer to the web server, the average: queues, and requests held back."""
    concurrency: float
    """Requests worked on at once, the average."""
    in_flight: int
    """Requests worked on at this moment."""
    waiting_for_primary: int
    """Of these, the ones that wait for a database primary."""
    streams: int
    """Open streams and WebSockets; they are not in flight."""
    max_requests: int
    """How many the processes that were heard work on at most."""
    workers: int
    """Web processes there should be."""
    workers_heard: int
    """Of these, the ones whose figures are in here."""


@dataclass(frozen=True, slots=True)
class DoorLoad:
    """What one balancer, or all of them, carry. A rate is None until there are two looks to compare."""

    requests_per_second: float
    answers_5xx_per_second: float | None
    """As clients saw them."""
    errors_per_second: float | None
    """Connections to web servers that failed or broke off; most are repeated on another one, unseen by clients."""
    retries_per_second: float | None
    open_connections: int
    """Of clients."""
    queued: int
    """Requests that wait for a free place on a web server."""
    held: int
    """Requests that wait because no web server is usable."""
    refused_per_second: float | None = None
    """For want of capacity, with 503 and Retry-After: among the 5xx, and no failures."""


def web(workers: Iterable[Worker], expected: int) -> WebLoad:
    """The load of these processes together, of `expected` that there should be."""
    heard = tuple(workers)
    latencies = Counter[float]()
    for one in heard:
        latencies.update(one.latencies)
    requests = sum(one.requests for one in heard)
    return WebLoad(
        requests_per_second=_rate(heard, "requests"),
        answers_4xx_per_second=_rate(heard, "answers_4xx"),
        answers_5xx_per_second=_rate(heard, "answers_5xx"),
        shed_per_second=_rate(heard, "shed"),
        p50_milliseconds=percentile(latencies, 0.50),
        p95_milliseconds=percentile(latencies, 0.95),
        p99_milliseconds=percentile(latencies, 0.99),
        queue_milliseconds=round(1000 * sum(one.queued_seconds for one in heard) / max(1, requests), 2),
        concurrency=_rate(heard, "busy_seconds"),
        in_flight=sum(one.in_flight for one in heard),
        waiting_for_primary=sum(one.waiting_for_primary for one in heard),
        streams=sum(one.streams for one in heard),
        max_requests=sum(one.max_requests for one in heard),
        workers=expected,
        workers_heard=len(heard),
    )


def doors(loads: Iterable[DoorLoad]) -> DoorLoad:
    """All balancers together."""
    each = tuple(loads)
    return DoorLoad(
        requests_per_second=round(sum(one.requests_per_second for one in each), 2),
        answers_5xx_per_second=_sum(one.answers_5xx_per_second for one in each),
        errors_per_second=_sum(one.errors_per_second for one in each),
        retries_per_second=_sum(one.retries_per_second for one in each),
        open_connections=sum(one.open_connections for one in each),
        queued=sum(one.queued for one in each),
        held=sum(one.held for one in each),
        refused_per_second=_sum(one.refused_per_second for one in each),
    )


def percentile(latencies: Latencies, share: float) -> float | None:
    """In milliseconds, the bound that this share of the requests keeps; None when there are none."""
    total = sum(latencies.values())
    seen = 0
    for bound in sorted(latencies):
        seen += latencies[bound]
        if seen >= share * total:
            return round(bound * 1000, 2)
    return None


def _rate(workers: Iterable[Worker], name: str) -> float:
    return round(sum(float(getattr(one, name)) / one.window_seconds for one in workers), 3)


def _sum(rates: Iterable[float | None]) -> float | None:
    known = [one for one in rates if one is not None]
    return round(sum(known), 3) if known else None
