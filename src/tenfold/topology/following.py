"""What the rung `autoscaled` writes into the file, and takes out again: ranges in the place of numbers of servers.

Called by `rungs`, and by the runtime when a topology begins or ceases to follow the load. Pure.
"""

from collections.abc import Mapping

from tenfold.topology import edit, tiers, validate

MOST_TIMES = 4
"""How many times the servers that are there a range may reach at most, when the ladder writes it."""

REGIONS_TO_COME, WORKERS_TO_COME = 2, 2
"""What rungs above add; their processes need connections to the database as well."""


def enter(topology: tiers.Topology) -> list[edit.Change]:
    """Web servers follow the load: from as many as there are to as many as the database has connections for."""
    return [edit.Change(("web", "servers"), _bounds(topology))]


def leave(topology: tiers.Topology) -> list[edit.Change]:
    """Every range becomes the number that it has now."""
    scaled = topology.scaled
    return [edit.Change((*path.split(".", 1), "servers"), scaled[path].count) for path in topology.bounds]


def counts(topology: tiers.Topology, former: tiers.Topology | None, decided: Mapping[str, int]) -> dict[str, int]:
    """The numbers of servers to begin with: those decided; what was a plain number until now goes on from there."""
    begun = {path: former.scaled[path].count for path in _new_ranges(topology, former)} if former else {}
    return {**decided, **begun}


def _new_ranges(topology: tiers.Topology, former: tiers.Topology) -> list[str]:
    return [path for path in topology.bounds if path not in former.bounds and path in former.scaled]


def _bounds(topology: tiers.Topology) -> dict[str, int]:
    web, database, workers = topology.web, topology.database, topology.workers
    count = max(2, web.count)
    processes = (database.max_connections - validate.SPARE_CONNECTIONS) // (database.pool_size + validate.BESIDE_POOL)
    processes -= max(WORKERS_TO_COME, workers.most * workers.processes if workers else 0)
    groups = sum(group.most * group.workers_per_server for group in topology.web_groups.values())
    room = processes // max(REGIONS_TO_COME, len(topology.regions)) - groups
    return {"min": count, "max": max(count + 1, min(MOST_TIMES * count, room // web.workers_per_server))}
