"""One change as its regions see it: a situation each, and what departs for good.

Called by `planning/plan`. A region sees its own servers; what is decided in the home region (the data, where sessions
and messages go) it asks of `Situation.at_home`. What is between regions has a situation of its own, of the name "".
"""

from collections.abc import Mapping
from dataclasses import replace

from tenfold import errors
from tenfold.observation import snapshot
from tenfold.planning import releases, steps
from tenfold.planning.situation import Situation, is_alive
from tenfold.topology import layout, tiers

OUTSIDE = ""
"""What is between regions."""

Views = Mapping[str, Situation]
"""By region, the situation that it sees: the home region first."""


def views(
    topology: tiers.Topology,
    there: snapshot.Snapshot,
    revisions: Mapping[steps.Target, str],
    released: releases.Wanted,
) -> Views:
    """The situations of all regions that are wanted or there. Raises BadInput when a server, or the data, would have to
    move in a way that only a person can ask for."""
    wanted = layout.layout(topology)
    _ensure_addresses_stay(wanted, there)
    _ensure_data_is_at_home(topology, there)
    known = (*topology.regions, *(server.region for server in there.servers), *_outside(wanted))
    names = dict.fromkeys((topology.home, *known))
    return {
        name: Situation(
            topology=topology.of(name),
            wanted=wanted.of(name),
            there=there.of(name, is_home=name == topology.home),
            revisions=revisions,
            released=released,
            region=name,
        )
        for name in names
    }


def seen(found: Views, name: str) -> Situation:
    """The situation of one region, with a view of the others."""
    home = next(iter(found))
    return replace(found[name], everywhere=found, home=home)


def staying(found: Views) -> tuple[str, ...]:
    """The regions that are wanted, home first, and what is between them."""
    return tuple(name for name, one in found.items() if not _departs(one))


def next_departure(found: Views) -> tuple[str, steps.Step] | None:
    """The next step of a region that is no longer wanted: its name servers fall silent and its front doors
    close first, then everything goes.

    Before anything else: what it used in other regions may go with the same change.
    """
    for name, now in found.items():
        if _departs(now) and (step := _depart(now)):
            return name, step
    return None


def after_telling(found: Views, step: steps.PublishBindings, name: str) -> Views:
    """The app of every region is told of all edges: those of one region are news to the others."""
    if step.told.edges == found[name].there.told.edges:
        return found
    others = {
        other: replace(one, there=replace(one.there, is_published=False))
        for other, one in found.items()
        if other != name and one.there.published
    }
    return {**found, **others}


def connect(now: Situation) -> steps.Step | None:
    """What lies between regions is there before anything of one region asks for anything of another."""
    targets = now.missing("wan", _wan(now))
    return steps.StartProcesses(targets=targets, reason="regions meet through it alone") if targets else None


def reconnect(now: Situation) -> steps.Step | None:
    """It joins the regions that there are, as the topology says."""
    targets = now.outdated("wan", _wan(now))
    return steps.ReplaceProcesses(targets=targets, reason="what lies between regions has changed") if targets else None


def disconnect(now: Situation) -> steps.Step | None:
    """It goes when there is one region left."""
    targets = now.unwanted("wan")
    return steps.StopProcesses(targets=targets, reason="there is only one region") if targets else None


def _wan(now: Situation) -> tuple[str, ...]:
    return tuple(server.name for server in now.wanted.running("wan"))


def _outside(wanted: layout.Layout) -> tuple[str, ...]:
    return (OUTSIDE,) if wanted.of(OUTSIDE).servers else ()


def _departs(now: Situation) -> bool:
    return now.region != OUTSIDE and now.region not in now.topology.regions


def _depart(now: Situation) -> steps.Step | None:
    for engines in (("powerdns",), ("haproxy",), ("varnish",), ("granian", "worker"), ()):
        running = tuple(
            (server.name, process.name)
            for server in now.there.servers
            for process in server.processes
            if is_alive(server, process) and (not engines or process.engine in engines)
        )
        if running:
            return steps.StopProcesses(targets=running, reason=f"the region {now.region} is not wanted any more")
    names = tuple(server.name for server in now.there.servers)
    return steps.RemoveServers(servers=names, reason=f"the region {now.region} is gone") if names else None


def _ensure_data_is_at_home(topology: tiers.Topology, there: snapshot.Snapshot) -> None:
    """An empty database at home beside the data elsewhere would be a loss, not a start."""
    regions = {server.region for server in there.servers if there.database(server.name)}
    if regions and topology.home not in regions:
        raise errors.BadInput(
            f"[regions.{topology.home}]: primary = true found, and the data is in {' and '.join(sorted(regions))}; "
            f"leave primary where it was, and move the data with: tenfold region move {topology.home}"
        )


def _ensure_addresses_stay(wanted: layout.Layout, there: snapshot.Snapshot) -> None:
    by_address = {one.address: one.name for one in there.servers}
    for server in wanted.servers:
        known, address = there.server(server.name), server.address(there.network)
        if known is not None and known.address != address:
            raise errors.BadInput(
                f"server {server.name}: address {known.address} found, {address} wanted; a running server cannot move: "
                "leave the order of [regions] as it was, or stop with: tenfold down --delete-data"
            )
        if by_address.get(address, server.name) != server.name:
            raise errors.BadInput(
                f"server {server.name}: address {address} wanted, which {by_address[address]} has; take the region of "
                "that server out of the file first, apply, and then add the other one"
            )
