"""What a step leaves behind when it succeeds: the snapshot after it, as far as planning needs to know.

Called by `planning/plan` to look one step ahead of another. It never describes half-done steps: those are observed.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from tenfold.observation import snapshot
from tenfold.planning import steps
from tenfold.planning.situation import Situation
from tenfold.topology import layout

Snapshot = snapshot.Snapshot
ProcessState = snapshot.ProcessState


def after(step: steps.Step, now: Situation) -> Situation:
    """The situation once `step` has been carried out."""
    return replace(now, there=_EFFECTS[type(step)](step, now))


# servers and processes


def _start_servers(step: steps.StartServers, now: Situation) -> Snapshot:
    known = {server.name: server for server in now.there.servers}
    for name in step.servers:
        known[name] = _powered(now, name, known.get(name))
    return replace(now.there, servers=tuple(known.values()))


def _powered(now: Situation, name: str, known: snapshot.Server | None) -> snapshot.Server:
    if known is not None:
        return replace(known, state=snapshot.ServerState.RUNNING)
    spec = now.wanted.server(name)
    assert spec is not None, "only wanted servers are made"
    address = spec.address(now.there.network)
    return snapshot.Server(name, spec.region, spec.tier, address, snapshot.ServerState.RUNNING)


def _start_processes(step: steps.StartProcesses, now: Situation) -> Snapshot:
    there = _set_processes(now, step.targets, ProcessState.READY)
    doors = {server: _door(now, server) for server, name in step.targets if name == "haproxy"}
    others = [one for one in there.balancers if one.server not in doors]
    databases = _started(there, [server for server, name in step.targets if name in ("postgres", "patroni")], now)
    caches = _started_caches(now, [server for server, name in step.targets if name == "valkey"])
    return replace(there, balancers=(*others, *doors.values()), databases=databases, caches=caches)


def _started_caches(now: Situation, servers: list[str]) -> tuple[snapshot.CacheNode, ...]:
    """Servers that were a cluster before find each other again by themselves; new ones know nobody yet."""
    known = [one for name in servers if (one := now.there.server(name)) and one.process("valkey")]
    is_old = bool(servers) and len(known) == len(servers) and set(servers) <= set(now.there.told.caches)
    alone = [snapshot.CacheNode(name, "primary", is_complete=len(now.caches) == 1, members=(name,)) for name in servers]
    started = _cluster(now.there.told.caches) if is_old else alone
    names = {one.server for one in started}
    return (*(one for one in now.there.caches if one.server not in names), *started)


def _cluster(names: tuple[str, ...]) -> list[snapshot.CacheNode]:
    """These servers as one cluster, or as one server."""
    half = max(1, len(names) // 2)
    primaries = [snapshot.CacheNode(name, "primary", "", 1, True, names) for name in names[:half]]
    copies = zip(names[half:], names, strict=False)
    return primaries + [snapshot.CacheNode(name, "replica", primary, 0, True, names) for name, primary in copies]


def _form_cache(step: steps.FormCache, now: Situation) -> Snapshot:
    others = (one for one in now.there.caches if one.server not in step.servers)
    return replace(now.there, caches=(*others, *_cluster(step.servers)))


def _door(now: Situation, server: str) -> snapshot.Balancer:
    backends = tuple(snapshot.Backend(name, _group(now, name), "up") for name in now.ready_web)
    return snapshot.Balancer(server, backends, now.revisions.get((server, "haproxy"), ""), _edges(now.edges_of(server)))


def _edges(names: Iterable[str]) -> tuple[snapshot.Backend, ...]:
    return tuple(snapshot.Backend(name, "", "up") for name in names)


def _group(now: Situation, web_server: str) -> str:
    server = now.wanted.server(web_server)
    process = server and server.app
    return process.group if process else ""


def _started(there: Snapshot, servers: list[str], now: Situation) -> tuple[snapshot.DatabaseNode, ...]:
    """The copies on these servers run. Which of Patroni's becomes the primary is not for planning to foresee."""
    return tuple(_running(node, now) if node.server in servers else node for node in there.databases)


def _running(node: snapshot.DatabaseNode, now: Situation) -> snapshot.DatabaseNode:
    manager = now.manager_of(node)
    node = replace(node, manager=manager, is_reachable=True)
    if manager == "postgres":
        node = _resized(node, now, 0)
    if now.primary is not None and now.primary.server == node.server:
        return node
    if now.primary is not None:
        return replace(node, role="standby", is_streaming=True)
    if manager == "patroni":
        return replace(node, role="")
    may_be_fenced = node.is_fenced or len(now.there.databases) > 1
    return replace(node, role="primary", accepts_writes=not may_be_fenced)


def _replace_processes(step: steps.ReplaceProcesses, now: Situation) -> Snapshot:
    return _set_processes(now, step.targets, ProcessState.READY)


def _stop_processes(step: steps.StopProcesses, now: Situation) -> Snapshot:
    there = _set_processes(now, step.targets, ProcessState.STOPPED)
    doors = {server for server, name in step.targets if name == "haproxy"}
    data = {server for server, name in step.targets if name in ("postgres", "patroni")}
    return replace(
        there,
        balancers=tuple(one for one in there.balancers if one.server not in doors),
        caches=tuple(one for one in there.caches if (one.server, "valkey") not in step.targets),
        databases=tuple(_stopped(node, now) if node.server in data else node for node in there.databases),
    )


def _stopped(node: snapshot.DatabaseNode, now: Situation) -> snapshot.DatabaseNode:
    manager = now.manager_of(node)
    node = replace(node, manager="", last_manager=manager, is_reachable=False)
    return replace(node, accepts_writes=False, is_streaming=False)


def _remove_servers(step: steps.RemoveServers, now: Situation) -> Snapshot:
    return replace(
        now.there,
        servers=tuple(one for one in now.there.servers if one.name not in step.servers),
        balancers=tuple(one for one in now.there.balancers if one.server not in step.servers),
        databases=tuple(one for one in now.there.databases if one.server not in step.servers),
        caches=tuple(one for one in now.there.caches if one.server not in step.servers),
    )


def _set_processes(now: Situation, targets: Iterable[steps.Target], state: ProcessState) -> Snapshot:
    there = now.there
    for server, name in targets:
        release = now.assigned.get(server, "") if name in layout.APP_ENGINES else ""
        known = now.there.server(server)
        last = known.process(name) if known and now.is_leaving(server) else None
        revision = last.revision if last else now.revisions.get((server, name), "")
        there = _set_process(there, server, name, state, revision, release)
    return there


def _set_process(
    there: Snapshot, server: str, name: str, state: ProcessState, revision: str, release: str = ""
) -> Snapshot:
    def changed(one: snapshot.Server) -> snapshot.Server:
        process = snapshot.Process(name, name, state, revision=revision, release=release)
        others = [other for other in one.processes if other.name != name]
        return replace(one, processes=(*others, process))

    servers = tuple(changed(one) if one.name == server else one for one in there.servers)
    return replace(there, servers=servers)


# the database


def _initialise(step: steps.InitialiseDatabase, now: Situation) -> Snapshot:
    there = _set_processes(now, [(step.server, "postgres")], ProcessState.READY)
    node = snapshot.DatabaseNode(step.server, 0, "postgres", "primary", True, accepts_writes=True, timeline=1)
    return replace(there, databases=(*there.databases, _resized(node, now, 0)))


def _copy(step: steps.CopyDatabase, now: Situation) -> Snapshot:
    return _with_standbys(now, [step.target], "postgres")


def _join(step: steps.JoinReplicas, now: Situation) -> Snapshot:
    return _with_standbys(now, step.servers, "patroni")


def _with_standbys(now: Situation, servers: Iterable[str], manager: snapshot.Manager) -> Snapshot:
    servers = tuple(servers)
    there = _set_processes(now, [(name, manager) for name in servers], ProcessState.READY)
    timeline, least = (now.primary.timeline, now.primary.max_connections) if now.primary else (0, 0)
    standbys = [
        _resized(
            snapshot.DatabaseNode(name, 0, manager, "standby", True, timeline=timeline, is_streaming=True), now, least
        )
        for name in servers
    ]
    return replace(there, databases=(*(one for one in there.databases if one.server not in servers), *standbys))


def _follow_home(step: steps.FollowHome, now: Situation) -> Snapshot:
    there = _with_standbys(now, step.servers, "patroni")
    home = now.at_home.primary
    timeline = home.timeline if home else 0
    nodes = (replace(one, timeline=timeline) if one.server in step.servers else one for one in there.databases)
    return replace(there, databases=tuple(nodes))


def _move_home(step: steps.MoveHome, now: Situation) -> Snapshot:
    """As the new home sees it: one of its databases, nobody knows which, is the primary."""
    first, *others = sorted(now.there.databases, key=lambda node: not node.is_reachable)
    first = replace(first, role="primary", is_reachable=True, accepts_writes=True, is_fenced=False, is_streaming=False)
    first = replace(first, manager="patroni")
    return replace(now.there, databases=(replace(first, timeline=first.timeline + 1), *others))


def _switch(step: steps.SwitchDatabase, now: Situation) -> Snapshot:
    there = _set_processes(now, [(step.source, "postgres")], ProcessState.STOPPED)
    return _promoted(there, now, step.source, step.target, is_source_running=False)


def _switch_over(step: steps.SwitchOver, now: Situation) -> Snapshot:
    return _promoted(now.there, now, step.source, step.target, is_source_running=True)


def _promoted(there: Snapshot, now: Situation, source: str, target: str, *, is_source_running: bool) -> Snapshot:
    old, new = there.database(source), there.database(target)
    assert old is not None, "a switch has a source"
    assert new is not None, "a switch has a target"
    timeline = max(old.timeline, new.timeline) + 1
    new = replace(new, role="primary", accepts_writes=True, is_streaming=False, timeline=timeline)
    if is_source_running:  # restarted by Patroni with what the others have
        old = replace(old, role="standby", accepts_writes=False, is_fenced=False, is_streaming=True, timeline=timeline)
        old = replace(old, memory_bytes=new.memory_bytes, max_connections=new.max_connections)
    else:
        old = _stopped(old, now)
    others = (one for one in there.databases if one.server not in (source, target))
    return replace(there, databases=(*others, old, new))


def _unfence(step: steps.UnfenceDatabase, now: Situation) -> Snapshot:
    databases = (_unfenced(node) if node.server == step.server else node for node in now.there.databases)
    return replace(now.there, databases=tuple(databases))


def _unfenced(node: snapshot.DatabaseNode) -> snapshot.DatabaseNode:
    return replace(node, is_fenced=False, accepts_writes=node.role == "primary")


def _restart(step: steps.RestartReplica | steps.RestartPrimary, now: Situation) -> Snapshot:
    databases = (_restarted(node, step) if node.server == step.server else node for node in now.there.databases)
    return replace(now.there, databases=tuple(databases))


def _restarted(node: snapshot.DatabaseNode, step: steps.RestartReplica | steps.RestartPrimary) -> snapshot.DatabaseNode:
    return replace(_unfenced(node), memory_bytes=step.memory_bytes, max_connections=step.max_connections)


def _resized(node: snapshot.DatabaseNode, now: Situation, least_connections: int) -> snapshot.DatabaseNode:
    """A database that was started with the wanted settings. Patroni gives no standby less than its primary has."""
    wanted = now.topology.database
    most = wanted.max_connections if node.manager == "postgres" else max(wanted.max_connections, least_connections)
    return replace(node, memory_bytes=wanted.memory_bytes, max_connections=most)


def _take_over(step: steps.TakeOverDatabase, now: Situation) -> Snapshot:
    return _handed(now, step.server, "postgres", "patroni")


def _release(step: steps.ReleaseDatabase, now: Situation) -> Snapshot:
    return _handed(now, step.server, "patroni", "postgres")


def _handed(now: Situation, server: str, old: str, new: snapshot.Manager) -> Snapshot:
    there = _set_process(now.there, server, new, ProcessState.READY, now.revisions.get((server, new), ""))
    return replace(
        there,
        servers=tuple(_without_process(one, old) if one.name == server else one for one in there.servers),
        databases=tuple(replace(one, manager=new) if one.server == server else one for one in there.databases),
    )


def _without_process(server: snapshot.Server, name: str) -> snapshot.Server:
    return replace(server, processes=tuple(one for one in server.processes if one.name != name))


def _remove_replicas(step: steps.RemoveReplicas, now: Situation) -> Snapshot:
    there = _set_processes(now, [(name, "patroni") for name in step.servers], ProcessState.STOPPED)
    databases = (_stopped(node, now) if node.server in step.servers else node for node in there.databases)
    return replace(there, databases=tuple(databases))


def _discard(step: steps.DiscardData, now: Situation) -> Snapshot:
    return replace(now.there, databases=tuple(one for one in now.there.databases if one.server not in step.servers))


def _change_synchronous(step: steps.ChangeSynchronous, now: Situation) -> Snapshot:
    return replace(now.there, is_synchronous=step.is_synchronous)


# the app


def _publish(step: steps.PublishBindings, now: Situation) -> Snapshot:
    return replace(now.there, published=step.databases, told=step.told, is_published=True)


def _move_sessions(step: steps.MoveSessions, now: Situation) -> Snapshot:
    return replace(now.there, told=moved(now.there.told, step))


def moved(told: snapshot.Told, step: steps.MoveSessions) -> snapshot.Told:
    """What the app is told once the sessions have been moved: the source is forgotten."""
    former = [one for one in (*told.former_stores, step.target) if one not in (step.source, told.store)]
    return replace(told, former_stores=tuple(dict.fromkeys(former)))


def _drain_queue(_: steps.DrainQueue, now: Situation) -> Snapshot:
    return replace(now.there, told=drained(now.there.told))


def drained(told: snapshot.Told) -> snapshot.Told:
    """What the app is told once the former transport is empty: it is forgotten."""
    return replace(told, former_transport="", queues=told.queues if told.transport == "nats" else ())


def _migrate(_: steps.Migrate, now: Situation) -> Snapshot:
    return replace(now.there, is_migrated=True)


def _configure(step: steps.ConfigureBalancer, now: Situation) -> Snapshot:
    backends = tuple(snapshot.Backend(name, _group(now, name), "up") for name in step.web_servers)
    revision = now.revisions.get((step.server, "haproxy"), "")
    door = snapshot.Balancer(step.server, backends, revision, _edges(step.edges))
    others = (one for one in now.there.balancers if one.server != step.server)
    return replace(now.there, balancers=(*others, door))


_EFFECTS: dict[type[steps.Step], Callable[[Any, Situation], Snapshot]] = {
    steps.StartServers: _start_servers,
    steps.StartProcesses: _start_processes,
    steps.InitialiseDatabase: _initialise,
    steps.CopyDatabase: _copy,
    steps.SwitchDatabase: _switch,
    steps.UnfenceDatabase: _unfence,
    steps.TakeOverDatabase: _take_over,
    steps.ReleaseDatabase: _release,
    steps.JoinReplicas: _join,
    steps.SwitchOver: _switch_over,
    steps.FollowHome: _follow_home,
    steps.MoveHome: _move_home,
    steps.RestartReplica: _restart,
    steps.RestartPrimary: _restart,
    steps.RemoveReplicas: _remove_replicas,
    steps.ChangeSynchronous: _change_synchronous,
    steps.PublishBindings: _publish,
    steps.Migrate: _migrate,
    steps.FormCache: _form_cache,
    steps.MoveSessions: _move_sessions,
    steps.DrainQueue: _drain_queue,
    steps.ConfigureBalancer: _configure,
    steps.ReplaceProcesses: _replace_processes,
    steps.StopProcesses: _stop_processes,
    steps.DiscardData: _discard,
    steps.RemoveServers: _remove_servers,
}
