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
    "wan": 5,
    "dns": 2,
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
    "wan": 5400,
    "powerdns": 5300,
    "georoute": 5301,
}
"""By engine, the port it answers on, on its server's private address (haproxy: its statistics; worker: its probes)."""

FRONT_DOOR_HOST = 9
"""The last number of the address where a region's front door listens that the file gives none."""

MOST_REGIONS = 6

FIRST_CROSSING = 10
"""The third number of the addresses where the first region meets itself, as it were: 127.N.10.x is never used."""

OUTSIDE = 0
"""The number of no region: of what is between them."""

ORIGIN_PORT = 8081
"""The port of a balancer's private front door, where edges fetch what they do not have."""

HOME_PORT = 8082
"""The port of a balancer's private front door for requests that come from another region, to be worked on at home."""

PURGE_PORT = 6083
"""The port of an edge where purges are taken; nothing else is served there."""

QUEUE_LINK_PORT = 7422
"""The port of a queue server where those of other regions connect."""

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

    def address(self, network: int, *, seen_from: int | None = None) -> str:
        """The private address inside the service's network 127.`network`.0.0/16.

        `seen_from`: the number of the region that asks. A server of another region is met where the wide area network
        listens for it, on the same port. Of a group's web servers nothing crosses regions: they have one address.
        """
        if seen_from is None or self.region_number in (seen_from, OUTSIDE):
            return f"127.{network}.{self.subnet or self.region_number}.{self.host}"
        return f"127.{network}.{crossing(seen_from, self.region_number)}.{self.host}"

    @property
    def scope(self) -> str:
        """What its region is called inside engines: a first region that gets a name stays what it was."""
        return "home" if self.region_number == 1 else self.region

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

    def of(self, region: str) -> "Layout":
        """The servers of one region."""
        return Layout(tuple(one for one in self.servers if one.region == region))

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

    def with_only(self, engine: str, names: tuple[str, ...]) -> "Layout":
        """This layout where only these servers run this engine: the web servers, say, that a balancer is to know of."""
        servers = []
        for server in self.servers:
            kept = tuple(one for one in server.processes if one.engine != engine or server.name in names)
            servers.append(dataclasses.replace(server, processes=kept))
        return Layout(tuple(servers))


HAPROXY = Process("haproxy", "haproxy", "balancer")
POWERDNS = Process("powerdns", "powerdns", "dns")
GEOROUTE = Process("georoute", "georoute", "dns")
VARNISH = Process("varnish", "varnish", "cdn")
GRANIAN = Process("granian", "granian", "web", DEFAULT_GROUP)
VALKEY = Process("valkey", "valkey", "cache")
POSTGRES = Process("postgres", "postgres", "database")
PATRONI = Process("patroni", "patroni", "database")
ETCD = Process("etcd", "etcd", "coordination")
NATS = Process("nats", "nats", "queue")
WORKER = Process("worker", "worker", "worker")
WAN = Process("wan", "wan", "wan")


def layout(topology: tiers.Topology) -> Layout:
    """The servers that the topology asks for: those of the first region, of the others, and what is between them."""
    servers: list[Server] = []
    for region in regions(topology):
        servers += _servers(topology.of(region.name), region, is_home=region.name == topology.home)
    if topology.has_regions:
        servers += Region("", OUTSIDE).servers("wan", 1, (WAN,))
    return Layout(tuple(servers))


def _servers(topology: tiers.Topology, region: "Region", *, is_home: bool) -> list[Server]:
    servers = region.servers("dns", topology.dns.servers if topology.dns else 0, (GEOROUTE, POWERDNS))
    servers += region.servers("edge", topology.cdn.edges if topology.cdn else 0, (VARNISH,))
    holds_data = is_home and not topology.has_own_database
    if topology.balancer is None:
        servers += region.servers("server", 1, (HAPROXY, GRANIAN, *((POSTGRES,) if holds_data else ())))
    else:
        servers += region.servers("balancer", topology.balancer.servers, (HAPROXY,))
        servers += region.servers("web", topology.web.count, (GRANIAN,))
        servers += _group_servers(topology, region)
    servers += region.servers("cache", topology.cache_servers, (VALKEY,))
    if is_home or topology.has_failover:
        servers += _data_servers(topology, region)
    servers += region.servers("queue", topology.queue.servers if topology.queue else 0, (NATS,))
    if is_home:
        servers += region.servers("worker", topology.workers.count if topology.workers else 0, (WORKER,))
    return servers


def _data_servers(topology: tiers.Topology, region: "Region") -> list[Server]:
    if topology.has_failover:
        replicas = region.servers("database", 1 + topology.database.replicas, (PATRONI,))
        return region.servers("coordination", 3, (ETCD,)) + replicas
    return region.servers("database", 1, (POSTGRES,)) if topology.has_own_database else []


def database_addresses(topology: tiers.Topology, network: int, seen_from: str = "") -> tuple[str, ...]:
    """Every address that the database may have on any rung, in the order of the rungs, region by region.

    Whichever region is the home: what names these addresses stays right while the service grows and its home moves.
    `seen_from`: the region that asks; empty: the first.
    """
    asking = region_named(topology, seen_from).number
    servers = (
        server
        for region in regions(topology)
        for server in (*region.servers("server", 1, ()), *region.servers("database", DATABASE_SERVERS, ()))
    )
    return tuple(server.address(network, seen_from=asking) for server in servers)


def crossing(seen_from: int, region: int) -> int:
    """The third number of the addresses at which one region (by its number) meets the servers of another."""
    return FIRST_CROSSING + MOST_REGIONS * (seen_from - 1) + region - 1


def front_door(topology: tiers.Topology, region: str, network: int) -> str:
    """Where a region's front door listens, `address:port`: what the file says, else a private address of the region."""
    said = topology.of(region).service.listen
    port = topology.service.listen.rpartition(":")[2]
    return said or f"127.{network}.{region_named(topology, region).number}.{FRONT_DOOR_HOST}:{port}"


def as_in(topology: tiers.Topology, region: str, network: int) -> tiers.Topology:
    """The topology as this region has it, with the addresses of its front door and of the other regions'."""
    own = topology.of(region)
    if topology.has_regions:  # asked again, it would take this region's front door for the first one's
        doors = {name: front_door(topology, name, network) for name in topology.regions}
        known = {name: one.model_copy(update={"listen": doors[name]}) for name, one in topology.regions.items()}
        own = own.model_copy(update={"regions": known})
    if region not in topology.regions or own.service.listen:
        return own
    return own.model_copy(update={"service": topology.service.at(front_door(topology, region, network))})


def regions(topology: tiers.Topology) -> tuple["Region", ...]:
    """The regions, the first one first."""
    return tuple(
        Region(name, number, "" if number == 1 else f"{name}-") for number, name in enumerate(topology.regions, start=1)
    )


def region_named(topology: tiers.Topology, name: str) -> "Region":
    """The region of this name; of one that the topology does not have, the first."""
    found = regions(topology)
    return next((one for one in found if one.name == name), found[0])


def region_of(server: Server, topology: tiers.Topology) -> str:
    """The region that a server belongs to by now: the first one may have got another name since it was made."""
    return topology.first if server.region_number == 1 else server.region


@dataclass(frozen=True, slots=True)
class Region:
    """One region: its number, which its addresses have, and what its servers' names begin with."""

    name: str
    number: int
    prefix: str = ""

    def servers(self, tier: str, count: int, processes: tuple[Process, ...]) -> list[Server]:
        """So many servers of a tier."""
        return [self._server(tier, tier, FIRST_HOST[tier], n, processes) for n in range(1, count + 1)]

    def group(self, group: str, count: int) -> list[Server]:
        """So many web servers of a group."""
        process = Process("granian", "granian", "web", group)
        subnet, first_host = group_address(self.scope, group)
        servers = [self._server("web", f"web-{group}", first_host, n, (process,)) for n in range(1, count + 1)]
        return [dataclasses.replace(server, subnet=subnet) for server in servers]

    @property
    def scope(self) -> str:
        """As `Server.scope`."""
        return "home" if self.number == 1 else self.name

    def _server(self, tier: str, stem: str, first_host: int, number: int, processes: tuple[Process, ...]) -> Server:
        name = f"{self.prefix}{stem}-{number}"
        return Server(name, self.name, self.number, tier, number, first_host + number - 1, processes)


def tier_of(group: str) -> str:
    """The tier that a group of web servers is, as ranges name it."""
    return "web" if group == DEFAULT_GROUP else f"web_groups.{group}"


def group_address(region: str, group: str) -> tuple[int, int]:
    """The subnet and first host of a group's block. Two names may meet in one block; `validate` refuses the second."""
    block = zlib.crc32(f"{region}/{group}".encode()) % GROUP_BLOCKS
    return 50 + block // 4, 1 + 62 * (block % 4)


def _group_servers(topology: tiers.Topology, region: Region) -> list[Server]:
    return [
        server for name in sorted(topology.web_groups) for server in region.group(name, topology.web_groups[name].count)
    ]
