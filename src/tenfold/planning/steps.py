"""The steps a plan is made of: values with a reason, a risk and an undo.

Made by `planning/plan`, printed by the CLI, carried out by `runtime/apply` (one action a kind). Every step may be
carried out twice: the second time finds its work done.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from tenfold.observation import snapshot
from tenfold.topology import units

Target = tuple[str, str]
"""A process: (server, process name)."""

Risk = Literal["none", "low", "medium"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What every step has. `reason` says why this service needs it now."""

    reason: str

    risk: ClassVar[Risk] = "none"
    undo: ClassVar[str] = "nothing to undo"

    @property
    def kind(self) -> str:
        """The step's stable name, as `--json` prints it: `start_servers`."""
        name = type(self).__name__
        return "".join(f"_{char.lower()}" if char.isupper() else char for char in name).lstrip("_")

    @property
    def title(self) -> str:
        """One line in the imperative, with names: `start servers web-1, web-2`."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class StartServers(Step):
    """Give servers power: an address and a PID namespace each."""

    servers: tuple[str, ...]
    undo: ClassVar[str] = "stop them"

    @property
    def title(self) -> str:
        return f"start servers {', '.join(self.servers)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartProcesses(Step):
    """Start processes at the same time and wait until all are ready."""

    targets: tuple[Target, ...]
    undo: ClassVar[str] = "stop them"

    @property
    def title(self) -> str:
        return "start " + ", ".join(f"{process} on {server}" for server, process in self.targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialiseDatabase(Step):
    """Make an empty database cluster, its roles and the service's database, and start it."""

    server: str
    undo: ClassVar[str] = "stop it; an empty cluster holds nothing to lose"

    @property
    def title(self) -> str:
        return f"initialise the database on {self.server}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyDatabase(Step):
    """Base backup from the primary, then stream: a standby without Patroni, to switch to."""

    source: str
    target: str
    undo: ClassVar[str] = "stop the standby and delete its copy"

    @property
    def title(self) -> str:
        return f"copy the database from {self.source} to {self.target} and keep it streaming"


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchDatabase(Step):
    """Hold new writes, end those in flight, stop the old primary, promote the standby."""

    source: str
    target: str
    risk: ClassVar[Risk] = "medium"
    undo: ClassVar[str] = "before the old primary stops: let it write again; after: copy and switch back"

    @property
    def title(self) -> str:
        return f"switch the primary from {self.source} to {self.target}; writes wait meanwhile"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfenceDatabase(Step):
    """Let a primary write again that an interrupted switch left holding its writes."""

    server: str

    @property
    def title(self) -> str:
        return f"let {self.server} accept writes again"


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeOverDatabase(Step):
    """Patroni takes over a running PostgreSQL without restarting it."""

    server: str
    risk: ClassVar[Risk] = "low"
    undo: ClassVar[str] = "pause Patroni and stop it; PostgreSQL keeps running"

    @property
    def title(self) -> str:
        return f"let Patroni take over the running database on {self.server}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowHome(Step):
    """A region's databases follow the home's: copied, or as they are, or rewound when they were the home before."""

    region: str
    home: str
    servers: tuple[str, ...]
    risk: ClassVar[Risk] = "low"
    undo: ClassVar[str] = "stop them; the home keeps the log for them for a while"

    @property
    def title(self) -> str:
        return f"let {', '.join(self.servers)} follow the databases of {self.home}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveHome(Step):
    """The primary goes to another region: writes are held, the old one stops cleanly, the new one is promoted.

    Of a region that is lost, and proven to be dead, nothing more can be had.
    """

    source: str
    target: str
    is_lost: bool = False
    risk: ClassVar[Risk] = "medium"
    undo: ClassVar[str] = "before the promotion: the old primary writes again; after: move it back"

    @property
    def title(self) -> str:
        if self.is_lost:
            return f"make {self.target} the home of the data; {self.source} is lost"
        return f"move the home of the data from {self.source} to {self.target}; writes wait meanwhile"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseDatabase(Step):
    """Patroni, without replicas by now, lets go of PostgreSQL, which keeps running."""

    server: str
    risk: ClassVar[Risk] = "low"
    undo: ClassVar[str] = "let Patroni take it over again"

    @property
    def title(self) -> str:
        return f"take the running database on {self.server} out of Patroni's hands"


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinReplicas(Step):
    """Start replicas under Patroni at the same time; each copies the primary and streams."""

    servers: tuple[str, ...]
    undo: ClassVar[str] = "remove them"

    @property
    def title(self) -> str:
        return f"add replicas {', '.join(self.servers)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchOver(Step):
    """A planned switch of the primary under Patroni."""

    source: str
    target: str
    risk: ClassVar[Risk] = "medium"
    undo: ClassVar[str] = "switch over again"

    @property
    def title(self) -> str:
        return f"switch the primary over from {self.source} to {self.target}; writes wait meanwhile"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartReplica(Step):
    """Restart one replica with other memory or connections, and wait until it streams and has caught up."""

    server: str
    memory_bytes: int
    max_connections: int
    risk: ClassVar[Risk] = "low"
    undo: ClassVar[str] = "restart it with the former settings"

    @property
    def title(self) -> str:
        return f"restart the replica on {self.server} with {_resources(self.memory_bytes, self.max_connections)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPrimary(Step):
    """Hold new writes, end those in flight, restart the primary where it is with other memory or connections."""

    server: str
    memory_bytes: int
    max_connections: int
    risk: ClassVar[Risk] = "medium"
    undo: ClassVar[str] = "restart it with the former settings"

    @property
    def title(self) -> str:
        resources = _resources(self.memory_bytes, self.max_connections)
        return f"restart the primary on {self.server} with {resources}; what needs it waits meanwhile"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveReplicas(Step):
    """Stop replicas, drop their slots, and leave no commit waiting for one of them."""

    servers: tuple[str, ...]
    risk: ClassVar[Risk] = "low"
    undo: ClassVar[str] = "add them again"

    @property
    def title(self) -> str:
        return f"remove replicas {', '.join(self.servers)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSynchronous(Step):
    """Make commits wait for a replica, or no longer."""

    is_synchronous: bool
    risk: ClassVar[Risk] = "low"
    undo: ClassVar[str] = "change it back"

    @property
    def title(self) -> str:
        return "make commits wait for a replica" if self.is_synchronous else "let commits no longer wait for replicas"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishBindings(Step):
    """Write the app's bindings: these database nodes, what else it is told of, and the service's settings."""

    databases: tuple[str, ...]
    told: snapshot.Told
    region: str = ""
    """The region whose app is told; empty: the home region's."""
    undo: ClassVar[str] = "write the former bindings"

    @property
    def title(self) -> str:
        told, more = self.told, ""
        if told.edges:
            more += f"; edges: {_few(told.edges)}"
        if told.caches:
            more += f"; cache: {_few(told.caches)}"
        if told.store != "database" or told.former_stores:
            more += f"; sessions: {told.store}{_also(told.former_stores)}"
        if told.queues or told.former_transport:
            more += f"; queue: {told.transport}{_also((told.former_transport,))}"
        if told.handled_by == "workers":
            more += "; workers handle messages"
        if told.witnesses:
            more += f"; commits count in two of {', '.join(told.witnesses)}"
        where = f" in {self.region}" if self.region else ""
        return f"tell the app{where} its database nodes: {', '.join(self.databases)}{more}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FormCache(Step):
    """Make one cluster of these cache servers: each slot has a primary, each primary a replica elsewhere."""

    servers: tuple[str, ...]
    begins_anew: bool
    """Whether nobody uses them yet: then whatever they hold is in the way, and goes."""
    undo: ClassVar[str] = "stop them"

    @property
    def title(self) -> str:
        return f"make {_few(self.servers)} one cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveSessions(Step):
    """Carry over the sessions that nobody has visited since their store has changed; then forget the former one."""

    source: snapshot.Store
    target: snapshot.Store
    risk: ClassVar[Risk] = "low"
    undo: ClassVar[str] = "move them back"

    @property
    def title(self) -> str:
        return f"move the sessions that are left in the {self.source} to the {self.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainQueue(Step):
    """Carry over the messages that the former transport still holds; then listen to it no more."""

    source: snapshot.Transport
    risk: ClassVar[Risk] = "low"
    undo: ClassVar[str] = "publish to it again; messages wait where they are"

    @property
    def title(self) -> str:
        return "empty the queue servers into the database" if self.source == "nats" else "empty the database's queue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrate(Step):
    """Run the service's schema migrations that have not run yet."""

    risk: ClassVar[Risk] = "medium"
    undo: ClassVar[str] = "none: migrations go forward"

    @property
    def title(self) -> str:
        return "run the schema migrations"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigureBalancer(Step):
    """Make one balancer route to exactly these web servers and edges, by the topology's policy; others drain first."""

    server: str
    web_servers: tuple[str, ...]
    edges: tuple[str, ...] = ()
    risk: ClassVar[Risk] = "low"
    undo: ClassVar[str] = "route as before"

    @property
    def title(self) -> str:
        by_way = f", by way of {', '.join(self.edges)}" if self.edges else ""
        return f"let {self.server} route to {', '.join(self.web_servers)}{by_way}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceProcesses(Step):
    """Restart processes, one at a time and each drained first, that run with other settings or another release."""

    targets: tuple[Target, ...]
    release: str = ""
    """The release that web servers get; empty: they keep theirs."""
    risk: ClassVar[Risk] = "low"
    undo: ClassVar[str] = "restart them with the former settings"

    @property
    def title(self) -> str:
        if self.release:
            return f"put release {self.release}, one at a time, on {', '.join(server for server, _ in self.targets)}"
        return "replace, one at a time, " + ", ".join(f"{process} on {server}" for server, process in self.targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class StopProcesses(Step):
    """Stop processes: ask, wait, kill. A balancer ends its open requests first."""

    targets: tuple[Target, ...]
    undo: ClassVar[str] = "start them again"

    @property
    def title(self) -> str:
        return "stop " + ", ".join(f"{process} on {server}" for server, process in self.targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardData(Step):
    """Delete copies of the data that nobody needs any more, on servers that stay. Never the primary's."""

    servers: tuple[str, ...]
    risk: ClassVar[Risk] = "low"
    undo: ClassVar[str] = "copy the primary anew"

    @property
    def title(self) -> str:
        return f"delete the old copy of the data on {', '.join(self.servers)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveServers(Step):
    """Take the power from servers that are no longer wanted, and delete what they hold."""

    servers: tuple[str, ...]
    undo: ClassVar[str] = "start them again; copies are made anew"

    @property
    def title(self) -> str:
        return f"remove servers {', '.join(self.servers)}"


def _resources(memory_bytes: int, max_connections: int) -> str:
    return f"{units.size(memory_bytes)} of memory and {max_connections} connections"


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 2 else f"{names[0]} to {names[-1]}"


def _also(former: tuple[str, ...]) -> str:
    known = [one for one in former if one]
    return f" (also: {', '.join(known)})" if known else ""
