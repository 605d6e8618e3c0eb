"""Which region is the home of the data, as the file says it: changed by moves, and when a home is lost.

Called by `runtime/service` and the CLI's `region`. It moves nothing: that is `actions/region`, by the plan.
"""

from pathlib import Path

from tenfold import errors
from tenfold.kit import files
from tenfold.observation import snapshot
from tenfold.topology import edit, nearest, tiers


def ensure_known(topology: tiers.Topology, region: str) -> None:
    """There is a region of this name. Raises BadInput."""
    if region not in topology.regions:
        known = ", ".join(topology.regions)
        raise errors.BadInput(f"region {region}: not found among {known}{nearest.hint(region, topology.regions)}")


def ensure_may_lose(topology: tiers.Topology, region: str) -> None:
    """There is a region of this name, and another one to serve in its place. Raises BadInput."""
    ensure_known(topology, region)
    if not topology.has_regions:
        raise errors.BadInput(
            f"region {region}: it is the only one, and nothing would serve in its place; for one server: "
            "tenfold server kill NAME, for everything: tenfold down, for another region: tenfold grow --to regions"
        )


def with_home(text: str, topology: tiers.Topology, region: str) -> str:
    """The text of tenfold.toml with `primary = true` in this region, and in no other one."""
    changes = [
        edit.Change(("regions", name, "primary"), True if name == region else None)
        for name, found in topology.regions.items()
        if found.primary or name == region
    ]
    return edit.apply(text, changes)


def write_home(path: Path, topology: tiers.Topology, region: str) -> None:
    """The same in the file itself, whatever else has been changed in it since it was applied."""
    text = with_home(path.read_text(), topology, region)
    files.write_if_changed(path, text, mode=0o644)


def heir(topology: tiers.Topology, there: snapshot.Snapshot, lost: str) -> str:
    """The region that has most of what a lost home had. Raises RuntimeFailure when none has a copy that runs.

    What a copy has on its disk counts, replayed or not: so do commits that waited for another region.
    """
    servers = {one.name: one.region for one in there.servers}
    nodes = [node for node in there.databases if node.is_reachable and servers[node.server] in topology.regions]
    nodes = [node for node in nodes if servers[node.server] != lost]
    best = max(nodes, key=lambda node: (node.timeline, node.received_lsn), default=None)
    if best is None:
        raise errors.RuntimeFailure(
            f"region {lost}: it is the home of the data, and no other region has a copy that runs; "
            f"the data waits until it returns: tenfold region start {lost}"
        )
    return servers[best.server]
