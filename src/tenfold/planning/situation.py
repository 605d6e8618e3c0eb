"""One moment of a change: what is wanted beside what is there, and the questions that the rules ask about the two.

Made by `planning/plan`, read by the rules (`database`, `serving`, `leaving`). It answers; it proposes no step.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tenfold.observation import snapshot
from tenfold.planning import releases, steps
from tenfold.topology import layout, tiers

ALIVE = (snapshot.ProcessState.STARTING, snapshot.ProcessState.READY, snapshot.ProcessState.UNREADY)
"""The states of a process that runs, well or not."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What is wanted, and what is there (or will be, once the steps before have been carried out)."""

    topology: tiers.Topology
    wanted: layout.Layout
    there: snapshot.Snapshot
    revisions: Mapping[steps.Target, str]
    """By process, the hash of the settings it should run with; a process that is not named is not compared."""
    released: releases.Wanted = releases.NOTHING
    """Which releases shall serve."""
    region: str = ""
    """The region that this is the situation of; everything above is that region's."""
    home: str = ""
    """The region that the data is at home in."""
    everywhere: "Mapping[str, Situation]" = field(default_factory=dict)
    """The situations of all regions."""

    # regions

    @property
    def is_home(self) -> bool:
        """Whether the data is at home in this region."""
        return self.region == self.home

    @property
    def at_home(self) -> "Situation":
        """The situation of the home region."""
        return self.everywhere.get(self.home, self)

    # servers and processes

    def has_power(self, server: str) -> bool:
        """Whether a process can be started on it."""
        found = self.there.server(server)
        return found is not None and found.state is snapshot.ServerState.RUNNING

    def is_killed(self, server: str) -> bool:
        """Whether a person cut its power: nothing may start there."""
        found = self.there.server(server)
        return found is not None and found.state is snapshot.ServerState.KILLED

    def runs(self, server: str, engine: str) -> bool:
        """Whether this engine is ready there."""
        found = self.there.server(server)
        return found is not None and found.runs(engine)

    def missing(self, engine: str, on: Iterable[str]) -> tuple[steps.Target, ...]:
        """The processes of this engine that are not ready, on servers that have power."""
        return tuple((server, engine) for server in on if self.has_power(server) and not self.runs(server, engine))

    def unwanted(self, engine: str) -> tuple[steps.Target, ...]:
        """The processes of this engine that run and that the topology does not ask for."""
        wanted = {server.name for server in self.wanted.running(engine)}
        return tuple(
            (server.name, process.name)
            for server in self.there.servers
            for process in server.processes
            if server.name not in wanted and process.engine == engine and is_alive(server, process)
        )

    def outdated(self, engine: str, on: Iterable[str]) -> tuple[steps.Target, ...]:
        """The ready processes of this engine that run with other settings than they should."""
        found = ((server, self.there.server(server)) for server in on if self.runs(server, engine))
        return tuple(
            (name, process.name)
            for name, server in found
            if server is not None and (process := server.process(engine)) and self._differs(name, process)
        )

    def _differs(self, server: str, process: snapshot.Process) -> bool:
        has_other_release = process.engine in layout.APP_ENGINES and self.runs_other_release(server)
        return has_other_release or process.revision != self.revisions.get((server, process.name), process.revision)

    # releases

    @property
    def assigned(self) -> Mapping[str, str]:
        """By web or worker server, the release that it shall run; empty when nobody knows of releases."""
        return releases.assign(self.released, self.wanted, self.there.releases())

    def runs_other_release(self, server: str) -> bool:
        """Whether a web server or a worker runs another release than it should."""
        runs = self.there.releases().get(server, "")
        return runs != self.assigned.get(server, runs)

    # cache and queue

    @property
    def caches(self) -> tuple[str, ...]:
        """The servers that shall be the cache."""
        return tuple(server.name for server in self.wanted.running("valkey"))

    @property
    def needed_caches(self) -> tuple[str, ...]:
        """The servers whose cache has to run now: those that the app still uses come before others in their place."""
        return _needed(self.there.told.caches, self.caches, keeps=self.there.told.keeps_sessions_in_cache)

    @property
    def stale_caches(self) -> tuple[str, ...]:
        """Wanted cache servers that nobody uses and that were started with other settings than they should have."""
        return () if self.there.told.caches else self._started_otherwise("valkey", self.caches)

    def is_formed(self, names: tuple[str, ...]) -> bool:
        """Whether these cache servers are one cluster, with nobody else in it and with every slot served."""
        nodes = [node for name in names if (node := self.there.cache(name))]
        if not nodes or not all(node.is_complete and set(node.members) <= set(names) for node in nodes):
            return False
        return len(names) == 1 or len([node for node in nodes if node.slots]) == len(names) // 2

    @property
    def queues(self) -> tuple[str, ...]:
        """The servers that shall be the queue."""
        return tuple(server.name for server in self.wanted.running("nats"))

    @property
    def needed_queues(self) -> tuple[str, ...]:
        """The servers whose queue has to run now: those that the app still uses come before others in their place.

        Of this region alone: while the home moves, the app still uses another region's.
        """
        own = tuple(name for name in self.there.told.queues if self.there.server(name) or self.wanted.server(name))
        return _needed(own, self.queues, keeps=self.there.told.keeps_messages_in_nats)

    @property
    def stale_queues(self) -> tuple[str, ...]:
        """Wanted queue servers that nobody uses and that were started with other settings than they should have."""
        return () if self.there.told.queues else self._started_otherwise("nats", self.queues)

    def has_queue_quorum(self, names: tuple[str, ...]) -> bool:
        """Whether messages can be given to these queue servers, in whichever region: more than half are ready."""
        views = (self, *self.everywhere.values())
        return 2 * len([name for name in names if any(one.runs(name, "nats") for one in views)]) > len(names)

    def has_lost_queue(self, names: tuple[str, ...]) -> bool:
        """Whether these queue servers were another region's and none of them has power any more, or is there."""
        there = [server for one in self.everywhere.values() for name in names if (server := one.there.server(name))]
        is_elsewhere = bool(names) and not set(names) & set(self.queues)
        return is_elsewhere and all(server.state is snapshot.ServerState.KILLED for server in there)

    def is_leaving(self, server: str) -> bool:
        """Whether the app still uses this cache or queue server and shall use others: until then it runs as it did."""
        leaves_cache = self.needed_caches != self.caches and server in self.there.told.caches
        leaves_queue = self.needed_queues != self.queues and server in self.there.told.queues
        return leaves_cache or leaves_queue or (server in self.queues and self._waits_for_home)

    @property
    def _waits_for_home(self) -> bool:
        """Whether queue servers here copy those that the app is about to leave: they begin anew with the new ones."""
        return not self.is_home and self.at_home.there.told.queues not in ((), self.at_home.queues)

    def _started_otherwise(self, engine: str, on: Iterable[str]) -> tuple[str, ...]:
        """Alive or not: what such a process left on its server would be in the way of another one."""
        found = [server for name in on if (server := self.there.server(name))]
        return tuple(one.name for one in found if (process := one.process(engine)) and self._differs(one.name, process))

    @property
    def workers(self) -> tuple[str, ...]:
        """The servers that shall handle messages."""
        return tuple(server.name for server in self.wanted.running("worker"))

    @property
    def ready_workers(self) -> tuple[str, ...]:
        """Those of them that do."""
        return tuple(name for name in self.workers if self.runs(name, "worker"))

    # the database

    @property
    def primary(self) -> snapshot.DatabaseNode | None:
        """The primary that answers."""
        return self.there.primary

    @property
    def wants_patroni(self) -> bool:
        """Whether Patroni shall run the database."""
        return self.topology.has_failover

    @property
    def homes(self) -> tuple[str, ...]:
        """The servers that shall hold the data, in order."""
        return tuple(server.name for server in self.wanted.databases)

    @property
    def target(self) -> str | None:
        """Where the primary goes when its server is not one of the homes: the first home with power."""
        return next((name for name in self.homes if self.has_power(name)), None)

    @property
    def members(self) -> tuple[str, ...]:
        """The servers whose copy shall be in Patroni's hands, while it is Patroni that runs the primary.

        On the way back to plain PostgreSQL it is one: the home if it already is a member, else wherever the primary is.
        """
        if self.wants_patroni:
            return self.homes
        current = tuple(node.server for node in self.there.databases if self.manager_of(node) == "patroni")
        if self.target is None:
            return current
        if self.target in current:
            return (self.target,)
        return (self.primary.server,) if self.primary else current

    @property
    def holder(self) -> snapshot.DatabaseNode | None:
        """The copy that is furthest along, whether it runs or not: the newest timeline, and on it the primary.

        A standby that runs outside Patroni cannot be the primary that is looked for, unless there is no other copy.
        """
        nodes = self.there.databases
        possible = [node for node in nodes if not (node.manager == "postgres" and node.role == "standby")]
        return max(
            possible or nodes,
            key=lambda node: (node.timeline, node.role == "primary", node.lsn, node.server in self.homes),
            default=None,
        )

    def manager_of(self, node: snapshot.DatabaseNode) -> Literal["postgres", "patroni"]:
        """Who runs a copy, or ran it last."""
        known = node.manager or node.last_manager
        if known:
            return known
        server = self.there.server(node.server)
        is_patroni = server is not None and server.process("patroni") and not server.process("postgres")
        return "patroni" if is_patroni else "postgres"

    def is_managed(self, by: Literal["postgres", "patroni"]) -> bool:
        """Whether there is a primary, run by this manager."""
        return self.primary is not None and self.manager_of(self.primary) == by

    def is_streaming(self, server: str) -> bool:
        """Whether a standby there follows its primary: it receives from it, and replays what it gets."""
        node = self.there.database(server)
        if node is None or node.role != "standby":
            return False
        return node.is_reachable and node.is_streaming and not node.is_paused

    @property
    def is_ready_to_switch(self) -> bool:
        """Whether a plain primary has to move, and the standby it moves to follows it already."""
        if self.primary is None or self.target is None or not self.is_managed("postgres"):
            return False
        return self.primary.server not in self.homes and self.is_streaming(self.target)

    @property
    def has_settled(self) -> bool:
        """Whether the primary is where and under whom it shall be: only then may other copies go."""
        manager: Literal["postgres", "patroni"] = "patroni" if self.wants_patroni else "postgres"
        return self.primary is not None and self.primary.server in self.homes and self.is_managed(manager)

    @property
    def uses_patroni(self) -> bool:
        """Whether the data that is there cannot be run without Patroni and its coordination."""
        if self.primary is not None:
            return self.is_managed("patroni")
        return self.holder is not None and self.manager_of(self.holder) == "patroni"

    @property
    def coordinators(self) -> tuple[str, ...]:
        """The servers whose etcd is needed: the wanted ones, and those there as long as Patroni runs the data."""
        names = {server.name: None for server in self.wanted.running("etcd")}
        if self.uses_patroni and not self.wants_patroni:
            names |= {server.name: None for server in self.there.servers if server.tier == "coordination"}
        return tuple(names)

    @property
    def has_coordination(self) -> bool:
        """Whether more than half of the etcd processes are ready."""
        ready = [name for name in self.coordinators if self.runs(name, "etcd")]
        return 2 * len(ready) > len(self.coordinators)

    # requests

    @property
    def name_servers(self) -> tuple[str, ...]:
        """The servers that shall answer for the domain."""
        return tuple(server.name for server in self.wanted.running("powerdns"))

    @property
    def front_doors(self) -> tuple[str, ...]:
        """The servers that shall hold the front door."""
        return tuple(server.name for server in self.wanted.balancers)

    @property
    def web(self) -> tuple[str, ...]:
        """The servers that shall run the app, of all groups."""
        return tuple(server.name for server in self.wanted.running("granian"))

    @property
    def ready_web(self) -> tuple[str, ...]:
        """Those of them that answer."""
        return tuple(name for name in self.web if self.runs(name, "granian"))

    def routed(self) -> frozenset[str]:
        """Every web server that some living balancer gives requests to."""
        living = (one for one in self.there.balancers if self._lives(one.server))
        return frozenset[str]().union(*(one.routes_to() for one in living))

    @property
    def edges(self) -> tuple[str, ...]:
        """The servers that shall be edges."""
        return tuple(server.name for server in self.wanted.running("varnish"))

    def edges_of(self, balancer: str) -> tuple[str, ...]:
        """The edges that a balancer shall give requests to: those of its region that the app tells of purges."""
        door, told = self.wanted.server(balancer), self.there.told.edges
        edges = self.wanted.running("varnish") if door else ()
        return tuple(one.name for one in edges if one.name in told and door and one.region == door.region)

    def edges_used(self) -> frozenset[str]:
        """Every edge that some living balancer gives requests to."""
        living = (one for one in self.there.balancers if self._lives(one.server))
        return frozenset[str]().union(*(one.edges_used() for one in living))

    def _lives(self, balancer: str) -> bool:
        server = self.there.server(balancer)
        if server is None:
            return False
        process = server.process("haproxy")
        return process is not None and is_alive(server, process)

    @property
    def is_served(self) -> bool:
        """Whether a front door that stays gives requests to a web server that stays and answers."""
        ready = set(self.ready_web)
        doors = (self.there.balancer(name) for name in self.front_doors if self.runs(name, "haproxy"))
        return any(door and ready & door.routes_to() for door in doors)


def _needed(told: tuple[str, ...], wanted: tuple[str, ...], *, keeps: bool) -> tuple[str, ...]:
    if not told or told == wanted:
        return wanted
    return told if keeps else ()


def is_alive(server: snapshot.Server, process: snapshot.Process) -> bool:
    """Whether a process runs, well or not."""
    return server.state is snapshot.ServerState.RUNNING and process.state in ALIVE
