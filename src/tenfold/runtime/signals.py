"""Turns what balancers, app processes, the kernel and the queues say into samples that `controllers/autoscale` reads.

Owned by `runtime/autoscaling`, which asks for a sample of each tier about once a second. Rates are between two samples.
Who does not answer is left out, never guessed. Decides nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tenfold.kit import process
from tenfold.observation import demand, load
from tenfold.runtime import backlog, records, seats, traffic
from tenfold.topology import layout, tiers

FRESH_SECONDS = 3.0
"""A process that was not heard for longer is not taken for one that works."""

CONCURRENCY_SHARE = 0.7
"""The share of `web.max_requests` that a server should carry when `[autoscale]` names no concurrency."""


@dataclass(frozen=True, slots=True)
class _Count:
    """Counters of one tier's balancers and processes, added up over those that are the same as before."""

    at: float
    doors: Mapping[str, tuple[int, int]]
    """By balancer: requests that came, bytes."""
    processes: Mapping[tuple[str, int, int], tuple[float, load.Ever]]
    """By process of the app: when it said what."""
    ticks: Mapping[int, float]
    """By process id, the processor time that was used."""


class Signals:
    """Remembers the counters of the sample before."""

    def __init__(self) -> None:
        self._before: dict[str, _Count] = {}

    def sample(
        self, tier: str, places: seats.Seats, said: traffic.Said, waiting: backlog.Seen | None
    ) -> demand.Sample | None:
        """What there is to say of this tier now; None for the first time, and while nobody says anything."""
        servers = [one for one in _wanted(tier, places) if one.name in places.store.records.servers]
        known = {one.name: places.store.records.servers[one.name] for one in servers}
        words = {
            key: (at, word)
            for key, (at, word) in said.words.items()
            if key[0] in known and said.at - at < FRESH_SECONDS
        }
        now = _counted(tier, said, words, known.values())
        before = self._before.get(tier)
        self._before[tier] = now
        if before is None or now.at <= before.at:
            return None
        serving = {key[0] for key in words} & _routed(tier, said)
        lost = sum(record.power == "killed" for record in known.values())
        each = [word for _, word in words.values()]
        of_tier = _of_workers(each, waiting) if tier == "workers" else _of_web(tier, said, each, now, before)
        return demand.Sample(
            at=now.at,
            serving=len(serving),
            lost=lost,
            cores=_cores(now, before),
            database_busy=waiting.active if waiting else None,
            **of_tier,
        )


def targets(tier: str, topology: tiers.Topology) -> demand.Targets:
    """What one server of the tier should carry. The tier has a range."""
    rules, bounds, section = topology.autoscale, topology.bounds[tier], topology.scaled[tier]
    cpu_share = rules.cpu_percent / 100 if rules.cpu_percent else None
    if isinstance(section, tiers.Workers):
        return demand.Targets(
            least=bounds.min,
            most=bounds.max,
            processes=section.processes,
            cpu_share=cpu_share,
            depth=rules.queue_depth,
            age_seconds=rules.queue_age_seconds,
            scale_in_after_seconds=rules.scale_in_after_seconds,
        )
    processes = section.workers_per_server if isinstance(section, tiers.Web | tiers.WebGroup) else 1
    return demand.Targets(
        least=bounds.min,
        most=bounds.max,
        processes=processes,
        concurrency=rules.concurrency or CONCURRENCY_SHARE * topology.web.max_requests,
        cpu_share=cpu_share,
        bytes=rules.network_bytes,
        queue_seconds=rules.queue_time_seconds,
        latency_seconds=rules.latency_seconds,
        scale_in_after_seconds=rules.scale_in_after_seconds,
    )


def _wanted(tier: str, places: seats.Seats) -> tuple[layout.Server, ...]:
    return places.wanted.running("worker") if tier == "workers" else places.wanted.web(_group(tier))


def _group(tier: str) -> str:
    """The balancers' name of a tier of web servers."""
    return layout.DEFAULT_GROUP if tier == "web" else tier.removeprefix("web_groups.")


def _routed(tier: str, said: traffic.Said) -> set[str]:
    """The servers that every balancer that answers gives requests to; workers need none."""
    if tier == "workers":
        return {key[0] for key in said.words}
    each = [{name for group, name in door.servers if group == _group(tier)} for door in said.doors.values()]
    return set.intersection(*each) if each else set()


def _counted(
    tier: str,
    said: traffic.Said,
    words: Mapping[tuple[str, int, int], tuple[float, load.Worker]],
    servers: Iterable[records.ServerRecord],
) -> _Count:
    doors = {name: door.groups.get(_group(tier)) for name, door in said.doors.items()}
    mains = [
        one.identity.pid
        for server in servers
        for one in server.processes.values()
        if one.engine in layout.APP_ENGINES and one.identity is not None and one.was_ready
    ]
    return _Count(
        at=said.at,
        doors={name: (found.arrivals, found.bytes) for name, found in doors.items() if found},
        processes={key: (at, word.ever) for key, (at, word) in words.items()},
        ticks={pid: process.cpu_seconds(pid) for main in mains for pid in (main, *process.descendants(main))},
    )


def _of_web(
    tier: str, said: traffic.Said, each: list[load.Worker], now: _Count, before: _Count
) -> dict[str, float | None]:
    seconds = now.at - before.at
    groups = [found for door in said.doors.values() if (found := door.groups.get(_group(tier)))]
    came = [(now.doors[name], before.doors[name]) for name in now.doors if name in before.doors]
    changed = [(new, before.processes[key]) for key, new in now.processes.items() if key in before.processes]
    fresh = [(new, old) for new, old in changed if new[0] > old[0]]
    answers = sum(max(0, new[1].requests - old[1].requests) / (new[0] - old[0]) for new, old in fresh)
    answered = sum(new[1].requests - old[1].requests for new, old in fresh)
    queued = sum(new[1].queued_seconds - old[1].queued_seconds for new, old in fresh)
    worked = sum(one.requests - one.shed for one in each)
    tier_load = load.web(each, len(each))
    backlog_now = sum(found.queued for found in groups) + sum(one.at_door for one in each)
    return {
        "arrivals": sum(max(0, new[0] - old[0]) for new, old in came) / seconds if came else None,
        "bytes": sum(max(0, new[1] - old[1]) for new, old in came) / seconds if came else None,
        "answers": answers if fresh else None,
        "backlog": backlog_now if groups or each else None,
        "in_flight": tier_load.in_flight if each else None,
        "service_seconds": sum(one.busy_seconds for one in each) / worked if worked else None,
        "queue_seconds": max(queued / answered, backlog_now / answers if answers else 0.0) if answered > 0 else None,
        "latency_seconds": tier_load.p95_milliseconds / 1000 if tier_load.p95_milliseconds is not None else None,
    }


def _of_workers(each: list[load.Worker], waiting: backlog.Seen | None) -> dict[str, float | None]:
    handled = [float(one.queue["handled"]) / one.queue["window_seconds"] for one in each if "handled" in one.queue]
    return {
        "answers": sum(handled) if handled else None,
        "in_flight": sum(float(one.queue.get("in_flight", 0)) for one in each) if each else None,
        "depth": waiting.waiting if waiting else None,
        "age_seconds": _age(each, waiting),
    }


def _age(each: list[load.Worker], waiting: backlog.Seen | None) -> float | None:
    """How long the oldest message waits: by the database, and by those that were begun, while others wait still."""
    if waiting is None:
        return None
    begun = [float(one.queue.get("most_waited_seconds", 0.0)) for one in each]
    return max([waiting.oldest_seconds, *begun]) if waiting.waiting else 0.0


def _cores(now: _Count, before: _Count) -> float | None:
    used = [now.ticks[pid] - before.ticks[pid] for pid in now.ticks if pid in before.ticks]
    return sum(max(0.0, one) for one in used) / (now.at - before.at) if used else None
