"""The models of `tenfold.toml`, one small class a section, in the order in which a request meets the tiers.

Read by everything that decides. Frozen; unknown keys are errors; cross-field rules live in `validate`.
"""

import zlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from tenfold.topology import links, ranges, units
from tenfold.topology.section import Section

Policy = Literal[
    "round_robin",
    "least_connections",
    "weighted_round_robin",
    "weighted_least_connections",
    "ip_hash",
    "random",
    "fastest",
]

UrlScheme = Literal[
    "postgresql",
    "postgres",
    "postgresql+asyncpg",
    "postgresql+psycopg",
    "postgresql+psycopg_async",
    "postgresql+psycopg2",
]
"""How `DATABASE_URL` begins. Libraries that cannot read several hosts are left out."""


class Tls(Section):
    """Where the front door's certificate comes from: files of the user's, or made by tenfold (`SELF_SIGNED`)."""

    certificate: str = Field(min_length=1)
    """A PEM file, relative to the topology's: the certificate, then its chain. Renewed files are taken over live."""
    key: str = ""
    """A PEM file with its private key, relative to the topology's; empty: the key is in the certificate's file."""

    @property
    def is_self_signed(self) -> bool:
        """Whether tenfold makes the certificate itself."""
        return not self.certificate

    @property
    def copy_name(self) -> str:
        """The name of the checked copy that is served. Another source has another copy: a way back stays open."""
        source = f"{self.certificate}\n{self.key}".encode()
        return "self-signed.pem" if self.is_self_signed else f"files-{zlib.crc32(source):08x}.pem"


SELF_SIGNED = Tls.model_construct(certificate="", key="")
"""`tls = "self-signed"`. A file cannot say it in another way: an empty path is an error."""

REDIRECTS_BY_DEFAULT = {443: 80, 8443: 8080}
"""By the front door's port under TLS, the port where plain HTTP is redirected from when the file does not say."""


def _tls(value: Any) -> Any:
    return SELF_SIGNED if value == "self-signed" else value


class Service(Section):
    """The user's app and where the world finds it."""

    name: str
    """Lower case letters, digits and dashes; names the database, cookies and logs."""
    app: str = ""
    """ASGI application as `module:attribute`. Exactly one of `app` and `factory`."""
    factory: str = ""
    """A callable without arguments that returns the ASGI application, as `module:attribute`."""
    listen: str = "127.0.0.1:8080"
    """The front door: `address:port`. It never changes while the service grows."""
    tls: Annotated[Tls | None, BeforeValidator(_tls)] = None
    """HTTPS and HTTP/2 at the front door: `"self-signed"`, or `{ certificate, key }`. Absent: plain HTTP."""
    redirect_http: str = ""
    """Under TLS, where plain HTTP is sent over to it: `address:port`, or `off`; empty: `REDIRECTS_BY_DEFAULT`."""
    domain: str = ""
    """The public name, used for links and cookies; empty: the Host header as it comes."""
    directory: str = "."
    """Where the app is imported from, relative to the file."""
    python: str = ""
    """The interpreter that runs the app; empty: the one that runs tenfold."""
    env: dict[str, str] = Field(default_factory=dict)
    """Environment variables of the app; values are never logged."""
    env_file: str = ""
    """A file of NAME=value lines added to `env`; empty: none."""
    request_seconds: units.Seconds = Field(default=10.0, alias="request_timeout", gt=0)
    """How long a request may take until its response starts: `"10s"` in the file."""

    @property
    def url(self) -> str:
        """The front door as one on this machine calls it."""
        host, _, port = self.listen.rpartition(":")
        host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 (read, not bound)
        scheme, own_port = ("https", "443") if self.tls else ("http", "80")
        return f"{scheme}://{host}" if port == own_port else f"{scheme}://{host}:{port}"

    @property
    def listens_everywhere(self) -> bool:
        """Whether the front door is at every address of the machine: which of them clients call, nobody says."""
        return self.listen.rpartition(":")[0].strip("[]") in ("0.0.0.0", "::")  # noqa: S104 (read, not bound)

    @property
    def redirect(self) -> str:
        """Where plain HTTP is redirected to the front door from, `address:port`; empty: nowhere."""
        if self.tls is None or self.redirect_http == "off":
            return ""
        host, _, port = self.listen.rpartition(":")
        default = REDIRECTS_BY_DEFAULT.get(int(port))
        return self.redirect_http or (f"{host}:{default}" if default else "")

    def at(self, listen: str) -> "Service":
        """The same with its front door elsewhere; plain HTTP is redirected from the same port there as here."""
        host = listen.rpartition(":")[0]
        port = self.redirect.rpartition(":")[2]
        redirect = f"{host}:{port}" if host and port else "off"
        return self.model_copy(update={"listen": listen, "redirect_http": redirect})


class Dns(Section):
    """`[dns]`: name servers that send clients to the nearest healthy region. Absent: others answer for the domain."""

    servers: int = Field(default=2, ge=1, le=4)
    """Name servers of each region; with two, one may die."""
    listen: tuple[str, ...] = Field(default=(), strict=False)
    """Public `address:port`, UDP and TCP, one a server, region by region; empty: their private addresses alone."""
    life_seconds: units.Seconds = Field(default=5.0, alias="ttl", ge=1, le=86400)
    """How long resolvers may keep an answer: `"5s"` in the file. So long a client may call a region that is gone."""
    maxmind: str = ""
    """A MaxMind file (City), relative to the topology's, that tells where networks are; empty: `networks` alone do."""
    without_subnet: Literal["resolver", "region"] = "resolver"
    """How a query is located that does not tell its client's network: by its resolver's address, or it is answered
    the name server's own region, which can be kept in memory for a second."""
    spare: bool = False
    """A region with a single address is followed by one of the next region, for clients that try both."""


class Route(Section):
    """`[[balancer.route]]`: requests below a path go to a group of web servers."""

    path: str
    """A path prefix that begins with a slash."""
    group: str
    """A name in `[web_groups]`."""


class Balancer(Section):
    """`[balancer]`: the front door on servers of its own. Absent: on the first server, beside the app."""

    servers: int = Field(default=2, ge=1, le=9)
    """Balancers that share the public address; with two, one may die."""
    policy: Policy = "least_connections"
    """How a request finds its web server."""
    weights: dict[str, int] = Field(default_factory=dict)
    """Weights (1 to 256) by web server name, for the weighted policies; absent: 100."""
    sticky: bool = False
    """Keep a client on one web server by a cookie (which does not hold the server's address)."""
    route: tuple[Route, ...] = Field(default=(), strict=False)
    """Path rules, longest path first wins."""


class CdnPath(Section):
    """`[[cdn.path]]`: how long edges keep what is below a path, whatever its responses say about that."""

    path: str
    """A path prefix that begins with a slash; the longest one counts."""
    life_seconds: units.Seconds | None = Field(default=None, alias="ttl", ge=0)
    """How long an answer is fresh: `"60s"`; `"0s"`: nothing is kept; absent: what the response says."""
    grace_seconds: units.Seconds | None = Field(default=None, alias="grace", ge=0)
    """How long a stale answer may serve while no origin answers; absent: `cdn.grace`."""


class Cdn(Section):
    """`[cdn]`: edges before the web servers, which keep static files and what the app marks. Absent: there are none."""

    edges: int = Field(default=2, ge=0, le=8)
    """Edge servers of each region; with two, one may die unnoticed. 0: static files come from web servers."""
    memory_bytes: units.Bytes = Field(default=64 * 1024**2, alias="memory", ge=16 * 1024**2)
    """What each edge keeps at most: `"64MiB"` in the file."""
    static: str = ""
    """A folder of static files, relative to `service.directory`; empty: the app serves its own."""
    static_path: str = "/static/"
    """The path that static files are served below; it begins and ends with a slash."""
    grace_seconds: units.Seconds = Field(default=3600.0, alias="grace", ge=0)
    """How long a stale answer may serve while no origin answers: `"1h"` in the file; `"0s"`: not at all."""
    path: tuple[CdnPath, ...] = Field(default=(), strict=False)
    """Rules for paths, longest path first wins."""

    @property
    def counted_paths(self) -> tuple[str, ...]:
        """The paths that requests are counted by, the longest first."""
        paths = {one.path for one in self.path} | ({self.static_path} if self.static else set())
        return tuple(sorted(paths, key=lambda path: (-len(path), path)))


class Web(ranges.Scaled):
    """`[web]`: the servers that run the app."""

    servers: ranges.UpTo90 = 1
    """Web servers, or `{ min, max }` of them; more than one needs `[balancer]`."""
    workers_per_server: int = Field(default=1, ge=1, le=64)
    """Processes in each web server."""
    max_requests: int = Field(default=512, ge=1)
    """Requests that one web server works on at once; the balancer queues what is over it."""


class WebGroup(ranges.Scaled):
    """`[web_groups.NAME]`: more web servers, perhaps of another app, that a route sends requests to."""

    servers: ranges.UpTo60 = 1
    """Web servers of this group, or `{ min, max }` of them."""
    app: str = ""
    """Another ASGI application than the service's; empty: the same."""
    factory: str = ""
    """Another application factory than the service's; empty: the same."""
    workers_per_server: int = Field(default=1, ge=1, le=64)
    """Processes in each web server."""


class Cache(Section):
    """`[cache]`: what is kept in memory, in each process and on servers that all share. Absent: in each process."""

    servers: int = Field(default=3, ge=0, le=9)
    """0: no cache servers; 1: a single one; 3 to 9: a cluster, every one of them with a replica on one server more."""
    memory_bytes: units.Bytes = Field(default=64 * 1024**2, alias="memory", ge=16 * 1024**2)
    """What each server keeps at most (Valkey's `maxmemory`): `"64MiB"` in the file."""
    eviction: Literal["lru", "lfu", "fifo"] = "lru"
    """What a full server forgets first: the longest unused, the least used, or the oldest."""
    local_memory_bytes: units.Bytes = Field(default=32 * 1024**2, alias="local_memory", ge=0)
    """What each process of the app keeps itself at most: `"32MiB"`; `"0B"`: nothing."""
    local_entries: int | None = Field(default=None, ge=0)
    """How many values each process of the app keeps at most, whatever their size; absent: as many as fit."""
    local_eviction: Literal["lru", "lfu", "fifo", "s3fifo"] = "s3fifo"
    """What a full process forgets first. `s3fifo` keeps most when what is popular changes."""

    @property
    def server_count(self) -> int:
        """How many servers that makes, replicas included."""
        return self.servers if self.servers < 2 else 2 * self.servers


class Sessions(Section):
    """`[sessions]`: where the sessions of the service's users are."""

    store: Literal["database", "cache", "token", "memory"] = "database"
    """`token`: in an encrypted cookie of the client; `memory`: in the web server, which makes balancers sticky."""
    life_seconds: units.Seconds = Field(default=30 * 86400.0, alias="life", ge=60)
    """How long a session lives after its last change or renewal: `"30d"` in the file."""
    eager: bool = False
    """Load the session of every request before the app sees it, instead of when it asks."""


class Database(Section):
    """`[database]`: PostgreSQL."""

    placement: Literal["shared", "own"] | None = None
    """`own`: a server of its own. Absent: `own` when there are replicas or balancers, else `shared`."""
    replicas: int = Field(default=0, ge=0, le=8)
    """Copies that follow the primary, answer reads and take over when it dies (under Patroni)."""
    synchronous: Literal[True, False, "regions"] = False
    """A commit waits for a replica, so that no acknowledged write is lost when a server dies. `"regions"`: and for
    another region, so that none is lost with the home; while no other region follows, writes are refused."""
    unknown_client: Literal["primary", "session", "eventual"] = "eventual"
    """The consistency of a read by a client that brought no position."""
    pool_size: int = Field(default=20, ge=1, le=500)
    """Connections that one web process may open to one database node."""
    max_connections: int = Field(default=200, ge=20, le=5000)
    """PostgreSQL's `max_connections`."""
    memory_bytes: units.Bytes = Field(default=128 * 1024**2, alias="memory", ge=16 * 1024**2)
    """PostgreSQL's `shared_buffers`: `"128MiB"` in the file."""
    migrations: str = "migrations"
    """Folder of dbmate SQL files, relative to `service.directory`; a missing folder means no migrations."""
    url_scheme: UrlScheme = "postgresql"
    """How the app's `DATABASE_URL` begins: SQLAlchemy wants its driver named there."""


class Queue(Section):
    """`[queue]`: NATS JetStream. Absent: messages travel through the database."""

    servers: int = Field(default=3, ge=1, le=5)
    """1, 3 or 5: with 3 one may die, with 5 two; every message is on more than half of them before it counts."""
    storage_bytes: units.Bytes = Field(default=1024**3, alias="storage", ge=16 * 1024**2)
    """What each server keeps of messages at most: `"1GiB"`. Publishers slow down before it is full."""
    message_size_bytes: units.Bytes = Field(default=1024**2, alias="message_size", ge=1024, le=64 * 1024**2)
    """The largest message: `"1MiB"` in the file."""


class Workers(ranges.Scaled):
    """`[workers]`: servers that handle messages, and no requests. Absent: web servers do, in their spare time."""

    servers: ranges.UpTo60 = 1
    """Worker servers, or `{ min, max }` of them; with two, one may die."""
    processes: int = Field(default=1, ge=1, le=64)
    """Worker processes in each of them."""
    concurrency: int = Field(default=64, ge=1, le=10_000)
    """Messages that one process handles at once, all subscribers together."""
    imports: tuple[str, ...] = Field(default=(), strict=False)
    """Modules that are imported besides the app: their subscribers register on import."""


class Autoscale(Section):
    """`[autoscale]`: what a server should carry, where `servers = { min, max }` lets their number follow the load."""

    queue_time_seconds: units.Seconds | None = Field(default=0.05, alias="queue_time", gt=0)
    """How long requests wait before a web server begins with them, on average: `"50ms"`."""
    concurrency: int | None = Field(default=None, ge=1)
    """Requests that one web server works on at the same time; absent: 70 % of `web.max_requests`."""
    cpu_percent: units.Percent | None = Field(default=70.0, alias="cpu", gt=0, le=100)
    """What one process of the app may use of a core, on average over its server: `"70%"`."""
    latency_seconds: units.Seconds | None = Field(default=None, alias="latency", gt=0)
    """What 95 % of the requests should stay below: `"300ms"`; absent: not looked at."""
    network_bytes: units.Bytes | None = Field(default=None, alias="network", ge=1024)
    """Bytes in and out, per second and web server: `"50MiB"`; absent: not looked at."""
    queue_depth: int | None = Field(default=100, ge=1)
    """Messages that wait, per worker server."""
    queue_age_seconds: units.Seconds | None = Field(default=5.0, alias="queue_age", gt=0)
    """How long the oldest message waits: `"5s"`."""
    scale_in_after_seconds: units.Seconds = Field(default=60.0, alias="scale_in_after", ge=1)
    """For how long fewer servers must have been enough before one goes: `"60s"`."""


class Deploy(Section):
    """`[deploy]`: how a new release of the app takes the place of the old one."""

    keep: int = Field(default=5, ge=2, le=1000)
    """Releases that are kept, the one that serves included: to go back to."""
    canary_percent: units.Percent | None = Field(default=None, alias="canary", ge=1, le=99)
    """The share of requests that `tenfold deploy` gives a new release until it is promoted: `"10%"`; absent: all."""
    exclude: tuple[str, ...] = Field(default=(), strict=False)
    """Patterns of files and folders below `service.directory` that are no part of a release."""


class Location(Section):
    """A place on the map, in degrees."""

    latitude: units.Degrees = Field(ge=-90, le=90)
    """North is positive."""
    longitude: units.Degrees = Field(ge=-180, le=180)
    """East is positive."""


class Region(Section):
    """`[regions.NAME]`: a data center. Without any there is one, named `home`."""

    primary: bool = False
    """Whether the primaries live here; exactly one region has it."""
    location: Location | None = None
    """Where it is: clients whose place is known are sent to the nearest region."""
    networks: tuple[str, ...] = Field(default=(), strict=False)
    """Networks of clients that belong here, wherever they are: `"203.0.113.0/24"`; the longest one counts."""
    weight: int = Field(default=1, ge=0, le=1000)
    """Its share of the clients whose place nobody knows; 0: none, unless it is the only healthy region."""
    addresses: tuple[str, ...] = Field(default=(), strict=False)
    """The addresses that name servers answer for it; empty: the one that its front door listens on."""
    listen: str = ""
    """Its front door, `address:port`; empty: `service.listen` in the first region, a private address in the others."""
    balancer: Balancer | None = None
    """`[regions.NAME.balancer]`: what is said here counts instead of `[balancer]` in this region; so for the others."""
    cdn: Cdn | None = None
    web: Web | None = None
    cache: Cache | None = None
    database: Database | None = None
    """Only what each copy of the data has for itself: replicas, memory, connections."""


TIERS_OF_A_REGION = ("balancer", "cdn", "web", "cache", "database")
"""The sections that a region may have otherwise than the rest of the service."""


class Topology(Section):
    """The whole file."""

    service: Service
    dns: Dns | None = None
    balancer: Balancer | None = None
    cdn: Cdn | None = None
    web: Web = Field(default_factory=Web)
    web_groups: dict[str, WebGroup] = Field(default_factory=dict)
    cache: Cache | None = None
    sessions: Sessions = Field(default_factory=Sessions)
    database: Database = Field(default_factory=Database)
    queue: Queue | None = None
    workers: Workers | None = None
    autoscale: Autoscale = Field(default_factory=Autoscale)
    deploy: Deploy = Field(default_factory=Deploy)
    regions: dict[str, Region] = Field(default_factory=lambda: {"home": Region(primary=True)})
    wan: dict[str, links.Link] = Field(default_factory=dict)
    """By two regions, the first one's name, a dash, the other's."""

    @property
    def home(self) -> str:
        """The region with the primaries."""
        return next(name for name, region in self.regions.items() if region.primary)

    @property
    def first(self) -> str:
        """The region that was there first: its servers' names have no prefix, whoever is home."""
        return next(iter(self.regions))

    @property
    def has_regions(self) -> bool:
        """Whether there is more than one."""
        return len(self.regions) > 1

    def of(self, region: str) -> "Topology":
        """The topology as this region has it: with its own tiers and its own front door."""
        found = self.regions.get(region)
        if found is None:
            return self
        changed: dict[str, Any] = {
            name: _merged(getattr(self, name), getattr(found, name)) for name in TIERS_OF_A_REGION
        }
        if region != self.first or found.listen:
            changed["service"] = self.service.at(found.listen)
        return self.model_copy(update=changed)

    def link(self, one: str, other: str) -> links.Link:
        """What lies between two regions."""
        return self.wan.get(f"{one}-{other}") or self.wan.get(f"{other}-{one}") or links.DIRECT

    @property
    def has_own_database(self) -> bool:
        """Whether the database has a server of its own (the `placement` rule above)."""
        if self.database.placement is None:
            return self.database.replicas > 0 or self.balancer is not None
        return self.database.placement == "own"

    @property
    def has_failover(self) -> bool:
        """Whether Patroni runs the database."""
        return self.database.replicas > 0

    @property
    def bounds(self) -> dict[str, ranges.Range]:
        """By tier, as `web`, `workers` and `web_groups.NAME`: the bounds of those whose number follows the load."""
        return {path: found for path, section in self.scaled.items() if (found := section.bounds) is not None}

    @property
    def scaled(self) -> dict[str, ranges.Scaled]:
        """By the same names, every section whose number may follow the load."""
        groups = {f"web_groups.{name}": group for name, group in self.web_groups.items()}
        return {"web": self.web, **groups, **({"workers": self.workers} if self.workers else {})}

    def decided(self, counts: Mapping[str, int]) -> "Topology":
        """The topology with these numbers of servers, by the names of `bounds`; where it has no range, as it is."""
        known = {path: section.with_count(counts[path]) for path, section in self.scaled.items() if path in counts}
        groups = {name: known.get(f"web_groups.{name}", group) for name, group in self.web_groups.items()}
        changed: dict[str, Any] = {name: known[name] for name in ("web", "workers") if name in known}
        return self.model_copy(update={**changed, "web_groups": groups})

    @property
    def cache_servers(self) -> int:
        """How many cache servers there are, replicas included."""
        return self.cache.server_count if self.cache else 0

    @property
    def edge_servers(self) -> int:
        """How many edges a region has."""
        return self.cdn.edges if self.cdn else 0

    @property
    def is_sticky(self) -> bool:
        """Whether a client stays on one web server: asked for, or because its session is there."""
        return self.sessions.store == "memory" or (self.balancer is not None and self.balancer.sticky)


def _merged(usual: Section | None, own: Section | None) -> Section | None:
    """What one region says of a tier, over what the service says."""
    if usual is None or own is None:
        return own or usual
    return usual.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})
