"""Which servers and processes a topology asks for, with their names and private addresses.

Called by planning (to compare with what is there), by engines (to know their neighbours) and by the CLI.
Pure, and a function of the topology alone: the same topology gives the same names and addresses every time.
Two servers of one job never share a number, and adding a server or a group never moves another: an address never
passes on to another job.
"""

import dataclasses
import zlib
from dataclasses import dataclass

from tenfold.topology import tiers

DEFAULT_GROUP = "web"
"""The group of web servers that requests go to when no route says otherwise."""

FIRST_HOST = {
    "server": 1,
    "balancer": 10,
    "edge": 20,
    "queue": 30,
    "coordination": 40,
    "database": 50,
    "cache": 60,
    "web": 100,
    "worker": 190,
}
"""By job, the last number of its first server's address, 127.N.REGION.HOST."""

DATABASE_SERVERS = 9
"""The most database servers of one region: a primary and the most `database.replicas`."""

GROUP_SERVERS = 60
"""The most web servers of one group: a group has a block of addresses of its own."""

GROUP_BLOCKS = 4 * 200
"""Blocks of group addresses: four in each 127.N.S.x with S from 50 to 249. Which one is told by the group's name."""

PORTS = {
    "haproxy": 8404,
    "varnish": 6081,
    "granian": 8000,
    "valkey": 6379,
    "postgres": 5432,
    "patroni": 8008,
    "etcd": 2379,
    "nats": 4222,
    "worker": 8000,
}
"""By engine, the port it answers on, on its server's private address (haproxy: its statistics; worker: its probes)."""

ORIGIN_PORT = 8081
"""The port of a balancer's private front door, where edges fetch what they do not have."""

PURGE_PORT = 6083
"""The port of an edge where purges are taken; nothing else is served there."""

APP_ENGINES = ("granian", "worker")
"""The engines that run the app: one answers requests, the other handles messages. Both run a release."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process wanted on a server. `name` is unique on its server, and the engine's own unless said."""

    name: str
    engine: str
    tier: str
    group: str = ""
    """Web processes: the group they belong to."""
    port_offset: int = 0
    """For a second process of the same engine on a server, for a while."""

    @property
    def port(self) -> int:
        """The port on the server's private address."""
        return PORTS[self.engine] + self.port_offset


@dataclass(frozen=True, slots=True)
class Server:
    """One server wanted: `web-2`, or `virginia-web-2` away from the home region."""

    name: str
    region: str
    region_number: int
    tier: str
    number: int
    host: int
    processes: tuple[Process, ...]
    subnet: int = 0
    """The third number of its address; 0: the region's."""

    def address(self, network: int) -> str:
        """The private address inside the service's network 127.`network`.0.0/16."""
        return f"127.{network}.{self.subnet or self.region_number}.{self.host}"

    def process(self, engine: str) -> Process | None:
        """The process of this engine on this server, or None."""
        return next((one for one in self.processes if one.engine == engine), None)

    @property
    def app(self) -> Process | None:
        """The process that runs the app here, as a web server or a worker; or None."""
        return next((one for one in self.processes if one.engine in APP_ENGINES), None)


@dataclass(frozen=True, slots=True)
class Layout:
    """All servers, in the order in which a request meets their tiers."""

    servers: tuple[Server, ...]

    def server(self, name: str) -> Server | None:
        """The server of this name, or None."""
        return next((one for one in self.servers if one.name == name), None)

    def running(self, engine: str) -> tuple[Server, ...]:
        """The servers that run this engine."""
        return tuple(one for one in self.servers if one.process(engine))

    @property
    def balancers(self) -> tuple[Server, ...]:
        """The servers that hold the front door."""
        return self.running("haproxy")

    @property
    def databases(self) -> tuple[Server, ...]:
        """The servers that hold the data; the first is where the primary starts."""
        return tuple(one for one in self.servers if one.process("postgres") or one.process("patroni"))

    @property
    def apps(self) -> tuple[Server, ...]:
        """The servers that run the app: web servers of all groups, and workers."""
        return tuple(one for one in self.servers if one.app)

    def web(self, group: str = DEFAULT_GROUP) -> tuple[Server, ...]:
        """The web servers of a group."""
        return tuple(one for one in self.servers if (process := one.process("granian")) and process.group == group)

    def with_web(self, names: tuple[str, ...]) -> "Layout":
        """This layout with only these web servers: what a balancer is to know of."""
        servers = []
        for server in self.servers:
            kept = tuple(one for one in server.processes if one.engine != "granian" or server.name in names)
            servers.append(dataclasses.replace(server, processes=kept))
        return Layout(tuple(servers))


HAPROXY = Process("haproxy", "haproxy", "balancer")
VARNISH = Process("varnish", "varnish", "cdn")
GRANIAN = Process("granian", "granian", "web", DEFAULT_GROUP)
VALKEY = Process("valkey", "valkey", "cache")
POSTGRES = Process("postgres", "postgres", "database")
PATRONI = Process("patroni", "patroni", "database")
ETCD = Process("etcd", "etcd", "coordination")
NATS = Process("nats", "nats", "queue")
WORKER = Process("worker", "worker", "worker")


def layout(topology: tiers.Topology) -> Layout:
    """The servers that the topology asks for. Regions away from home have no tiers of their own yet."""
    region = _Region(topology.home, 1 + list(topology.regions).index(topology.home))
    servers: list[Server] = region.servers("edge", topology.cdn.edges if topology.cdn else 0, (VARNISH,))
    if topology.balancer is None:
        shared = (HAPROXY, GRANIAN) if topology.has_own_database else (HAPROXY, GRANIAN, POSTGRES)
        servers += region.servers("server", 1, shared)
    else:
        servers += region.servers("balancer", topology.balancer.servers, (HAPROXY,))
        servers += region.servers("web", topology.web.servers, (GRANIAN,))
        servers += _group_servers(topology, region)
    servers += region.servers("cache", topology.cache_servers, (VALKEY,))
    if topology.has_failover:
        servers += region.servers("coordination", 3, (ETCD,))
        servers += region.servers("database", 1 + topology.database.replicas, (PATRONI,))
    elif topology.has_own_database:
        servers += region.servers("database", 1, (POSTGRES,))
    servers += region.servers("queue", topology.queue.servers if topology.queue else 0, (NATS,))
    servers += region.servers("worker", topology.workers.servers if topology.workers else 0, (WORKER,))
    return Layout(tuple(servers))


def database_addresses(topology: tiers.Topology, network: int) -> tuple[str, ...]:
    """Every address that the home region's database may have on any rung, in the order of the rungs.

    The same as long as the home region is: what names these addresses stays right while the service grows.
    """
    region = _Region(topology.home, 1 + list(topology.regions).index(topology.home))
    servers = (*region.servers("server", 1, ()), *region.servers("database", DATABASE_SERVERS, ()))
    return tuple(server.address(network) for server in servers)


@dataclass(frozen=True, slots=True)
class _Region:
    name: str
    number: int
    prefix: str = ""

    def servers(self, tier: str, count: int, processes: tuple[Process, ...]) -> list[Server]:
        return [self._server(tier, tier, FIRST_HOST[tier], n, processes) for n in range(1, count + 1)]

    def group(self, group: str, count: int) -> list[Server]:
        process = Process("granian", "granian", "web", group)
        subnet, first_host = group_address(self.name, group)
        servers = [self._server("web", f"web-{group}", first_host, n, (process,)) for n in range(1, count + 1)]
        return [dataclasses.replace(server, subnet=subnet) for server in servers]

    def _server(self, tier: str, stem: str, first_host: int, number: int, processes: tuple[Process, ...]) -> Server:
        name = f"{self.prefix}{stem}-{number}"
        return Server(name, self.name, self.number, tier, number, first_host + number - 1, processes)


def group_address(region: str, group: str) -> tuple[int, int]:
    """The subnet and first host of a group's block. Two names may meet in one block; `validate` refuses the second."""
    block = zlib.crc32(f"{region}/{group}".encode()) % GROUP_BLOCKS
    return 50 + block // 4, 1 + 62 * (block % 4)


def _group_servers(topology: tiers.Topology, region: _Region) -> list[Server]:
    return [
        server
        for name in sorted(topology.web_groups)
        for server in region.group(name, topology.web_groups[name].servers)
    ]
