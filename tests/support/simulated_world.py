"""A service that exists only as values: servers, copies of the data, front doors; and what must hold at every moment.

It is written from what the steps promise, not from `planning/effects`, and knows the half-done states that those
leave out. `simulated_steps` moves it; `World.look` gives the snapshot that planning gets to see.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from support import simulated_patroni
from tenfold.observation import snapshot
from tenfold.topology import layout, tiers

ServerState = snapshot.ServerState
ProcessState = snapshot.ProcessState
READY, STARTING, STOPPED = ProcessState.READY, ProcessState.STARTING, ProcessState.STOPPED


Cluster = tuple[str, ...]
"""Servers that count themselves to one cache or queue: in a cache the first half are primaries."""

Size = tuple[int, int]
"""Memory in bytes, and connections."""

Place = Literal["database", "client"] | Cluster
"""What holds sessions or messages. A client holds its own: a token, or a memory that its balancer leads it to."""


@dataclass
class Copy:
    """A whole copy of the data. `writes` counts the commits that it holds, in their one order."""

    server: str
    timeline: int = 1
    writes: int = 0
    is_standby: bool = False
    is_fenced: bool = False
    is_patronis: bool = False
    size: "Size" = (0, 0)
    """What it was started with."""
    epoch: int = 0
    """How often the home had moved when its primary was promoted: of two primaries the one of the newer home counts."""
    logged: int = 0
    """The connections of its primary, as its files say: with fewer it does not start as a standby."""
    is_paused: bool = False
    """It receives from a primary with more connections than it has, and replays no more until it is started again."""
    is_clean: bool = False
    """It was a primary when it was stopped, politely: its files hold all that it ever acknowledged, and say so."""
    is_restarting: bool = False
    """In the hands of its Patroni, which leads meanwhile if it led before, and is done after some moments."""
    moments_away: int = 0


@dataclass
class Server:
    spec: layout.Server
    state: ServerState = ServerState.RUNNING
    processes: dict[str, ProcessState] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    release: str = ""
    """What its web process runs, or ran last."""

    def clone(self) -> "Server":
        return Server(self.spec, self.state, dict(self.processes), dict(self.revisions), self.release)

    @property
    def has_power(self) -> bool:
        return self.state is ServerState.RUNNING

    def runs(self, name: str) -> bool:
        return self.has_power and self.processes.get(name) is READY


@dataclass
class World:
    """All of it. `tells_stopped` is false for an observer that cannot read the files of a stopped copy."""

    servers: dict[str, Server] = field(default_factory=dict)
    copies: dict[str, Copy] = field(default_factory=dict)
    doors: dict[str, set[str]] = field(default_factory=dict)
    drained: set[str] = field(default_factory=set)
    door_revisions: dict[str, str] = field(default_factory=dict)
    door_edges: dict[str, set[str]] = field(default_factory=dict)
    """By front door, the edges that it gives requests to."""
    witnesses: set[str] = field(default_factory=set)
    following: dict[str, str] = field(default_factory=dict)
    """By region, the one that its databases follow, as its own coordination says: nobody there is promoted."""
    epoch: int = 0
    shared_sizes: dict[str, Size] = field(default_factory=dict)
    """What the members of a region's Patroni share: the next of them that starts gets it."""
    is_synchronous: bool = False
    acknowledged: int = 0
    published: tuple[str, ...] = ()
    is_published: bool = False
    away: dict[str, snapshot.Away] = field(default_factory=dict)
    """What the app in other regions is told."""
    is_migrated: bool = False
    is_serving: bool = False
    """Whether requests come in: from then on no moment may go by without a front door that works."""
    has_accidents: bool = False
    """Whether servers are killed: then nobody expects the front door to work, or the app to know a primary at once."""
    tells_stopped: bool = True
    told: snapshot.Told = field(default_factory=snapshot.Told)
    lagging: snapshot.Told = field(default_factory=snapshot.Told)
    """What some processes still go by: they have not read the bindings yet."""
    clusters: dict[str, Cluster] = field(default_factory=dict)
    """By server with a cache or a queue, the cluster that its files belong to, whether it runs or not."""
    sessions: dict[Place, set[int]] = field(default_factory=dict)
    """Where which visitor's session is."""
    messages: dict[Place, set[int]] = field(default_factory=dict)
    """Where which message waits."""
    visitors: int = 0
    published_messages: int = 0
    handled: set[int] = field(default_factory=set)

    def clone(self) -> "World":
        """Another world like this one, with a future of its own."""
        servers = {name: one.clone() for name, one in self.servers.items()}
        copies = {name: dataclasses.replace(one) for name, one in self.copies.items()}
        doors = {name: set(routes) for name, routes in self.doors.items()}
        sets = {"drained": set(self.drained), "witnesses": set(self.witnesses)}
        sets |= {"handled": set(self.handled)}
        rest = {"door_revisions": dict(self.door_revisions), "clusters": dict(self.clusters)}
        rest |= {"shared_sizes": dict(self.shared_sizes), "away": dict(self.away), "following": dict(self.following)}
        rest["door_edges"] = {name: set(used) for name, used in self.door_edges.items()}
        rest["sessions"] = {place: set(kept) for place, kept in self.sessions.items()}
        rest["messages"] = {place: set(kept) for place, kept in self.messages.items()}
        return dataclasses.replace(self, servers=servers, copies=copies, doors=doors, **sets, **rest)

    # what runs

    def runs(self, server: str, name: str) -> bool:
        return server in self.servers and self.servers[server].runs(name)

    def running(self, name: str) -> set[str]:
        return {server for server, one in self.servers.items() if one.processes.get(name) is READY and one.has_power}

    def is_up(self, copy: Copy) -> bool:
        return self.runs(copy.server, "patroni" if copy.is_patronis else "postgres") and not copy.is_restarting

    @property
    def primaries(self) -> list[Copy]:
        return [copy for copy in self.copies.values() if self.is_up(copy) and not copy.is_standby]

    @property
    def primary(self) -> Copy | None:
        return max(self.primaries, key=lambda copy: (copy.epoch, copy.timeline), default=None)

    def is_following(self, copy: Copy) -> bool:
        primary = self.primary
        if primary is None or not self.is_up(copy) or not copy.is_standby or copy.is_patronis != primary.is_patronis:
            return False
        region = self.region_of(copy.server)
        return self.following.get(region, region) == self.region_of(primary.server)

    def members(self, region: str) -> list[Copy]:
        """A region's copies in the hands of its Patroni."""
        return [copy for copy in self.copies.values() if copy.is_patronis and self.region_of(copy.server) == region]

    def has_coordination(self, region: str) -> bool:
        members = [
            one for one in self.servers.values() if one.spec.tier == "coordination" and one.spec.region == region
        ]
        alive = [one for one in members if one.state is ServerState.RUNNING and "etcd" in one.processes]
        return 2 * len([one for one in alive if one.processes["etcd"] in (READY, STARTING)]) > len(members)

    # one moment

    def moment(self) -> None:
        """Time goes by: coordination answers, Patroni elects, standbys follow, a write is made; then all is checked."""
        simulated_patroni.restart(self)
        simulated_patroni.elect(self)
        self._follow()
        self._write()
        self._serve()
        self._check()

    def _serve(self) -> None:
        """A new visitor comes, an old one comes back, a message is published and one is handled."""
        if self.running("granian") and self.is_published and any(not copy.is_fenced for copy in self.primaries):
            self._visit()
            self._publish()
        self._handle()

    def _visit(self) -> None:
        place = self.place_of(self.told.store)
        if place is None:
            assert self.has_accidents, f"sessions go to the {self.told.store}, which cannot take them"
            return
        self.visitors += 1
        self.sessions.setdefault(place, set()).add(self.visitors)
        for one, other in ((self.told, self.lagging), (self.lagging, self.told)):
            met = f"one process writes sessions to the {one.store}, and another one looks in {other}"
            assert one.store in (other.store, *other.former_stores), met
        again = self.visitors // 2 or 1
        found = [one for store in (self.told.store, *self.told.former_stores) if (one := self.place_of(store))]
        holding = next((one for one in found if again in self.sessions.get(one, ())), None)
        assert holding is not None or self.has_accidents, f"visitor {again} is logged out: {self.sessions}, {self.told}"
        if holding is not None:
            self.sessions[holding].discard(again)
            self.sessions[place].add(again)

    def place_of(self, store: str) -> Place | None:
        """What holds the sessions of this store; None when it cannot be reached."""
        if store != "cache":
            return "database" if store == "database" else "client"
        cluster = self.clusters.get(self.told.caches[0], ()) if self.told.caches else ()
        return cluster if set(cluster) == set(self.told.caches) and self.serves(cluster) else None

    def serves(self, cluster: Cluster) -> bool:
        """Whether every slot of a cache has a server that runs."""
        half = max(1, len(cluster) // 2)
        pairs = [{cluster[number], cluster[(number + half) % len(cluster)]} for number in range(half)]
        return bool(cluster) and all(pair & self.running("valkey") for pair in pairs)

    def _publish(self) -> None:
        place: Place | None = "database"
        if self.told.transport == "nats":
            place = self.told.queues if self.has_quorum(self.told.queues) else None
        assert place is not None or self.has_accidents, "messages go to queue servers that cannot take them"
        if place is not None:  # else it waits in the outbox, which is the database's
            self.published_messages += 1
            self.messages.setdefault(place, set()).add(self.published_messages)

    def has_quorum(self, cluster: Cluster) -> bool:
        return 2 * len(set(cluster) & self.running("nats")) > len(cluster)

    def _handle(self) -> None:
        """Half of the time, so that some messages always wait."""
        if not self.running("granian" if self.told.handled_by == "web" else "worker"):
            assert self.has_accidents or not self.is_serving, "nobody handles messages"
            return
        for place in ["database", self.told.queues]:
            waiting = self.messages.get(place, set())  # type: ignore[call-overload]
            if waiting and self.published_messages % 2 and (place == "database" or self.has_quorum(self.told.queues)):
                self.handled.add(waiting.pop())

    def forget_files(self, name: str) -> None:
        """What a server held is gone, and with the last copy what its cluster held."""
        cluster = self.clusters.pop(name, ())
        left = [one for one in cluster if self.clusters.get(one) == cluster]
        half = max(1, len(cluster) // 2)
        pairs = [{cluster[number], cluster[(number + half) % len(cluster)]} for number in range(half) if cluster]
        if not all(pair & set(left) for pair in pairs):
            self.sessions.pop(cluster, None)
        if 2 * len(left) <= len(cluster):
            self.messages.pop(cluster, None)

    def shared_size(self, server: str) -> Size:
        return self.shared_sizes.get(self.region_of(server), (0, 0))

    def region_of(self, server: str) -> str:
        return self.servers[server].spec.region

    def running_or_starting(self, name: str) -> list[str]:
        states = (READY, STARTING)
        return [
            key
            for key, one in self.servers.items()
            if one.state is ServerState.RUNNING and one.processes.get(name) in states
        ]

    def _follow(self) -> None:
        """Standbys outside Patroni are one write behind, as long as their primary takes writes.

        One with fewer connections than its primary pauses, and replays what comes after only when it was started again.
        """
        primary = self.primary
        if primary is None:
            return
        for copy in self.copies.values():
            if self.is_following(copy) and not copy.is_paused:
                copy.timeline, copy.epoch = primary.timeline, primary.epoch
                copy.writes = primary.writes
                copy.logged = primary.logged
                copy.is_paused = copy.size[1] < copy.logged
        self.witnesses = {
            copy.server for copy in self.copies.values() if self.is_synchronous and self.is_following(copy)
        }

    def _write(self) -> None:
        """One commit on whatever takes one."""
        for copy in self.primaries:
            if copy.is_fenced:
                continue
            assert copy.writes == self.acknowledged, f"{copy.server} takes writes and has lost some"
            copy.writes += 1
            self._replicate(copy)
            self.acknowledged = copy.writes

    def _replicate(self, primary: Copy) -> None:
        """Under Patroni a commit is on its region's replicas before it is acknowledged; dead ones are struck off."""
        if not primary.is_patronis:
            assert not self.is_synchronous, "commits wait for replicas, and nobody strikes dead ones off"
            return
        for copy in self.members(self.region_of(primary.server)):
            if self.is_following(copy):
                copy.writes = primary.writes

    def _check(self) -> None:
        writable = [copy.server for copy in self.primaries if not copy.is_fenced]
        assert len(writable) <= 1, f"two primaries take writes: {writable}"
        newest = max((copy.epoch for copy in self.copies.values()), default=0)
        held = [copy.writes for copy in self.copies.values() if copy.epoch == newest]
        assert not held or max(held) == self.acknowledged, "writes lost"
        assert self.copies or not self.acknowledged, "the last copy of the data is gone"
        if self.running("granian") and writable and not self.has_accidents:
            assert writable[0] in self.published, f"the app does not know {writable[0]}, where writes go"
        there = set[int]().union(*self.sessions.values())
        assert set(range(1, self.visitors + 1)) <= there, "sessions lost"
        waiting = set[int]().union(*self.messages.values())
        assert set(range(1, self.published_messages + 1)) == waiting | self.handled, "messages lost"
        assert not waiting & self.handled, "messages doubled"
        if self.is_serving:
            self._check_doors()

    def _check_doors(self) -> None:
        doors = self.running("haproxy")
        assert doors, "no front door is open"
        for door in doors:
            assert self.doors[door] & self.running("granian"), f"{door} has nobody to give a request to"
            for told in (self.told, self.lagging):
                assert self.door_edges[door] <= set(told.edges), f"{door} uses edges that nobody tells of purges"

    # what planning sees

    def look(self, topology: tiers.Topology) -> snapshot.Snapshot:
        """The snapshot of this moment."""
        return snapshot.Snapshot(
            service=topology.service.name,
            network=NETWORK,
            servers=tuple(self._server(one, topology) for one in self.servers.values()),
            databases=tuple(self._node(copy) for copy in self.copies.values()),
            balancers=tuple(self._balancer(name) for name in sorted(self.running("haproxy"))),
            caches=tuple(self._cache(name) for name in sorted(self.running("valkey"))),
            published=self.published,
            told=self.told,
            is_synchronous=self.is_synchronous,
            is_migrated=self.is_migrated and self.primary is not None,
            is_published=self.is_published,
            away=tuple(self.away.values()),
        )

    def _cache(self, name: str) -> snapshot.CacheNode:
        cluster = self.clusters[name]
        half = max(1, len(cluster) // 2)
        is_single = self.servers[name].revisions.get("valkey") == "single"
        is_primary = cluster.index(name) < half or cluster[cluster.index(name) - half] not in self.running("valkey")
        return snapshot.CacheNode(
            name,
            role="primary" if is_primary else "replica",
            primary="" if is_primary else cluster[cluster.index(name) - half],
            slots=1 if is_primary and len(cluster) > 1 else 0,
            is_complete=is_single or (len(cluster) > 1 and self.serves(cluster)),
            members=cluster,
        )

    def _server(self, one: Server, topology: tiers.Topology) -> snapshot.Server:
        processes = tuple(
            snapshot.Process(
                name,
                name,
                self._state(one, name, state),
                revision=one.revisions.get(name, ""),
                release=one.release if name in layout.APP_ENGINES else "",
            )
            for name, state in one.processes.items()
        )
        return snapshot.Server(
            one.spec.name,
            layout.region_of(one.spec, topology),
            one.spec.tier,
            one.spec.address(NETWORK),
            one.state,
            processes,
        )

    def _state(self, server: Server, name: str, state: ProcessState) -> ProcessState:
        copy = self.copies.get(server.spec.name)
        if name == "patroni" and copy is not None and copy.is_restarting and state is READY:
            return ProcessState.UNREADY
        if server.state is ServerState.RUNNING or state is STOPPED:
            return state
        return ProcessState.FAILED

    def _node(self, copy: Copy) -> snapshot.DatabaseNode:
        is_up, manager = self.is_up(copy), "patroni" if copy.is_patronis else "postgres"
        is_told = is_up or self.tells_stopped
        return snapshot.DatabaseNode(
            server=copy.server,
            shard=0,
            manager=manager if self.runs(copy.server, manager) else "",  # type: ignore[arg-type]
            role=("standby" if copy.is_standby else "primary") if is_told else "",
            is_reachable=is_up,
            accepts_writes=is_up and not copy.is_standby and not copy.is_fenced,
            timeline=copy.timeline if is_told else 0,
            lsn=self._known_writes(copy) if is_told else 0,
            is_streaming=self.is_following(copy),
            is_paused=is_up and copy.is_paused,
            is_clean=not is_up and self.tells_stopped and copy.is_clean,
            is_fenced=is_told and copy.is_fenced,
            memory_bytes=copy.size[0] if is_up else 0,
            max_connections=copy.size[1] if is_up else 0,
            last_manager=manager if self.tells_stopped else "",  # type: ignore[arg-type]
        )

    def _known_writes(self, copy: Copy) -> int:
        """The files of a primary that died tell of its last checkpoint alone."""
        has_died = not (self.is_up(copy) or copy.is_standby or copy.is_clean or copy.is_restarting)
        return copy.writes // 2 if has_died else copy.writes

    def _balancer(self, name: str) -> snapshot.Balancer:
        backends = tuple(
            snapshot.Backend(server, "", "drain" if server in self.drained else "up")
            for server in sorted(self.doors[name] | self.drained)
        )
        edges = tuple(snapshot.Backend(edge, "", "up") for edge in sorted(self.door_edges[name]))
        return snapshot.Balancer(name, backends, self.door_revisions.get(name, ""), edges)

    def stop_copy(self, server: str) -> None:
        """A primary that is stopped politely sends everything first, and its files say so."""
        copy = self.copies.get(server)
        if copy is None or not self.is_up(copy):
            return
        for other in self.copies.values():
            if copy is self.primary and self.is_following(other) and not other.is_paused:
                other.writes = copy.writes
        copy.is_clean = not copy.is_standby

    # what people and accidents do

    def kill(self, name: str) -> None:
        """The power cut of `tenfold server kill`."""
        self.has_accidents, self.is_serving = True, False
        self.servers[name].state = ServerState.KILLED

    def start(self, name: str) -> None:
        """`tenfold server start`: the server has power, and its processes wait for a plan."""
        server = self.servers[name]
        server.state = ServerState.RUNNING
        server.processes = dict.fromkeys(server.processes, STOPPED)

    def down(self) -> None:
        """`tenfold down`: everything stops politely, standbys first; the data stays."""
        self.is_serving = False
        for server in self.servers.values():
            if server.state is ServerState.RUNNING:
                self.stop_copy(server.spec.name)
                server.state = ServerState.STOPPED
                server.processes = dict.fromkeys(server.processes, STOPPED)


NETWORK = 66
