"""The rules of `[regions]` and `[wan]`, beside those of `validate`, which calls them. Pure."""

import itertools
from collections import Counter
from collections.abc import Iterator

from tenfold.errors import Problem
from tenfold.topology import layout, nearest, problems, tiers

OWN_DATABASE_KEYS = ("replicas", "memory_bytes", "max_connections", "pool_size", "unknown_client")
"""What a region may have otherwise for its own copies of the data."""


def ensure_few_regions(topology: tiers.Topology) -> Iterator[Problem]:
    """Addresses have room for so many regions, and a region's name is no server's name."""
    count = len(topology.regions)
    if count > layout.MOST_REGIONS:
        yield Problem("regions", f"{count} regions", f"{layout.MOST_REGIONS} or fewer", "remove some")
    for name in topology.regions:
        if name in layout.FIRST_HOST:
            yield Problem(f"regions.{name}", "the name of a tier", "another name", "servers are called so; rename it")


def ensure_own_database(topology: tiers.Topology) -> Iterator[Problem]:
    """A region has copies of the data of its own, and nothing else of the database."""
    for name, region in topology.regions.items():
        for key in sorted((region.database.model_fields_set if region.database else set()) - set(OWN_DATABASE_KEYS)):
            known = tiers.Database.model_fields[key].alias or key
            advice = f"say it in [database], or remove it from [regions.{name}.database]"
            yield Problem(f"regions.{name}.database.{known}", "what is the same in all regions", "nothing", advice)


def ensure_sessions_cross(topology: tiers.Topology) -> Iterator[Problem]:
    """A session that is in one region's cache, or in one process, is lost on the way to another region."""
    store = topology.sessions.store
    if topology.has_regions and store in ("cache", "memory"):
        advice = 'a visitor may be led to another region; set store to "database" or "token"'
        found = f"{problems.as_toml(store)} with {len(topology.regions)} regions"
        yield Problem("sessions.store", found, '"database" or "token"', advice)


def ensure_links(topology: tiers.Topology) -> Iterator[Problem]:
    """Every link joins two regions that exist, is said once, and each of its figures in one way."""
    pairs: dict[str, tuple[str, str]] = {}
    for one, other in itertools.permutations(topology.regions, 2):
        pairs.setdefault(f"{one}-{other}", (one, other))
    for name, link in topology.wan.items():
        path = f"wan.{name}"
        if name not in pairs:
            yield _no_such_link(path, name, topology)
        if link.delay_seconds is not None and link.delay_ms is not None:
            yield Problem(f"{path}.delay_ms", "delay_ms beside delay", "one of the two", "remove one")
        if link.jitter_seconds is not None and link.jitter_ms is not None:
            yield Problem(f"{path}.jitter_ms", "jitter_ms beside jitter", "one of the two", "remove one")
    counted = Counter(frozenset(pairs[name]) for name in topology.wan if name in pairs)
    for name in topology.wan:
        if name in pairs and counted[frozenset(pairs[name])] > 1:
            advice = "a link is the same both ways; remove one of the two"
            yield Problem(f"wan.{name}", "a link that is there in the other direction too", "one", advice)


def _no_such_link(path: str, name: str, topology: tiers.Topology) -> Problem:
    if any(name == f"{one}-{one}" for one in topology.regions):
        return Problem(path, "a link of a region to itself", "two regions", "nothing lies within one; remove it")
    known = [f"{one}-{other}" for one, other in itertools.combinations(topology.regions, 2)]
    if not known:
        return Problem(path, "a link with one region", "no link", "add another region, or remove it")
    close = nearest.name(name, known)
    advice = f"did you mean {close}?" if close else "add the region, or remove the link"
    return Problem(path, "a link to nowhere", f"one of {', '.join(known[:6])}", advice)
