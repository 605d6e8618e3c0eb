"""What every engine is to the runtime: the same five questions, asked of plain values.

`runtime/` calls these; an engine never calls the runtime, spawns nothing, and does not know its siblings.
An engine's folder has the same files: `settings` (what may be said about it), `render` with `templates/`
(settings and neighbours to texts), `command` (argv, environment, stop signal, grace), `probe` (started? ready?
which role?), `admin` (what can be asked of it while it runs). Its `__init__` names them in one `Engine` value.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM, Signals

from tenfold.topology import layout, tiers
from tenfold.topology.layout import Layout


@dataclass(frozen=True, slots=True)
class Secrets:
    """The service's generated passwords. Kept in a 0600 file; never logged, never in argv."""

    superuser: str
    """PostgreSQL's `postgres`."""
    replicator: str
    """PostgreSQL's `replicator` (replication) and `rewind`."""
    app: str
    """The app's own database role."""
    patroni: str
    """Patroni's REST API, user `patroni`."""
    etcd: str
    """etcd's user `root`."""
    signing: str
    """Signs cookies; hex."""
    cache: str
    """Valkey's user `app`."""
    cache_admin: str
    """Valkey's user `admin`: the runtime's, and that of the servers among themselves."""
    edge: str
    """What a purge must say to an edge, and the edges' own administration."""
    queue: str
    """NATS's user `app`."""
    queue_admin: str
    """NATS's user `admin` of the system account, and the servers' routes."""

    def __repr__(self) -> str:
        return "Secrets(...)"


@dataclass(frozen=True, slots=True)
class Release:
    """One version of the app and what it is started with: what a web server runs."""

    version: str
    """Empty: the files as they stand in `service.directory`, of no release."""
    directory: Path
    """Where the app is imported from: nobody edits a release's."""
    app: str
    factory: str
    groups: Mapping[str, tuple[str, str]]
    """By group of web servers, an `app` and a `factory` of its own; both empty: the service's."""
    python: str
    """The interpreter, empty when it is tenfold's own."""
    env: Mapping[str, str] = field(repr=False)
    """The app's variables, those of `env_file` included."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one process sits: everything an engine may know when it renders, starts or is probed."""

    process: layout.Process
    server: layout.Server
    topology: tiers.Topology
    layout: layout.Layout
    """All servers, of every region, that are wanted *now* (while a plan runs: the ones that the step names)."""
    network: int
    """The second number of 127.N.0.0/16."""
    root: Path
    """The server's own folder; `data/`, `config/`, `log/` and `run/` below it exist."""
    project: Path
    """The folder of tenfold.toml."""
    bindings: Path
    """The app's bindings file."""
    secrets: Secrets
    run: Path
    """A folder for sockets whose path is short enough for them."""
    release: Release | None = None
    """Of a web server, what it runs; None: the files as they stand."""
    weights: Mapping[str, int] = field(default_factory=dict)
    """Of a balancer, weights by web server while a canary has its share; empty: those of the topology."""

    @property
    def neighbours(self) -> Layout:
        """The servers of its own region: all that most engines ever talk to."""
        return self.layout.of(self.server.region)

    @property
    def address(self) -> str:
        """The server's private address."""
        return self.server.address(self.network)

    @property
    def data(self) -> Path:
        """Where this process keeps what must survive a restart."""
        return self.root / "data" / self.process.name

    @property
    def config(self) -> Path:
        """Where the rendered files are."""
        return self.root / "config" / self.process.name

    @property
    def log(self) -> Path:
        """The file its output is appended to."""
        return self.root / "log" / f"{self.process.name}.log"

    @property
    def certificate(self) -> Path | None:
        """The checked certificate with its key that the front door serves; None: plain HTTP."""
        tls = self.topology.service.tls
        return self.bindings.with_name("tls") / tls.copy_name if tls else None


@dataclass(frozen=True, slots=True)
class Command:
    """How to start and stop one process."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """The whole environment but for PATH, HOME and LANG."""
    directory: Path | None = None
    """Working directory; None: the server's own folder."""
    stop_signal: Signals = SIGTERM
    grace_seconds: float = 10.0
    """After the stop signal, how long until SIGKILL."""
    start_seconds: float = 20.0
    """How long until it must be ready."""
    pid_file: Path | None = None
    """Where the process writes its own pid (as its PID namespace counts), when its parent may not be the runtime."""


@dataclass(frozen=True, slots=True)
class Health:
    """What a probe saw."""

    is_ready: bool
    role: str = ""
    """`primary`, `standby`, `leader`, ... in the engine's own words; empty: has none."""
    detail: str = ""
    """Why it is not ready, in words."""


def _nothing(seat: Seat) -> None:
    """An engine that needs nothing before its server's processes start."""


async def _nothing_more(seat: Seat) -> None:
    """An engine that is complete as soon as it is ready."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine: the five questions. `render`'s paths are relative to `Seat.config`."""

    name: str
    install: str
    """The command that installs it."""
    locate: Callable[[], Path | None]
    """The program's path: the wheel's, then PATH; None when it is not installed."""
    render: Callable[[Seat], Mapping[str, str]]
    command: Callable[[Seat], Command]
    probe: Callable[[Seat], Awaitable[Health]]
    on_power: Callable[[Seat], None] = _nothing
    """Called when its server gets power, while nothing runs there: clears what a power cut left in its way."""
    on_ready: Callable[[Seat], Awaitable[None]] = _nothing_more
    """Called after it became ready, every time: what can only be arranged while it runs. Twice is once."""
    version_argument: str = "--version"
