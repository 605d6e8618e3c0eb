"""What the front door is told: one value, derived from a seat, that holds every number and name the files are made of.

Read by `render` and `admin`. Pure. It never looks at the world, and what it derives (servers aside) depends on the
topology and a canary's share alone: while a plan adds and removes web servers and edges, the configuration that is not
about them stays the same.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tenfold import bindings, engines
from tenfold.topology import layout, tiers

DEFAULT_WEIGHT = 100
"""A server's weight when the topology does not say; HAProxy's range is 1 to 256."""

HOLD = "hold"
"""The stand-in server of every group: it is used while no other can be, and lets requests wait."""

KEEP_ALIVE_SECONDS = 8
"""How long an idle client connection is kept; shorter than what a stop waits for, so that all end by themselves."""

ALGORITHMS: Mapping[tiers.Policy, str] = {
    "round_robin": "roundrobin",
    "least_connections": "leastconn",
    "weighted_round_robin": "roundrobin",
    "weighted_least_connections": "leastconn",
    "ip_hash": "source",
    "random": "random(1)",
    "fastest": "roundrobin",
}
"""HAProxy's name for each policy. `random(1)` draws one server; its default draws two and takes the less busy one.
`fastest` is round robin by weights that follow the measured response times (`weights`)."""


EDGES = "/edges"
"""The edges' place among the groups; no group of web servers can have this name."""

ORIGIN = "origin"
"""The server that stands in for the edges: the private front door of this balancer itself."""

WAITING_SHARE = 4
"""How many times `web.max_requests` a web server is given at once: writes that wait for a failover hold a connection
too, and reads must not queue behind them. What the app *works on* is bounded by its middleware."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """One web server as the balancer sees it."""

    name: str
    address: str
    """`address:port`."""
    weight: int = DEFAULT_WEIGHT


@dataclass(frozen=True, slots=True)
class Group:
    """Web servers that serve the same app."""

    name: str
    upstreams: tuple[Upstream, ...]
    socket: Path
    """Where requests wait while none of the servers is usable."""
    may_grow: bool = False
    """Whether the number of its servers follows the load."""

    @property
    def full(self) -> str:
        """The variable that says that no more servers of it will come."""
        return full(self.name)

    @property
    def backend(self) -> str:
        """The group's name inside HAProxy."""
        return backend(self.name)


@dataclass(frozen=True, slots=True)
class Cdn:
    """The edges before the web servers, and the private front door where they fetch what they do not have."""

    edges: tuple[Upstream, ...]
    origin: str
    """`address:port` on the private network."""
    cookie: str
    """Who sends this cookie has written what an edge may not know yet."""
    paths: tuple[str, ...]
    """The paths that requests are counted by, longest first."""

    @property
    def backend(self) -> str:
        """The edges' name inside HAProxy."""
        return backend(EDGES)


@dataclass(frozen=True, slots=True)
class Home:
    """Where requests that may write are worked on: in the home region, whichever region they come to."""

    entrance: str
    """`address:port` of the private front door where those of other regions come in."""
    balancers: tuple[Upstream, ...]
    """Of the home region, as seen from here; empty: this is the home region."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the templates need."""

    service: str
    name: str
    """The balancer's own, for traces."""
    debug_digest: str
    """What the debug key hashes to."""
    listen: str
    certificate: Path | None
    """Under TLS: certificate, chain and key in one file."""
    domain: str
    redirect: str
    """`address:port` where plain HTTP is redirected to https; empty: nowhere."""
    statistics: str
    """`address:port` on the private network: a page at /, Prometheus text at /metrics."""
    runtime_socket: Path
    hold_script: Path
    policy: tiers.Policy
    algorithm: str
    weights: tuple[tuple[str, int], ...]
    sticky_key: str
    """Makes the sticky cookie's values unguessable; empty: not sticky."""
    routes: tuple[tiers.Route, ...]
    """Longest path first."""
    cdn: Cdn | None
    """None: every request goes straight to a web server."""
    home: Home | None
    """None: there is one region."""
    groups: tuple[Group, ...]
    max_requests: int
    """Requests that this balancer gives to one server at once: its share of what the server takes."""
    request_seconds: float

    @property
    def own_name(self) -> str:
        """What stands for the Host header that an old client does not send."""
        return self.domain or self.listen.rpartition(":")[0]

    @property
    def redirected_port(self) -> str:
        """What follows the host name in the URL that plain HTTP is redirected to."""
        port = self.listen.rpartition(":")[2]
        return "" if port == "443" else f":{port}"

    @property
    def queue_milliseconds(self) -> int:
        """How long a request may wait for a free place on a busy server."""
        return round(self.request_seconds * 500)

    @property
    def hold_milliseconds(self) -> int:
        """How long after its arrival a request may wait for a usable server."""
        return round(self.request_seconds * 800)

    @property
    def in_vain_milliseconds(self) -> int:
        """Who would wait for longer in a group that grows no more is refused at once: half of what a wait may take, so
        that hardly anybody waits to its end in vain."""
        return self.queue_milliseconds // 2

    @property
    def home_seconds(self) -> int:
        """How long the home region may take to answer: as long as it gives a request itself, and the way."""
        return round(self.request_seconds) + 2

    @property
    def stop_seconds(self) -> int:
        """How long a stopping or reloaded process may take over its open requests."""
        return round(max(self.request_seconds, KEEP_ALIVE_SECONDS)) + 4

    @property
    def server_options(self) -> str:
        """What every server is configured with, in the file and when it joins a running HAProxy alike."""
        return server_options(self.max_requests)

    @property
    def places(self) -> Mapping[tuple[str, str], Upstream]:
        """Every web server and every edge, by group and name."""
        groups = [(group.name, group.upstreams) for group in self.groups]
        groups += [(EDGES, self.cdn.edges)] if self.cdn else []
        return {(name, one.name): one for name, upstreams in groups for one in upstreams}

    @property
    def edge_options(self) -> str:
        """The same of every edge: it takes all that comes."""
        return server_options(0)


def backend(group: str) -> str:
    """The name inside HAProxy of a group of web servers, or of the edges."""
    return "edges" if group == EDGES else f"group-{group}"


def full(group: str) -> str:
    """The variable inside HAProxy that says that no more servers of a group will come. Any name is a word there."""
    return f"proc.full_{group.encode().hex()}"


def runtime_socket(seat: engines.Seat) -> Path:
    """The socket that `admin` talks to the running worker through."""
    return seat.run / f"{seat.server.name}.haproxy"


def master_socket(seat: engines.Seat) -> Path:
    """The socket of the master process, which reloads."""
    return seat.run / f"{seat.server.name}.haproxy-master"


def server_options(max_requests: int) -> str:
    """Health checks every 500 ms; one failed connection, of a check or of a request, takes a server out at once.

    While it is out it is looked at every 200 ms. Idle connections are closed long before the web server would do it.
    """
    return (
        "check inter 500ms fastinter 100ms downinter 200ms fall 1 rise 1"
        f" observe layer4 error-limit 1 on-error mark-down pool-purge-delay 1s maxconn {max_requests}"
    )


def of(seat: engines.Seat) -> Settings:
    """The settings of the HAProxy in this seat."""
    topology = seat.topology
    balancer = topology.balancer or tiers.Balancer(servers=1)
    return Settings(
        service=topology.service.name,
        name=seat.server.name,
        debug_digest=_debug_digest(seat.secrets),
        listen=topology.service.listen,
        certificate=seat.certificate,
        domain=topology.service.domain,
        redirect=topology.service.redirect,
        statistics=f"{seat.address}:{seat.process.port}",
        runtime_socket=runtime_socket(seat),
        hold_script=seat.config / "hold.lua",
        policy=balancer.policy,
        algorithm=_algorithm(balancer.policy, has_shares=bool(seat.weights)),
        weights=_weights(seat),
        sticky_key=_sticky_key(seat.secrets) if topology.is_sticky and topology.balancer else "",
        routes=tuple(sorted(balancer.route, key=lambda route: (-len(route.path), route.path))),
        cdn=_cdn(seat),
        home=_home(seat),
        groups=groups(seat),
        max_requests=-(-topology.web.max_requests * WAITING_SHARE // balancer.servers),
        request_seconds=topology.service.request_seconds,
    )


def _cdn(seat: engines.Seat) -> Cdn | None:
    cdn = seat.topology.cdn
    if cdn is None or cdn.edges == 0:
        return None
    port = layout.PORTS["varnish"]
    return Cdn(
        edges=tuple(
            Upstream(one.name, f"{one.address(seat.network)}:{port}")
            for one in seat.layout.running("varnish")
            if one.region == seat.server.region
        ),
        origin=f"{seat.address}:{layout.ORIGIN_PORT}",
        cookie=f"{seat.topology.service.name}-edge",
        paths=cdn.counted_paths,
    )


def _home(seat: engines.Seat) -> Home | None:
    topology, own = seat.topology, seat.server
    if not topology.has_regions:
        return None
    others = seat.layout.of(topology.home).balancers if own.region != topology.home else ()
    port = layout.HOME_PORT
    return Home(
        entrance=f"{seat.address}:{port}",
        balancers=tuple(
            Upstream(one.name, f"{one.address(seat.network, seen_from=own.region_number)}:{port}") for one in others
        ),
    )


def groups(seat: engines.Seat) -> tuple[Group, ...]:
    """The web servers that the seat's layout names, by group; the default group is always the first."""
    weights = dict(_weights(seat))
    return tuple(
        Group(
            name=name,
            upstreams=tuple(_upstream(server, seat.network, weights) for server in seat.neighbours.web(name)),
            socket=seat.run / f"{seat.server.name}.hold-{number}",
            may_grow=layout.tier_of(name) in seat.topology.bounds,
        )
        for number, name in enumerate((layout.DEFAULT_GROUP, *sorted(seat.topology.web_groups)))
    )


def _upstream(server: layout.Server, network: int, weights: Mapping[str, int]) -> Upstream:
    port = layout.PORTS["granian"]
    return Upstream(server.name, f"{server.address(network)}:{port}", weights.get(server.name, DEFAULT_WEIGHT))


def _algorithm(policy: tiers.Policy, *, has_shares: bool) -> str:
    """While a canary has its share, requests go round: `leastconn` gives idle servers the same, whatever they weigh."""
    algorithm = ALGORITHMS[policy]
    return "roundrobin" if has_shares and algorithm == "leastconn" else algorithm


def _weights(seat: engines.Seat) -> tuple[tuple[str, int], ...]:
    """The weights that count: a canary's and its neighbours', else those of the weighted policies."""
    balancer = seat.topology.balancer
    usual = balancer.weights if balancer and balancer.policy.startswith("weighted") else {}
    return tuple(sorted({**usual, **seat.weights}.items()))


def _debug_digest(secrets: engines.Secrets) -> str:
    """As HAProxy's `sha2(256),hex` says it. To compare digests tells nobody anything by the time it takes."""
    return hashlib.sha256(bindings.debug_key(secrets.signing).encode()).hexdigest().upper()


def _sticky_key(secrets: engines.Secrets) -> str:
    """The same on every balancer of the service, so that a client may meet any of them."""
    return hmac.digest(secrets.signing.encode(), b"haproxy sticky cookie", "sha256").hex()
