"""The ladder: twelve named topologies, each adding one thing that answers one pain.

Called by `tenfold grow`, `shrink`, `plan --to` and `status`. Pure: it says which lines of the file should change
(`edits`), and `edit` changes them. A topology need not be a rung: the file is free-form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tenfold import errors
from tenfold.topology import edit, following, nearest, spreading, tiers


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung. `is_there` asks for what this rung itself adds, since any rung below may have been skipped."""

    number: int
    name: str
    adds: str
    pain: str
    is_there: Callable[[tiers.Topology], bool] | None = None
    """None: this version cannot build it yet."""

    @property
    def is_built(self) -> bool:
        """Whether this version can climb to it."""
        return self.is_there is not None


@dataclass(frozen=True, slots=True)
class Road:
    """The rungs to take one after the other, and a line for each one that is left out."""

    rungs: tuple[Rung, ...]
    notes: tuple[str, ...] = ()


def _is_balanced(topology: tiers.Topology) -> bool:
    return topology.balancer is not None and topology.balancer.servers >= 2 and topology.web.count >= 2


def _is_stateless(topology: tiers.Topology) -> bool:
    stores = ("token", "database") if topology.has_regions else ("cache", "token")
    return topology.sessions.store in stores and not topology.is_sticky


def _is_autoscaled(topology: tiers.Topology) -> bool:
    return topology.web.bounds is not None


def _is_queued(topology: tiers.Topology) -> bool:
    return topology.queue is not None and topology.queue.servers >= 3 and topology.workers is not None


RUNGS = (
    Rung(1, "single", "one server: front door, web, PostgreSQL", "the start", lambda topology: True),
    Rung(
        2,
        "database",
        "the database moves to its own server, live",
        "web and data scale apart",
        lambda topology: topology.has_own_database,
    ),
    Rung(
        3,
        "balanced",
        "two balancers on the public address, two or more web servers on private ones",
        "one web server is a single point of failure",
        _is_balanced,
    ),
    Rung(
        4,
        "replicated",
        "a primary and two replicas under Patroni: reads spread, automatic failover",
        "the database is a single point of failure; reads outgrow it",
        lambda topology: topology.database.replicas >= 2,
    ),
    Rung(
        5,
        "cached",
        "a Valkey cluster, and a cache in each process before it",
        "the same rows are read again and again",
        lambda topology: topology.cache is not None and topology.cache.servers >= 3,
    ),
    Rung(
        6,
        "cdn",
        "edges that serve static files and cacheable answers",
        "bytes travel far; the origin works for nothing",
        lambda topology: topology.edge_servers >= 2,
    ),
    Rung(
        7,
        "stateless",
        "sessions in the shared store, no stickiness",
        "a web server's death logs people out",
        _is_stateless,
    ),
    Rung(
        8,
        "autoscaled",
        "web servers follow the load",
        "idle money, or not enough servers",
        _is_autoscaled,
    ),
    Rung(
        9,
        "regions",
        "two or more data centers, geo-DNS, failover between them",
        "a data center dies; users are far",
        lambda topology: topology.has_regions,
    ),
    Rung(10, "queued", "NATS JetStream and worker servers", "slow work inside requests; spikes", _is_queued),
    Rung(11, "observed", "metrics, logs, traces, alerts, rolling deploys, backups", "flying blind"),
    Rung(12, "sharded", "the keyspace over two or more primaries", "one primary cannot take the writes"),
)


def named(name: str) -> Rung:
    """The rung of this name. Raises BadInput."""
    found = next((rung for rung in RUNGS if rung.name == name), None)
    if found is None:
        names = [rung.name for rung in RUNGS]
        raise errors.BadInput(f"rung {name!r}: not found; the rungs are {', '.join(names)}{nearest.hint(name, names)}")
    return found


def rung_of(topology: tiers.Topology) -> Rung:
    """The highest rung whose tiers are there."""
    return next(rung for rung in reversed(RUNGS) if _is_there(rung, topology))


def next_rung(topology: tiers.Topology, skipped: Sequence[Rung] = ()) -> Rung | None:
    """The lowest rung above the topology's that this version can build, or None."""
    above = (rung for rung in RUNGS if rung.number > rung_of(topology).number)
    return next((rung for rung in above if rung.is_built and rung not in skipped), None)


def climb(topology: tiers.Topology, to: Rung | None = None, skipped: Sequence[Rung] = ()) -> Road:
    """The rungs still missing up to `to` (default: the next one), lowest first."""
    target = to or next_rung(topology, skipped) or RUNGS[-1]
    lowest = 1 if to else rung_of(topology).number + 1
    missing = [rung for rung in RUNGS[lowest - 1 : target.number] if not _is_there(rung, topology)]
    notes = [f"{rung.name} (rung {rung.number}) is not built yet: skipped" for rung in missing if not rung.is_built]
    notes += [f"{rung.name} (rung {rung.number}) is left out, as asked" for rung in missing if rung in skipped]
    return Road(tuple(rung for rung in missing if rung.is_built and rung not in skipped), tuple(notes))


def descend(topology: tiers.Topology, to: Rung | None = None) -> Road:
    """The rungs to step down on until `to` (default: the one below), highest first."""
    current = rung_of(topology)
    below = [rung for rung in reversed(RUNGS) if rung.number < current.number and _is_there(rung, topology)]
    if to is None:
        return Road(tuple(below[:1]))
    notes = () if _is_there(to, topology) or to.number >= current.number else (f"{to.name} was skipped on the way up",)
    return Road(tuple(rung for rung in below if rung.number >= to.number), notes)


def edits(topology: tiers.Topology, to: Rung, skipped: Sequence[Rung] = ()) -> tuple[edit.Change, ...]:
    """What to change in the file so that the service stands on `to`: up with what is missing below it, or down.

    Raises BadInput when a rung cannot be left because of something the ladder did not add.
    """
    if _is_there(to, topology):
        above = [rung for rung in reversed(RUNGS) if rung.number > to.number]
        changes = [change for rung in above for change in _leave(rung, topology)]
        return tuple(_keep_placement(topology, to, changes))
    road = climb(topology, to, skipped)
    has_cache = topology.cache_servers > 0 or named("cached") in road.rungs
    is_shared = has_cache and not (topology.has_regions or named("regions") in road.rungs)
    has_balancers = topology.balancer is not None or named("balanced") in road.rungs
    entered = (_enter(rung, topology, shared_cache=is_shared, has_balancers=has_balancers) for rung in road.rungs)
    return tuple(change for made in entered for change in made)


def _is_there(rung: Rung, topology: tiers.Topology) -> bool:
    return rung.is_there is not None and rung.is_there(topology)


def _enter(rung: Rung, topology: tiers.Topology, *, shared_cache: bool, has_balancers: bool) -> list[edit.Change]:
    """`shared_cache`: whether all web servers will have the same cache servers."""
    match rung.name:
        case "database":
            return [edit.Change(("database", "placement"), "own")]
        case "balanced":
            balancers = max(2, topology.balancer.servers if topology.balancer else 0)
            web_servers = max(2, topology.web.count)
            return [edit.Change(("balancer", "servers"), balancers), edit.Change(("web", "servers"), web_servers)]
        case "replicated":
            replicas = max(2, topology.database.replicas)
            changes = [edit.Change(("database", "replicas"), replicas), edit.Change(("database", "synchronous"), True)]
            shared = topology.database.placement == "shared"
            return [edit.Change(("database", "placement"), "own"), *changes] if shared else changes
        case "cached":
            return [edit.Change(("cache", "servers"), max(3, topology.cache.servers if topology.cache else 0))]
        case "cdn":
            return [edit.Change(("cdn", "edges"), max(2, topology.edge_servers))]
        case "stateless":
            return _enter_stateless(topology, shared_cache=shared_cache)
        case "regions":
            return spreading.enter(topology, has_balancers=has_balancers)
        case "autoscaled":
            return following.enter(topology)
        case "queued":
            queues = max(3, topology.queue.servers if topology.queue else 0)
            workers = max(2, topology.workers.count if topology.workers else 0)
            return [edit.Change(("queue", "servers"), queues), edit.Change(("workers", "servers"), workers)]
    return []


def _enter_stateless(topology: tiers.Topology, *, shared_cache: bool) -> list[edit.Change]:
    kept = topology.sessions.store if topology.sessions.store == "token" else ""
    store = edit.Change(("sessions", "store"), kept or ("cache" if shared_cache else "token"))
    is_sticky = topology.balancer is not None and topology.balancer.sticky
    return [store, edit.Change(("balancer", "sticky"), False)] if is_sticky else [store]


def _leave(rung: Rung, topology: tiers.Topology) -> list[edit.Change]:
    match rung.name:
        case "regions" if topology.has_regions:
            return spreading.leave(topology)
        case "queued":
            present = (("queue", topology.queue), ("workers", topology.workers))
            return [edit.Change((name,), None) for name, section in present if section is not None]
        case "autoscaled":
            return following.leave(topology)
        case "stateless" if topology.sessions.store != "database":
            is_alone = topology.sessions.model_fields_set == {"store"}
            return [edit.Change(("sessions",) if is_alone else ("sessions", "store"), None)]
        case "cdn" if topology.cdn is not None:
            is_alone = topology.cdn.model_fields_set <= {"edges"}
            return [edit.Change(("cdn",), None) if is_alone else edit.Change(("cdn", "edges"), 0)]
        case "cached" if topology.cache is not None:
            is_local = topology.cache.model_fields_set & {"local_memory_bytes", "local_entries", "local_eviction"}
            return [edit.Change(("cache", "servers"), 0) if is_local else edit.Change(("cache",), None)]
        case "replicated" if topology.database.replicas:
            return [edit.Change(("database", "replicas"), None), edit.Change(("database", "synchronous"), None)]
        case "balanced" if topology.balancer is not None:
            _ensure_groups_can_go(topology)
            return [edit.Change(("balancer",), None), edit.Change(("web", "servers"), 1)]
        case "database" if topology.database.placement == "own":
            return [edit.Change(("database", "placement"), None)]
    return []


def _ensure_groups_can_go(topology: tiers.Topology) -> None:
    if topology.web_groups:
        names = ", ".join(f"[web_groups.{name}]" for name in topology.web_groups)
        raise errors.BadInput(
            f"{names}: found, and below rung 3 there is no balancer to route to them; "
            "remove them and their routes from the file first"
        )


def _keep_placement(topology: tiers.Topology, to: Rung, changes: list[edit.Change]) -> list[edit.Change]:
    """A server of its own that only balancers or replicas implied is written down before they go."""
    implied = topology.has_own_database and topology.database.placement is None
    stays = to.number >= 2 and any(change.path[0] in ("balancer", "database") for change in changes)
    return [*changes, edit.Change(("database", "placement"), "own")] if implied and stays else changes
