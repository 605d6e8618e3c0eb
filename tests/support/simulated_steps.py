"""What each step does to the simulated world, moment by moment.

Every `yield` is a moment at which the runtime may die: the test then stops, looks, and plans again.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from support import simulated_patroni, simulated_regions, simulated_sizes
from support.simulated_world import READY, STARTING, STOPPED, Copy, Server, ServerState, World
from tenfold.observation import snapshot
from tenfold.planning import plan, releases, steps
from tenfold.topology import layout, tiers

Moments = Iterator[None]
Revisions = Mapping[steps.Target, str]


def perform(
    world: World,
    step: steps.Step,
    topology: tiers.Topology,
    revisions: Revisions | None = None,
    released: releases.Wanted = releases.NOTHING,
) -> Moments:
    """Carry out one step. Time goes by at each moment, and once at the end."""
    stage = Stage(world, topology, revisions or {}, released)
    for _ in ACTIONS[type(step)](stage, step):
        world.moment()
        yield
    world.moment()


class Stage:
    def __init__(self, world: World, topology: tiers.Topology, revisions: Revisions, released: releases.Wanted) -> None:
        self.world = world
        self.wanted = layout.layout(topology)
        self.home = self.wanted.of(topology.home)
        self.revisions = revisions
        self.released = released

        self.size = (topology.database.memory_bytes, topology.database.max_connections)

    def server(self, name: str) -> Server:
        server = self.world.servers[name]
        assert server.state is ServerState.RUNNING, f"{name} has no power"
        return server

    def set(self, server: str, process: str, state: Any) -> None:
        self.server(server).processes[process] = state
        if state in (READY, STARTING) and not self._is_leaving(server):
            self.server(server).revisions[process] = self.revisions.get((server, process), "")

    def _is_leaving(self, server: str) -> bool:
        """Whether the app still uses it, and shall use others: until then it runs as it did."""
        used = [(self.world.told.caches, "valkey"), (self.world.told.queues, "nats")]
        wanted = {name: tuple(one.name for one in self.home.running(name)) for _, name in used}
        return any(server in told and told != wanted[name] for told, name in used)

    def start_servers(self, step: steps.StartServers) -> Moments:
        for name in step.servers:
            if name in self.world.servers:
                assert self.world.servers[name].state is not ServerState.KILLED, f"{name} was killed and must stay off"
                self.world.servers[name].state = ServerState.RUNNING
            else:
                spec = self.wanted.server(name)
                assert spec is not None
                self.world.servers[name] = Server(spec)
            yield

    def start_processes(self, step: steps.StartProcesses) -> Moments:
        for server, name in step.targets:
            self.set(server, name, STARTING)
            yield
        for server, name in step.targets:
            self._ready(server, name)
            yield

    def _ready(self, server: str, name: str) -> None:
        if name == "etcd" and not self.world.has_coordination(self.world.region_of(server)):
            return
        if name in layout.APP_ENGINES:
            assert self.world.is_migrated, "new code starts before its schema is there"
            assert self.world.is_published, "the app starts without its bindings"
        if name in ("postgres", "patroni"):
            copy = self.world.copies[server]
            assert copy.is_patronis == (name == "patroni"), f"{name} does not run the copy on {server}"
            simulated_sizes.started(self, copy)
        if name == "haproxy" and not self.world.runs(server, name):
            self.world.doors[server] = {one.name for one in self.wanted.running("granian")}
            self.world.door_revisions[server] = self.revisions.get((server, name), "")
            told, wanted = set(self.world.told.edges), self.wanted.running("varnish")
            self.world.lagging = self.world.told if told else self.world.lagging
            self.world.door_edges[server] = {one.name for one in wanted} & told
        if name in layout.APP_ENGINES:
            self._run_release(server)
        self.set(server, name, READY)
        if name in ("valkey", "nats"):
            self._open_files(server, name)

    def _open_files(self, server: str, name: str) -> None:
        """A cache server finds others when it is told, a queue server belongs to those of its settings."""
        revision = self.server(server).revisions[name]
        if name == "valkey":
            cluster = self.world.clusters.setdefault(server, (server,))
            assert revision == "cluster" or cluster == (server,), f"{server} starts with what a cluster left there"
        else:
            stem = server.rpartition("-")[0]
            cluster = tuple(f"{stem}-{number}" for number in range(1, 1 + int(revision)))
            assert cluster == self.world.clusters.setdefault(server, cluster), f"{server} starts with others' files"

    def _run_release(self, server: str) -> None:
        running = {name: one.release for name, one in self.world.servers.items()}
        release = releases.assign(self.released, self.wanted, running).get(server, "")
        if release and release == self.released.canary:
            wanted = {door: self.revisions.get((door, "haproxy"), "") for door in self.world.running("haproxy")}
            weighed = {door: self.world.door_revisions[door] for door in wanted}
            assert wanted == weighed, "a canary runs before the balancers know its share"
        self.world.servers[server].release = release

    def stop_processes(self, step: steps.StopProcesses) -> Moments:
        for server, name in step.targets:
            if name == "granian":
                routing = [door for door in self.world.running("haproxy") if server in self.world.doors[door]]
                assert not routing, f"{server} stops, and {routing} give it requests"
            if name == "varnish":
                using = [door for door in self.world.running("haproxy") if server in self.world.door_edges[door]]
                assert not using, f"{server} stops, and {using} give it requests"
                assert server not in self.world.told.edges, f"{server} stops, and the app tells it of purges"
            if name == "worker":
                others = self.world.running("worker") - {one for one, _ in step.targets}
                assert self.world.told.handled_by == "web" or others, f"{server} stops, and nobody handles messages"
            if name in ("valkey", "nats"):
                assert server not in (*self.world.told.caches, *self.world.told.queues), f"the app uses {server}"
            if name in ("postgres", "patroni"):
                assert server not in self.world.witnesses, f"commits wait for {server}"
                self.world.stop_copy(server)
            self.set(server, name, STOPPED)
            yield

    def replace_processes(self, step: steps.ReplaceProcesses) -> Moments:
        for server, name in step.targets:
            doors = [door for door in self.world.running("haproxy") if server in self.world.doors[door]]
            for door in doors:
                self.world.doors[door].discard(server)
            self.world.drained.add(server)
            yield
            self.set(server, name, STOPPED)
            yield
            self._ready(server, name)
            self.world.drained.discard(server)
            for door in doors:
                self.world.doors[door].add(server)
            yield

    def configure(self, step: steps.ConfigureBalancer) -> Moments:
        assert self.world.runs(step.server, "haproxy")
        self.world.doors[step.server] |= set(step.web_servers)
        self.world.drained -= set(step.web_servers)
        yield
        self.world.doors[step.server] &= set(step.web_servers)
        if step.edges:
            self.world.lagging = self.world.told  # insists on it
        self.world.door_edges[step.server] = set(step.edges)
        yield
        self.world.door_revisions[step.server] = self.revisions.get((step.server, "haproxy"), "")

    def remove_servers(self, step: steps.RemoveServers) -> Moments:
        for name in step.servers:
            server = self.world.servers[name]
            alive = [one for one, state in server.processes.items() if state is not STOPPED]
            if name not in (*self.world.told.caches, *self.world.told.queues):
                alive = [one for one in alive if one not in ("valkey", "nats")]
            assert not alive or server.state is not ServerState.RUNNING, f"{name} goes while {alive} run"
            server.state = ServerState.STOPPED if server.state is ServerState.RUNNING else server.state
            yield
            self.world.copies.pop(name, None)
            del self.world.servers[name]
            self.world.forget_files(name)
            yield

    def discard(self, step: steps.DiscardData) -> Moments:
        for name in step.servers:
            assert not self.world.is_up(self.world.copies[name]), f"the data on {name} is in use"
            del self.world.copies[name]
            yield

    # the database

    def initialise(self, step: steps.InitialiseDatabase) -> Moments:
        assert not self.world.copies, "there is data already"
        yield
        self.world.copies[step.server] = Copy(step.server, size=self.size, logged=self.size[1])
        self.set(step.server, "postgres", STOPPED)
        yield
        self.set(step.server, "postgres", READY)

    def copy(self, step: steps.CopyDatabase) -> Moments:
        source = self.world.copies[step.source]
        assert source in self.world.primaries
        copy = self.world.copies.get(step.target)
        if copy is None or copy.is_patronis or not copy.is_standby:
            self.world.copies.pop(step.target, None)
            self.server(step.target).processes.pop("patroni", None)
            yield
            copy = Copy(step.target, source.timeline, source.writes, is_standby=True, logged=source.logged)
            self.world.copies[step.target] = copy
        self.set(step.target, "postgres", STOPPED)
        yield
        simulated_sizes.start_plain(copy, (self.size[0], max(self.size[1], copy.logged)))
        self.set(step.target, "postgres", READY)

    def switch(self, step: steps.SwitchDatabase) -> Moments:
        source, target = self.world.copies[step.source], self.world.copies[step.target]
        assert step.target in self.world.published, "the app would not find the new primary"
        if self.world.is_up(source):
            source.is_fenced = True
            yield
            self.world.stop_copy(step.source)
            self.set(step.source, "postgres", STOPPED)
            yield
        assert self.world.is_up(target)
        assert not target.is_paused, f"{step.target} has fewer connections than {step.source}"
        if target.is_standby:
            assert target.writes == source.writes, "the standby has not everything"
            target.is_standby, target.is_fenced = False, False
            target.timeline, target.logged = source.timeline + 1, target.size[1]
        yield

    def unfence(self, step: steps.UnfenceDatabase) -> Moments:
        self.world.copies[step.server].is_fenced = False
        yield

    def take_over(self, step: steps.TakeOverDatabase) -> Moments:
        copy = self.world.copies[step.server]
        assert self.world.has_coordination(self.world.region_of(step.server))
        assert self.world.is_up(copy)
        self.set(step.server, "patroni", STARTING)
        yield
        copy.is_patronis = True
        simulated_sizes.share(self, step.server)
        del self.server(step.server).processes["postgres"]
        self.set(step.server, "patroni", READY)
        yield

    def release(self, step: steps.ReleaseDatabase) -> Moments:
        copy = self.world.copies[step.server]
        members = [one.server for one in self.world.copies.values() if one.is_patronis and self.world.is_up(one)]
        assert members in ([step.server], []), f"{members} still follow Patroni"
        assert not self.world.is_synchronous, "commits would wait for ever"
        yield
        copy.is_patronis = False
        self.world.shared_sizes.pop(self.world.region_of(step.server), None)
        del self.server(step.server).processes["patroni"]
        self.set(step.server, "postgres", READY)
        yield

    def join(self, step: steps.JoinReplicas) -> Moments:
        primary = self.world.primary
        assert primary is not None
        assert primary.is_patronis, "replicas join Patroni's primary"
        for name in step.servers:
            self.world.copies.pop(name, None)
            self.server(name).processes.pop("postgres", None)
            self.set(name, "patroni", STARTING)
            yield
        for name in step.servers:
            timeline, writes = primary.timeline, primary.writes
            simulated_sizes.share(self, name)
            copy = Copy(name, timeline, writes, is_standby=True, is_patronis=True, logged=primary.logged)
            simulated_patroni.start(self.world, copy)
            self.world.copies[name] = copy
            self.set(name, "patroni", READY)
            yield

    def switch_over(self, step: steps.SwitchOver) -> Moments:
        source, target = self.world.copies[step.source], self.world.copies[step.target]
        if target.is_standby:
            assert self.world.is_following(target)
            source.is_fenced = True
            yield
            target.writes = source.writes
            source.is_standby, target.is_standby = True, False
            target.timeline, target.logged = target.timeline + 1, target.size[1]
            simulated_patroni.start(self.world, source)
            yield
            source.is_fenced = False
        yield

    def remove_replicas(self, step: steps.RemoveReplicas) -> Moments:
        for name in step.servers:
            assert self.world.copies[name] is not self.world.primary, f"{name} is the primary"
        for name in step.servers:
            self.set(name, "patroni", STOPPED)
            yield

    def change_synchronous(self, step: steps.ChangeSynchronous) -> Moments:
        self.world.is_synchronous = step.is_synchronous
        yield

    # the app

    def publish(self, step: steps.PublishBindings) -> Moments:
        if step.region:
            self._publish_away(step)
            return
        for name in step.told.caches:
            assert self.world.has_accidents or not self.world.is_serving or self.world.runs(name, "valkey")
        self.world.lagging = self.world.told  # every process has read the last bindings before there are new ones
        self.world.published, self.world.is_published = step.databases, True
        self.world.told = step.told
        if not self.world.running("granian"):
            self.world.lagging = step.told
        yield
        self.world.lagging = step.told

    def _publish_away(self, step: steps.PublishBindings) -> None:
        assert self.world.published == step.databases, f"{step.region} is told of databases that home does not know"
        self.world.away[step.region] = snapshot.Away(step.region, step.databases, step.told, is_published=True)

    def form_cache(self, step: steps.FormCache) -> Moments:
        for name in step.servers:
            assert self.world.runs(name, "valkey")
            if step.begins_anew:
                assert name not in self.world.told.caches, f"the app uses {name}"
                self.world.forget_files(name)
                self.world.clusters[name] = (name,)
                yield
        for name in step.servers:
            self.world.clusters[name] = step.servers
            yield

    def move_sessions(self, step: steps.MoveSessions) -> Moments:
        self.world.lagging = self.world.told
        source, target = self.world.place_of(step.source), self.world.place_of(step.target)
        assert source is not None
        assert target is not None
        assert step.target in ("database", self.world.told.store)
        for session in sorted(self.world.sessions.get(source, ())):
            self.world.sessions.setdefault(target, set()).add(session)
            self.world.sessions[source].discard(session)
            if session % 5 == 0:
                yield
        told = self.world.told
        former = {one: None for one in (*told.former_stores, step.target) if one not in (step.source, told.store)}
        self.world.told = dataclasses.replace(told, former_stores=tuple(former))
        yield
        self.world.lagging = self.world.told

    def drain_queue(self, step: steps.DrainQueue) -> Moments:
        told = self.world.told
        source, target = ("database", told.queues) if step.source == "postgres" else (told.queues, "database")
        assert self.world.has_quorum(told.queues)
        for message in sorted(self.world.messages.get(source, ())):  # type: ignore[call-overload]
            if message in self.world.messages[source]:  # type: ignore[index]
                self.world.messages[source].discard(message)  # type: ignore[index]
                self.world.messages.setdefault(target, set()).add(message)  # type: ignore[arg-type]
            if message % 5 == 0:
                yield
        queues = told.queues if told.transport == "nats" else ()
        self.world.told = dataclasses.replace(told, former_transport="", queues=queues)
        yield

    def migrate(self, _: steps.Migrate) -> Moments:
        assert self.world.primary is not None
        assert not self.world.primary.is_fenced
        self.world.is_migrated = True
        yield


ACTIONS: dict[type[steps.Step], Callable[[Stage, Any], Moments]] = {
    steps.StartServers: Stage.start_servers,
    steps.StartProcesses: Stage.start_processes,
    steps.StopProcesses: Stage.stop_processes,
    steps.ReplaceProcesses: Stage.replace_processes,
    steps.ConfigureBalancer: Stage.configure,
    steps.RemoveServers: Stage.remove_servers,
    steps.DiscardData: Stage.discard,
    steps.InitialiseDatabase: Stage.initialise,
    steps.CopyDatabase: Stage.copy,
    steps.SwitchDatabase: Stage.switch,
    steps.UnfenceDatabase: Stage.unfence,
    steps.TakeOverDatabase: Stage.take_over,
    steps.ReleaseDatabase: Stage.release,
    steps.JoinReplicas: Stage.join,
    steps.SwitchOver: Stage.switch_over,
    steps.RestartReplica: simulated_sizes.restart_replica,
    steps.RestartPrimary: simulated_sizes.restart_primary,
    steps.RemoveReplicas: Stage.remove_replicas,
    steps.ChangeSynchronous: Stage.change_synchronous,
    steps.PublishBindings: Stage.publish,
    steps.Migrate: Stage.migrate,
    steps.FollowHome: simulated_regions.follow_home,
    steps.MoveHome: simulated_regions.move_home,
    steps.FormCache: Stage.form_cache,
    steps.MoveSessions: Stage.move_sessions,
    steps.DrainQueue: Stage.drain_queue,
}


def asked(topology: tiers.Topology, revisions: Revisions | None = None) -> Revisions:
    """The revisions of a topology: what a cache or queue server is started with depends on how many there are."""
    wanted = layout.layout(topology)
    caches, queues = wanted.running("valkey"), wanted.running("nats")
    neighbours = collections.Counter(one.region for one in queues)
    by_count = {(one.name, "valkey"): "cluster" if len(caches) > 1 else "single" for one in caches}
    by_count |= {(one.name, "nats"): str(neighbours[one.region]) for one in queues}
    return {**by_count, **(revisions or {})}


def change(
    world: World,
    topology: tiers.Topology,
    revisions: Revisions | None = None,
    released: releases.Wanted = releases.NOTHING,
) -> Iterator[tuple[steps.Step, bool]]:
    """Plan and carry out until nothing is left to do; yields each moment's step, and whether the step is done."""
    revisions = asked(topology, revisions)
    for _ in range(6):
        made = plan.make(topology, world.look(topology), revisions, released)
        if made.is_empty:
            return
        for step in made.steps:
            for _ in perform(world, step, topology, revisions, released):
                yield step, False
            yield step, True
            if isinstance(step, steps.MoveHome):
                break  # who is promoted is foreseen by nobody: as the runtime does after each step, look again
    rest = plan.make(topology, world.look(topology), revisions, released)
    assert rest.is_empty, f"there is still to do: {[step.title for step in rest.steps]}"


def reach(
    world: World,
    topology: tiers.Topology,
    revisions: Revisions | None = None,
    released: releases.Wanted = releases.NOTHING,
) -> list[steps.Step]:
    """Change the world to this topology without an interruption. Returns the steps."""
    return [step for step, is_done in change(world, topology, revisions, released) if is_done]


def assert_arrived(world: World, topology: tiers.Topology) -> None:
    """The world is what the topology asks for, nothing less and nothing more; planning is not asked."""
    wanted = layout.layout(topology)
    alive = {
        (name, process)
        for name, server in world.servers.items()
        for process, state in server.processes.items()
        if state is not STOPPED
    }
    homes = {server.name for server in wanted.databases}
    assert {server.name for server in wanted.servers} == set(world.servers)
    assert {(server.name, process.name) for server in wanted.servers for process in server.processes} == alive
    assert homes == set(world.copies) == set(world.published)
    assert world.primary is not None
    assert not world.primary.is_fenced
    assert len(homes) - 1 == len([copy for copy in world.copies.values() if world.is_following(copy)])
    assert topology.database.synchronous == world.is_synchronous
    size = (topology.database.memory_bytes, topology.database.max_connections)
    assert {size} == {copy.size for copy in world.copies.values()}
    assert not any(copy.is_fenced for copy in world.copies.values())
    web = {server.name for server in wanted.running("granian")}
    assert all(web == world.doors[door.name] for door in wanted.balancers)
    assert_told(world, topology)


def assert_told(world: World, topology: tiers.Topology) -> None:
    """The app knows its cache and its queue, and nothing is left in places that it does not know."""
    wanted = layout.layout(topology)
    caches = tuple(one.name for one in wanted.running("valkey"))
    queues = tuple(one.name for one in wanted.of(topology.home).running("nats"))
    assert (caches, queues) == (world.told.caches, world.told.queues)
    edges = {one.name for one in wanted.running("varnish")}
    assert all(
        edges == used == set(world.told.edges) for used in (world.door_edges[one.name] for one in wanted.balancers)
    )
    assert topology.sessions.store == world.told.store
    assert ("nats" if queues else "postgres", "") == (world.told.transport, world.told.former_transport)
    assert ("workers" if topology.workers else "web") == world.told.handled_by
    assert all(caches == world.clusters[name] for name in caches)
    stores = [world.place_of(store) for store in (world.told.store, *world.told.former_stores)]
    assert {place for place, kept in world.sessions.items() if kept} <= set(stores)
    assert {place for place, kept in world.messages.items() if kept} <= {"database", queues}


def serving(topology: tiers.Topology) -> World:
    """A world in which this topology is up and takes requests."""
    world = World()
    reach(world, topology)
    world.is_serving = True
    world.moment()
    return world
