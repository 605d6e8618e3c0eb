"""Standing troubles, declared: what is not as it should be, though nothing has failed. Pure.

Called for `tenfold status`. Each has a code that does not change, a severity, and a sentence for a person.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from tenfold.observation import snapshot as snapshots
from tenfold.topology import tiers

LAG_BYTES = 64 * 1024**2
LAG_MILLISECONDS = 5_000.0
"""A replica further behind than that is of little use: reads of `session` go elsewhere."""

LOW_BYTES = 2 * 1024**3
FULL_BYTES = 256 * 1024**2

ServerState = snapshots.ServerState
ProcessState = snapshots.ProcessState


Severity = Literal["warning", "error"]


@dataclass(frozen=True, slots=True)
class Condition:
    """One trouble. `subject` is a server, or empty for the whole service."""

    code: str
    severity: Severity
    text: str
    subject: str = ""


def conditions(
    snapshot: snapshots.Snapshot, topology: tiers.Topology, free_bytes: int, others: Iterable[Condition] = ()
) -> tuple[Condition, ...]:
    """Everything that is not as it should be, what is worst first. A service that is stopped has few troubles.

    `others`: what the snapshot cannot show, such as the state of files.
    """
    found = [*_disk(free_bytes), *others]
    if any(one.state is ServerState.RUNNING for one in snapshot.servers):
        found = [*_service(snapshot), *_databases(snapshot, topology), *_stores(snapshot), *_servers(snapshot), *found]
    return tuple(sorted(found, key=lambda one: one.severity != "error"))


def _service(snapshot: snapshots.Snapshot) -> Iterator[Condition]:
    if not snapshot.running("haproxy"):
        yield Condition("front_door_closed", "error", "no balancer is ready: clients cannot connect")
    if not snapshot.running("granian"):
        yield Condition("no_web_server", "error", "no web server is ready: requests wait, then get 503")


def _databases(snapshot: snapshots.Snapshot, topology: tiers.Topology) -> Iterator[Condition]:
    primary = snapshot.primary
    if primary is None:
        yield Condition("no_primary", "error", "no database primary answers: writes wait, then fail")
        return
    if topology.database.synchronous and topology.has_failover and primary.synchronous_standbys == 0:
        text = "no replica takes part in commits: the death of the primary may lose writes"
        yield Condition("no_synchronous_standby", "error", text, primary.server)
    if topology.database.synchronous == "regions":
        yield from _witnesses(snapshot, primary)
    for node in snapshot.databases:
        if node.role == "standby" and node.is_reachable:
            yield from _standby(node)


def _witnesses(snapshot: snapshots.Snapshot, primary: snapshots.DatabaseNode) -> Iterator[Condition]:
    """Whether acknowledged writes are in two regions."""
    regions = {one.name: one.region for one in snapshot.servers}
    others = set(snapshot.told.witnesses) - {regions[primary.server]}
    if not others:
        text = "no other region has followed yet: the loss of the home may lose acknowledged writes"
        yield Condition("one_region_counts", "error", text, primary.server)
    elif not any(node.is_streaming and regions[node.server] in others for node in snapshot.databases):
        text = (
            f"{' or '.join(sorted(others))} does not follow: writes are answered 503, reads go on; to let writes go on "
            "without, set database.synchronous to true, and: tenfold apply"
        )
        yield Condition("no_region_follows", "error", text, primary.server)


def _stores(snapshot: snapshots.Snapshot) -> Iterator[Condition]:
    """What the app is told to use, and cannot."""
    told = snapshot.told
    caches = [node for name in told.caches if (node := snapshot.cache(name))]
    if told.caches and not any(node.is_complete for node in caches):
        cost = "sessions cannot be read" if told.keeps_sessions_in_cache else "reads go to the database"
        some = "some keys have no cache server" if caches else "no cache server answers"
        severity: Severity = "error" if told.keeps_sessions_in_cache else "warning"
        yield Condition("cache_incomplete", severity, f"{some}: what is kept there is not found, {cost}")
    queues = [node for node in snapshot.queues if node.server in told.queues]
    if told.transport == "nats" and not any(node.has_quorum for node in queues):
        text = "fewer than half of the queue servers answer: messages wait in the database until more do"
        yield Condition("queue_without_quorum", "error", text)
    for region in _regions_without_copy(snapshot) if told.transport == "nats" else ():
        text = f"fewer than half of the queue servers of {region} answer: it keeps no copy of messages"
        yield Condition("queue_copy_without_quorum", "warning", text)
    if told.handled_by == "workers" and not snapshot.running("worker"):
        yield Condition("no_worker", "error", "no worker is ready: messages wait")


def _regions_without_copy(snapshot: snapshots.Snapshot) -> list[str]:
    """Of the regions whose queue servers the app does not publish to, those where too few of them answer."""
    well = {node.server for node in snapshot.queues if node.has_quorum}
    homes = {server.region for server in snapshot.servers if server.name in snapshot.told.queues}
    servers = [server for server in snapshot.servers if server.tier == "queue" and server.region not in homes]
    regions = {server.region for server in servers}
    return sorted(regions - {server.region for server in servers if server.name in well})


def _standby(node: snapshots.DatabaseNode) -> Iterator[Condition]:
    if not node.is_streaming:
        text = f"the replica on {node.server} does not stream from the primary: it falls behind"
        yield Condition("replica_not_streaming", "warning", text, node.server)
    elif (node.lag_bytes or 0) > LAG_BYTES or (node.lag_milliseconds or 0.0) > LAG_MILLISECONDS:
        behind = f"{(node.lag_bytes or 0) / 1024**2:.1f} MiB, {(node.lag_milliseconds or 0.0) / 1000:.1f} s"
        text = f"the replica on {node.server} is {behind} behind: reads that must be fresh go elsewhere"
        yield Condition("replica_lags", "warning", text, node.server)


def _servers(snapshot: snapshots.Snapshot) -> Iterator[Condition]:
    for server in snapshot.servers:
        name = server.name
        if server.state is ServerState.KILLED:
            text = f"{name} was killed; give it power again with: tenfold server start {name}"
            yield Condition("server_killed", "warning", text, name)
        elif server.state is ServerState.STOPPED:
            yield Condition("server_stopped", "warning", f"{name} has no power", name)
        else:
            yield from _processes(server)


def _processes(server: snapshots.Server) -> Iterator[Condition]:
    for one in server.processes:
        detail = f": {one.detail}" if one.detail else ""
        if one.state is ProcessState.FAILED:
            yield Condition(
                "process_failed", "warning", f"{one.name} on {server.name} does not run{detail}", server.name
            )
        elif one.state is ProcessState.UNREADY:
            yield Condition(
                "process_unready", "warning", f"{one.name} on {server.name} is not ready{detail}", server.name
            )


def _disk(free_bytes: int) -> Iterator[Condition]:
    free = f"{free_bytes / 1024**2:,.0f} MiB"
    if free_bytes < FULL_BYTES:
        yield Condition("disk_full", "error", f"{free} of disk are left: databases stop when there is none")
    elif free_bytes < LOW_BYTES:
        yield Condition("disk_low", "warning", f"{free} of disk are left for data and logs")
