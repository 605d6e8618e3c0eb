"""How many servers the load asks for, by each signal there is. Pure.

Made by `runtime/signals` once a second and read by `controllers/autoscale`. A signal that adds up over servers (work in
flight, CPU, bytes, messages) says a number of servers by itself, whatever their number is now. A signal that does not
(a waiting time) can only say "one more": how many help is seen when they serve.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

MOST = 1e6
"""More servers than anybody has: figures that lie upward shall not end in an infinite number."""

CLOSE = 0.7
"""A waiting time above this share of its target keeps servers from leaving."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One tier at one moment. A figure is None when nobody said it; rates are per second since the sample before."""

    at: float
    serving: int
    """Servers that take work now."""
    lost: int = 0
    """Wanted servers that a person has cut off: they carry nothing until they are given power again."""
    arrivals: float | None = None
    """Requests that came, a second."""
    answers: float | None = None
    """Requests that were answered, or messages that were handled, a second."""
    backlog: float | None = None
    """Requests that wait at the balancers for a free place."""
    in_flight: float | None = None
    """Requests or messages that are worked on."""
    service_seconds: float | None = None
    """How long one of them is worked on, on average."""
    queue_seconds: float | None = None
    """How long requests wait before they are worked on, on average."""
    latency_seconds: float | None = None
    """What 95 % of the requests stay below."""
    cores: float | None = None
    """What all processes of the app use together."""
    bytes: float | None = None
    """In and out, a second."""
    depth: float | None = None
    """Messages that wait."""
    age_seconds: float | None = None
    """How long the oldest of them has waited."""
    database_busy: float | None = None
    """Sessions of the database that work at this moment."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What one server should carry; None: not looked at. The bounds of their number."""

    least: int
    most: int
    processes: int = 1
    """In each server."""
    concurrency: float | None = None
    cpu_share: float | None = None
    """Of a core, by each process."""
    bytes: float | None = None
    depth: float | None = None
    queue_seconds: float | None = None
    latency_seconds: float | None = None
    age_seconds: float | None = None
    scale_in_after_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Need:
    """What one signal asks for."""

    signal: str
    servers: float
    """How many servers, with a fraction."""
    text: str
    """The signal beside its target, in numbers."""
    adds_up: bool = True
    """Whether the number holds whatever the number of servers is now."""
    wait_seconds: float = 0.0
    """Of a waiting time, how long it is."""


def clean(sample: Sample) -> tuple[Sample, tuple[str, ...]]:
    """The sample without figures that cannot be (not a number, infinite, negative), and the names of these."""
    measured = [one.name for one in fields(Sample) if one.name not in ("at", "serving", "lost")]
    bad = tuple(name for name in measured if not _can_be(getattr(sample, name)))
    return replace(sample, **dict.fromkeys(bad)), bad  # type: ignore[arg-type]  # names of optional fields


def needs(sample: Sample, targets: Targets) -> tuple[Need, ...]:
    """What every signal with a target and a figure asks for."""
    found = (*_sums(sample, targets), *_waits(sample, targets))
    return tuple(replace(one, servers=min(one.servers, MOST)) for one in found)


def _can_be(value: float | None) -> bool:
    return value is None or (math.isfinite(value) and value >= 0)


def _sums(sample: Sample, targets: Targets) -> Iterator[Need]:
    work = _work(sample)
    if targets.concurrency and work is not None:
        text = f"{work:.1f} at once, target {targets.concurrency:g} a server"
        yield Need("concurrency", work / targets.concurrency, text)
    if targets.cpu_share and sample.cores is not None:
        share = sample.cores / max(1, sample.serving * targets.processes)
        text = f"CPU {share:.0%}, target {targets.cpu_share:.0%}"
        yield Need("cpu", sample.cores / (targets.cpu_share * targets.processes), text)
    if targets.bytes and sample.bytes is not None:
        text = f"{sample.bytes / 1024:,.0f} KiB/s, target {targets.bytes / 1024:,.0f} KiB/s a server"
        yield Need("network", sample.bytes / targets.bytes, text)
    if targets.depth and sample.depth is not None:
        text = f"{sample.depth:,.0f} messages wait, target {targets.depth:g} a server"
        yield Need("queue depth", sample.depth / targets.depth, text)


def _work(sample: Sample) -> float | None:
    """How much is worked on at once when nothing has to wait: what comes, times how long it takes (Little's law).

    What waits already is not counted: servers for it would be too many once it is worked off, which the room that
    targets leave is for.
    """
    if sample.arrivals is None or sample.service_seconds is None:
        return 0.0 if sample.arrivals == 0 and not sample.in_flight else sample.in_flight
    return sample.arrivals * sample.service_seconds


def _waits(sample: Sample, targets: Targets) -> Iterator[Need]:
    """Each by its name in sentences, its figure and its target."""
    found = (
        ("queue time", "queue time", sample.queue_seconds, targets.queue_seconds, _for_queue),
        ("latency", "p95", sample.latency_seconds, targets.latency_seconds, _one_more),
        ("queue age", "oldest message", sample.age_seconds, targets.age_seconds, _one_more),
    )
    for signal, name, value, target, servers in found:
        if value is not None and target:
            side = "over" if value > target else "within"
            text = f"{name} {_seconds(value)} {side} target {_seconds(target)}"
            yield Need(signal, servers(sample, value, target), text, adds_up=False, wait_seconds=value)


def _for_queue(sample: Sample, value: float, target: float) -> float:
    """While more comes than is answered: as many servers as answer all of it. While a queue drains: those there are."""
    if value > target and sample.backlog and sample.answers and sample.arrivals is not None:
        return sample.serving * max(1.0, sample.arrivals / sample.answers)
    return _one_more(sample, value, target)


def _one_more(sample: Sample, value: float, target: float) -> float:
    if value > target:
        return float(sample.serving + 1)
    return float(sample.serving) if value > CLOSE * target else 0.0


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
