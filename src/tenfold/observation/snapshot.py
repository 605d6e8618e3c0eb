"""The snapshot: every server, process, database node and balancer as they were at one moment.

Made by `runtime/observe` (and by tests); read by planning, controllers, `tenfold status`. Immutable.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from tenfold.topology import layout


class ServerState(StrEnum):
    """What a server is doing."""

    RUNNING = "running"
    STOPPED = "stopped"
    """Known, but without power: it was stopped or died, and is started again when wanted."""
    KILLED = "killed"
    """A person cut its power; it stays off until `tenfold server start`."""


class ProcessState(StrEnum):
    """What a process is doing."""

    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    """Was ready, still runs, and fails its probe now."""
    STOPPED = "stopped"
    FAILED = "failed"
    """Died or never became ready; restarted after a backoff."""


Manager = Literal["postgres", "patroni", ""]


@dataclass(frozen=True, slots=True)
class Process:
    """One process. `pid` is 0 when it does not run."""

    name: str
    engine: str
    state: ProcessState
    pid: int = 0
    role: str = ""
    detail: str = ""
    restarts: int = 0
    revision: str = ""
    """A hash of the configuration and command it was started with."""
    release: str = ""
    """Of a web server or a worker, the release that it runs, or ran last."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server and its processes."""

    name: str
    region: str
    tier: str
    address: str
    state: ServerState
    processes: tuple[Process, ...] = ()

    def process(self, engine: str) -> Process | None:
        """The process of this engine, or None."""
        return next((one for one in self.processes if one.engine == engine), None)

    @property
    def app(self) -> Process | None:
        """The process that runs the app here, as a web server or a worker; or None."""
        return next((one for one in self.processes if one.engine in layout.APP_ENGINES), None)

    def runs(self, engine: str) -> bool:
        """Whether the server has power and its process of this engine is ready."""
        process = self.process(engine)
        return self.state is ServerState.RUNNING and process is not None and process.state is ProcessState.READY


@dataclass(frozen=True, slots=True)
class DatabaseNode:
    """One whole copy of a shard's data on a server; a folder that is still being filled is none.

    Of a stopped copy, too, the files tell much: `standby.signal` its role, and the newest of the control file
    and the history files its timeline. Planning needs both to start the right one.
    """

    server: str
    shard: int
    manager: Manager
    """Who runs it now; empty: data without a process."""
    role: Literal["primary", "standby", ""]
    """What it last said it was, or what its files say; empty: unknown."""
    is_reachable: bool
    accepts_writes: bool = False
    """A primary whose new transactions may write (false while it is fenced for a switch)."""
    is_fenced: bool = False
    """New transactions are read-only, on a standby too, or will be when it runs again: a switch was prepared there."""
    timeline: int = 0
    lsn: int = 0
    """Flushed (primary) or replayed (standby)."""
    received_lsn: int = 0
    """Flushed, and by a standby perhaps not replayed yet: what it has when it is promoted. 0: unknown."""
    is_streaming: bool = False
    """A standby that receives from its primary."""
    is_paused: bool = False
    """A standby that replays no more: its primary has more connections than it was started with."""
    is_clean: bool = False
    """It does not run, and was a primary when it was stopped cleanly: `lsn` is the last that it ever acknowledged."""
    last_manager: Literal["postgres", "patroni", ""] = ""
    """Who ran it last, when nobody does now; empty: unknown."""
    connections: int = 0
    """Sessions of clients."""
    memory_bytes: int = 0
    """The memory (`shared_buffers`) that it runs with; 0: unknown, it does not run."""
    max_connections: int = 0
    """The connections that it runs with; 0: unknown."""
    lag_bytes: int | None = None
    """A standby's: what it has not replayed of what the primary has flushed; None: not known."""
    lag_milliseconds: float | None = None
    """A standby's: for how long the primary has been past what it holds; None: not known."""
    synchronous_standbys: int = 0
    """A primary's: the standbys, of those that stream from it, that a commit may wait for."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A web server as one balancer sees it."""

    server: str
    group: str
    state: Literal["up", "down", "drain", "maint"]
    sessions: int = 0


@dataclass(frozen=True, slots=True)
class Balancer:
    """What one balancer routes to."""

    server: str
    backends: tuple[Backend, ...] = ()
    revision: str = ""
    """A hash of the configuration it runs with, its lists of web servers and edges left out."""
    edges: tuple[Backend, ...] = ()
    """The edges that it knows; their group is empty."""

    def routes_to(self) -> frozenset[str]:
        """The web servers that it gives requests to."""
        return frozenset(one.server for one in self.backends if one.state in ("up", "down"))

    def edges_used(self) -> frozenset[str]:
        """The edges that it gives requests to."""
        return frozenset(one.server for one in self.edges if one.state in ("up", "down"))


Store = Literal["database", "cache", "token", "memory"]
Transport = Literal["postgres", "nats"]


@dataclass(frozen=True, slots=True)
class CacheNode:
    """One cache server that answers."""

    server: str
    role: Literal["primary", "replica"]
    primary: str = ""
    """A replica's: the server that it copies; empty: none of ours."""
    slots: int = 0
    """A primary's: how many of the cluster's slots it has."""
    is_complete: bool = False
    """Whether it sees every slot served; a single server always does."""
    members: tuple[str, ...] = ()
    """The servers that it counts to its cluster, itself included."""
    used_bytes: int = 0
    most_bytes: int = 0


@dataclass(frozen=True, slots=True)
class QueueNode:
    """One queue server that answers."""

    server: str
    is_leader: bool = False
    """Whether it leads the servers' meta group."""
    has_quorum: bool = False
    """Whether it knows a leader: messages can be stored."""
    stored_bytes: int = 0
    messages: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """What the app is told of, beside its database nodes: where to look for what, and who does what."""

    edges: tuple[str, ...] = ()
    """Every edge that may hold something, to be told of purges."""
    caches: tuple[str, ...] = ()
    """The cache servers; empty: each process has its own cache alone."""
    store: Store = "database"
    """Where sessions are written."""
    former_stores: tuple[Store, ...] = ()
    """Where sessions may be still, and are looked for as well."""
    queues: tuple[str, ...] = ()
    """The queue servers."""
    transport: Transport = "postgres"
    """What messages are given to."""
    former_transport: Transport | Literal[""] = ""
    """What may hold messages still, and is listened to as well."""
    handled_by: Literal["web", "workers"] = "web"
    """Who runs the subscribers."""
    witnesses: tuple[str, ...] = ()
    """Regions of which another than the primary's must have a commit before it counts; empty: none must."""

    @property
    def keeps_sessions_in_cache(self) -> bool:
        """Whether some sessions are, or may be, on the cache servers alone."""
        return "cache" in (self.store, *self.former_stores)

    @property
    def keeps_messages_in_nats(self) -> bool:
        """Whether some messages are, or may be, on the queue servers alone."""
        return "nats" in (self.transport, self.former_transport)


NOTHING_TOLD = Told()
"""What an app goes by that has a database and nothing else."""


@dataclass(frozen=True, slots=True)
class Releases:
    """The releases of the app, by version; empty: there is none."""

    current: str = ""
    former: str = ""
    """What served before the current one: what a rollback goes back to."""
    canary: str = ""
    percent: float = 0.0
    """The share of the requests that the canary gets."""
    kept: tuple[str, ...] = ()
    """All that there are, the oldest first."""


@dataclass(frozen=True, slots=True)
class Away:
    """What the app of a region away from home is told; as `Snapshot` has it for the home region."""

    region: str
    published: tuple[str, ...] = ()
    told: Told = NOTHING_TOLD
    is_published: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything there is, at one moment."""

    service: str
    network: int
    """The second number of the service's 127.N.0.0/16."""
    servers: tuple[Server, ...] = ()
    databases: tuple[DatabaseNode, ...] = ()
    balancers: tuple[Balancer, ...] = ()
    caches: tuple[CacheNode, ...] = ()
    """The cache servers that answer."""
    queues: tuple[QueueNode, ...] = ()
    """The queue servers that answer."""
    published: tuple[str, ...] = ()
    """The database servers that the app's bindings name; empty: the app was never told anything."""
    told: Told = NOTHING_TOLD
    """What else the app's bindings say."""
    is_synchronous: bool = False
    """Whether commits wait for a replica."""
    is_migrated: bool = False
    """Whether the migrations in the service's folder have all run."""
    is_published: bool = False
    """Whether the bindings file holds the service settings of the topology (its database nodes aside)."""
    away: tuple[Away, ...] = ()
    """What the app of the other regions is told; what is said of bindings above is the home region's."""
    released: Releases = Releases()
    """The releases that there are; which web server runs which, its process says."""

    def of(self, region: str, *, is_home: bool) -> "Snapshot":
        """The same moment as one region sees it: its own servers, and what its app is told."""
        own = tuple(one for one in self.servers if one.region == region)
        names = {one.name for one in own}
        bound = next((one for one in self.away if one.region == region), Away(region))
        bound = Away(region, self.published, self.told, self.is_published) if is_home else bound
        return dataclasses.replace(
            self,
            servers=own,
            databases=tuple(one for one in self.databases if one.server in names),
            balancers=tuple(one for one in self.balancers if one.server in names),
            caches=tuple(one for one in self.caches if one.server in names),
            queues=tuple(one for one in self.queues if one.server in names),
            away=(),
            published=bound.published,
            told=bound.told,
            is_published=bound.is_published,
        )

    def server(self, name: str) -> Server | None:
        """The server of this name, or None."""
        return next((one for one in self.servers if one.name == name), None)

    def running(self, engine: str) -> tuple[str, ...]:
        """Names of the servers on which this engine is ready."""
        return tuple(one.name for one in self.servers if one.runs(engine))

    def releases(self) -> dict[str, str]:
        """By web or worker server, the release that it runs, or ran last."""
        found = ((one.name, one.app) for one in self.servers)
        return {name: process.release for name, process in found if process is not None}

    def database(self, server: str) -> DatabaseNode | None:
        """The copy of the data on this server, or None."""
        return next((one for one in self.databases if one.server == server), None)

    @property
    def primary(self) -> DatabaseNode | None:
        """The reachable primary of shard 0; of two (a switch was cut short) the one on the newer timeline."""
        return newest(one for one in self.databases if one.role == "primary" and one.is_reachable)

    def cache(self, server: str) -> CacheNode | None:
        """The cache server of this name, or None when it does not answer."""
        return next((one for one in self.caches if one.server == server), None)

    def balancer(self, server: str) -> Balancer | None:
        """What the balancer on this server routes to, or None."""
        return next((one for one in self.balancers if one.server == server), None)


def newest(nodes: Iterable[DatabaseNode]) -> DatabaseNode | None:
    """The node furthest along, by timeline and LSN."""
    return max(nodes, key=lambda one: (one.timeline, one.lsn), default=None)
