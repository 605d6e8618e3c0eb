"""The rules for databases that run with other memory or fewer or more connections than they should: restarts, in order.

Called by `planning/plan`. PostgreSQL takes either only when it starts. Replicas restart first and one at a time, each
streaming again before the next; then one of them takes over, and the old primary comes back as a replica with the new
settings. A standby must not have fewer connections than its primary (PostgreSQL's manual, "Hot Standby"), so that a
reduction begins with the primary, which then restarts where it is; it comes last of all, when whatever used the
connections has gone. Without replicas the primary restarts where it is: what it is asked meanwhile waits.
The databases of other regions are standbys too: they get more before the home does, and less after it.
"""

from tenfold.observation import snapshot
from tenfold.planning import steps
from tenfold.planning.situation import Situation
from tenfold.topology import units

BLOCK_BYTES = 8192
"""PostgreSQL's memory comes in blocks: less than one is no difference."""


def lower_before_copy(now: Situation) -> steps.Step | None:
    """A plain primary that will be copied has no more connections than its copy, which could not start else."""
    primary = now.primary
    if primary is None or now.target is None or not now.is_managed("postgres") or primary.server in now.homes:
        return None
    if now.is_streaming(now.target) or not _lowers(now, primary):
        return None
    return _restart_primary(now, primary)


def raise_databases(now: Situation) -> steps.Step | None:
    """Databases run with the wanted memory and connections, unless that takes connections away."""
    home = now.at_home
    return None if home.primary is None or _lowers(home, home.primary) else _next_restart(now)


def lower_databases(now: Situation) -> steps.Step | None:
    """Databases run with the wanted memory and connections."""
    return _next_restart(now)


def waiting(now: Situation) -> str:
    """Why databases stay as they are though they should change, in words; empty: they do not."""
    names = [node.server for node in _outdated(now)]
    away = _away(now)
    if names and (far := _fewer_elsewhere(now)):
        return f"the databases keep their connections: those on {', '.join(far)}, which follow them, have fewer"
    if now.at_home.primary is None or not names or not away:
        return ""
    return f"the database on {', '.join(names)} keeps its memory and connections until {', '.join(away)} follows again"


def _next_restart(now: Situation) -> steps.Step | None:
    return _next_at_home(now) if now.is_home else _next_follower(now)


def _next_at_home(now: Situation) -> steps.Step | None:
    primary, outdated = now.primary, _outdated(now)
    if primary is None or not outdated or not now.has_settled or _away(now) or _has_leaving_follower(now):
        return None
    if _fewer_elsewhere(now):
        return None
    if primary in outdated and _lowers(now, primary):
        return _restart_primary(now, primary)
    replica = next((node for node in outdated if node != primary), None)
    if replica is not None:
        return _restart_replica(now, replica)
    return _switch_over(now, primary) or _restart_primary(now, primary)


def _next_follower(now: Situation) -> steps.Step | None:
    """Away from home: never fewer connections than the primary has, which is why it comes first when there are less."""
    primary, outdated = now.at_home.primary, _outdated(now)
    if primary is None or not outdated or not now.at_home.has_settled or _away(now):
        return None
    return _restart_replica(now, outdated[0]) if primary.max_connections <= _connections(now) else None


def _restart_replica(now: Situation, replica: snapshot.DatabaseNode) -> steps.Step:
    return steps.RestartReplica(
        server=replica.server,
        memory_bytes=now.topology.database.memory_bytes,
        max_connections=_connections(now),
        reason=f"{_difference(now, replica)}; the others serve meanwhile",
    )


def _connections(now: Situation) -> int:
    """What databases of this region shall have: a standby as many as the home's primary shall have, at least."""
    return max(now.topology.database.max_connections, now.at_home.topology.database.max_connections)


def _outdated(now: Situation) -> list[snapshot.DatabaseNode]:
    """The databases in their places that run with other settings than they should."""
    nodes = (now.there.database(name) for name in now.homes)
    return [node for node in nodes if node is not None and node.is_reachable and _difference(now, node)]


def _difference(now: Situation, node: snapshot.DatabaseNode) -> str:
    """What should change about this database, in words; empty: nothing, or nobody knows."""
    wanted, connections, found = now.topology.database, _connections(now), []
    if node.memory_bytes and abs(node.memory_bytes - wanted.memory_bytes) >= BLOCK_BYTES:
        found.append(f"memory {units.size(node.memory_bytes)} -> {units.size(wanted.memory_bytes)}")
    if node.max_connections and node.max_connections != connections:
        found.append(f"connections {node.max_connections} -> {connections}")
    return ", ".join(found)


def _lowers(now: Situation, primary: snapshot.DatabaseNode) -> bool:
    return primary.max_connections > now.topology.database.max_connections


def _away(now: Situation) -> list[str]:
    """The replicas that do not follow just now: while one is away, no other one goes."""
    primary = now.primary.server if now.primary else ""
    return [name for name in now.homes if name != primary and not now.is_streaming(name)]


def _has_leaving_follower(now: Situation) -> bool:
    """Whether a copy that goes is there still: it would not bear more connections, and may be one that commits wait
    for, whether it answers just now or not. It is soon gone."""
    leaving = [one for one in now.there.databases if one.role == "standby" and one.server not in now.homes]
    return any(one.is_reachable or now.manager_of(one) == "patroni" for one in leaving)


def _fewer_elsewhere(now: Situation) -> list[str]:
    """Databases of other regions that would stop to follow a primary with the wanted connections."""
    nodes = (node for other in now.everywhere.values() if other.region != now.region for node in other.there.databases)
    return [node.server for node in nodes if 0 < node.max_connections < now.topology.database.max_connections]


def _switch_over(now: Situation, primary: snapshot.DatabaseNode) -> steps.Step | None:
    """To a replica that has been restarted already: what it loses in the switch is shorter than a restart."""
    target = next((name for name in now.homes if now.is_streaming(name)), None)
    if target is None:
        return None
    reason = f"{_difference(now, primary)}; {target} has it, and {primary.server} restarts as its replica"
    return steps.SwitchOver(source=primary.server, target=target, reason=reason)


def _restart_primary(now: Situation, primary: snapshot.DatabaseNode) -> steps.Step:
    return steps.RestartPrimary(
        server=primary.server,
        memory_bytes=now.topology.database.memory_bytes,
        max_connections=now.topology.database.max_connections,
        reason=_difference(now, primary),
    )


RULES = (raise_databases,)
"""After the databases are where they shall be."""

LAST = (lower_databases,)
"""After everything that is no longer wanted has gone."""
