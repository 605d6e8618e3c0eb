"""The rules that no single field can state. Each is a function `ensure_...` that yields a problem for every breach.

Called by `load` with a topology whose fields are right one by one; a rule that reads a field which is not is left out.
Pure: whether files, modules and ports exist is for the runtime to find out.
"""

import dataclasses
import ipaddress
import itertools
import re
from collections.abc import Callable, Iterable, Iterator

from tenfold.errors import Problem
from tenfold.topology import edges, layout, nearest, problems, regional, tiers, units

NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?")
NAME_FORM = "lower case letters, digits and dashes, at most 40, beginning with a letter"
APP = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
APP_FORM = 'module:attribute, such as "shop.web:app"'
DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ROUTE = re.compile(r"/[\w./~%@:+-]*", re.ASCII)

MOST_WEB_SERVERS = 90
"""So many addresses there are for the servers of `[web]`."""

SPARE_CONNECTIONS = 20
"""Database connections that no process of the app may take: for tenfold itself, migrations, and `tenfold psql`."""

BESIDE_POOL = 3
"""What each process keeps open to the primary beside its pool: its look at the node's role, the ear of its queue, and
that of its cache."""


def ensure_name(topology: tiers.Topology) -> Iterator[Problem]:
    """The service's name can name a database, a cookie and a folder."""
    name = topology.service.name
    if not NAME.fullmatch(name):
        yield Problem("service.name", problems.as_toml(name), NAME_FORM)


def ensure_one_app(topology: tiers.Topology) -> Iterator[Problem]:
    """Exactly one of app and factory, of the right form."""
    service = topology.service
    if service.app and service.factory:
        yield Problem("service.factory", "a factory beside an app", "exactly one of app and factory", "remove one")
    elif not service.app and not service.factory:
        advice = "add app = ..., or factory = ... for a function that returns the app"
        yield Problem("service.app", "nothing", APP_FORM, advice)
    yield from _forms("service", service.app, service.factory)


def ensure_listen(topology: tiers.Topology) -> Iterator[Problem]:
    """The front door is an IP address and a port."""
    yield from _listens("service.listen", topology.service.listen, "127.0.0.1:8080")


def ensure_redirect(topology: tiers.Topology) -> Iterator[Problem]:
    """Plain HTTP is redirected from an address of its own, and only when there is something to redirect to."""
    service = topology.service
    found = problems.as_toml(service.redirect_http)
    if service.redirect_http in ("", "off"):
        return
    if service.tls is None:
        advice = 'add tls = "self-signed", or { certificate = "...", key = "..." }, or remove the line'
        yield Problem("service.redirect_http", f"{found} without tls", "nothing", advice)
    elif service.redirect_http == service.listen:
        yield Problem("service.redirect_http", f"{found}, which listen has too", "another port", "take 8080, say")
    else:
        yield from _listens("service.redirect_http", service.redirect_http, "127.0.0.1:8080", ' (or "off")')


def ensure_domain(topology: tiers.Topology) -> Iterator[Problem]:
    """The domain is a host name: no scheme, port or path."""
    domain = topology.service.domain
    if domain and (len(domain) > 253 or not DOMAIN.fullmatch(domain)):
        advice = "leave scheme, port and path out"
        yield Problem("service.domain", problems.as_toml(domain), 'a host name, such as "shop.test"', advice)


def ensure_env(topology: tiers.Topology) -> Iterator[Problem]:
    """Variables have names that a process can be given, and leave tenfold's own alone."""
    for name in topology.service.env:
        if not VARIABLE.fullmatch(name):
            yield Problem(f"service.env.{name}", "a name", "letters, digits and underscores")
        elif name.startswith("TENFOLD_"):
            yield Problem(f"service.env.{name}", "a name of tenfold's own", "another name", "rename it")


def ensure_dns(topology: tiers.Topology) -> Iterator[Problem]:
    """Name servers have a name to answer for, an address each to answer on, and addresses to answer with."""
    if topology.dns is None:
        return
    if not topology.service.domain:
        advice = 'add domain = "shop.example" to [service], or remove [dns]'
        yield Problem("service.domain", "nothing with [dns]", "the name that is answered", advice)
    listen, servers = topology.dns.listen, topology.dns.servers * len(topology.regions)
    if listen and len(listen) != servers:
        found = f"{len(listen)} {'address' if len(listen) == 1 else 'addresses'} for {servers} name servers"
        yield Problem("dns.listen", found, f"{servers}, one for each, or none", "name servers do not share addresses")
    yield from _repeated("dns.listen", [(f"dns.listen[{number}]", one) for number, one in enumerate(listen)])
    for number, one in enumerate(listen):
        yield from _listens(f"dns.listen[{number}]", one, "127.0.0.1:5353")
    if topology.service.listens_everywhere and not topology.regions[topology.first].addresses:
        found = f"none, with service.listen on {topology.service.listen.rpartition(':')[0].strip('[]')}"
        advice = 'add addresses = ["203.0.113.7"]: what clients are to call'
        yield Problem(f"regions.{topology.first}.addresses", found, "the region's public addresses", advice)


def ensure_regions_are_found(topology: tiers.Topology) -> Iterator[Problem]:
    """Addresses are addresses, networks are networks, and no network belongs to two regions."""
    networks: list[tuple[str, str]] = []
    for name, region in topology.regions.items():
        for number, text in enumerate(region.addresses):
            if not _is_address(f"[{text}]" if ":" in text else text):
                path = f"regions.{name}.addresses[{number}]"
                yield Problem(path, problems.as_toml(text), 'an IP address, such as "203.0.113.7"', "without a port")
        for number, text in enumerate(region.networks):
            path = f"regions.{name}.networks[{number}]"
            try:
                networks.append((path, str(ipaddress.ip_network(text))))
            except ValueError:
                form = 'a network without host bits, such as "203.0.113.0/24"'
                yield Problem(path, problems.as_toml(text), form)
    yield from _repeated("regions", networks)
    if topology.regions and all(region.weight == 0 for region in topology.regions.values()):
        yield Problem("regions", "no region with a weight", "one or more", "remove weight = 0 from one of them")


def ensure_balancer(topology: tiers.Topology) -> Iterator[Problem]:
    """More than one web server needs someone to choose between them."""
    if topology.balancer is not None:
        return
    if topology.web.bounds is not None:
        found = "a range without [balancer]"
        yield Problem("web.servers", found, "1", "add [balancer] with servers = 2, or set servers to 1")
    elif topology.web.count > 1:
        found = f"{topology.web.count} without [balancer]"
        yield Problem("web.servers", found, "1", "add [balancer] with servers = 2, or set servers to 1")
    for name in topology.web_groups:
        advice = "add [balancer] with a [[balancer.route]] to it, or remove the group"
        yield Problem(f"web_groups.{name}", "a group without [balancer]", "no group", advice)


def ensure_ranges(topology: tiers.Topology) -> Iterator[Problem]:
    """A range goes from one number to another that is not smaller, and for every server there is an address."""
    for path, bounds in topology.bounds.items():
        most = MOST_WEB_SERVERS if path == "web" else layout.GROUP_SERVERS
        if bounds.min > bounds.max:
            advice = f"swap them, or set servers = {bounds.min}"
            yield Problem(f"{path}.servers", f"min = {bounds.min} with max = {bounds.max}", "min <= max", advice)
        elif bounds.max > most:
            yield Problem(f"{path}.servers.max", str(bounds.max), f"{most} or less")


def ensure_group_names(topology: tiers.Topology) -> Iterator[Problem]:
    """A group's name can be part of a server's name, and is not the name of the group that is always there."""
    for name in topology.web_groups:
        if not NAME.fullmatch(name):
            yield Problem(f"web_groups.{name}", problems.as_toml(name), NAME_FORM)
        elif name == layout.DEFAULT_GROUP:
            advice = "rename it; the servers of [web] are the group of this name"
            yield Problem(f"web_groups.{name}", problems.as_toml(name), "another name", advice)


def ensure_group_apps(topology: tiers.Topology) -> Iterator[Problem]:
    """A group runs the service's app, or one of its own."""
    for name, group in topology.web_groups.items():
        path = f"web_groups.{name}"
        if group.app and group.factory:
            yield Problem(f"{path}.factory", "a factory beside an app", "at most one of app and factory", "remove one")
        yield from _forms(path, group.app, group.factory)


def ensure_group_addresses(topology: tiers.Topology) -> Iterator[Problem]:
    """No two groups share a block of addresses, which their names choose, and those of their regions."""
    taken: dict[tuple[int, int], str] = {}
    for region, name in itertools.product(layout.regions(topology), topology.web_groups):
        block = layout.group_address(region.scope, name)
        if block in taken:
            found = f"a name whose addresses are those of {taken[block]}"
            yield Problem(f"web_groups.{name}", found, "a block of addresses of its own", "rename one of the two")
        taken.setdefault(block, name)


def ensure_routes(topology: tiers.Topology) -> Iterator[Problem]:
    """Every route has a path of its own and leads to a group that exists."""
    if topology.balancer is None:
        return
    groups = [layout.DEFAULT_GROUP, *topology.web_groups]
    seen: set[str] = set()
    for number, route in enumerate(topology.balancer.route):
        path = f"balancer.route[{number}]"
        if not ROUTE.fullmatch(route.path):
            form = 'a path that begins with a slash, without spaces and queries, such as "/api/"'
            yield Problem(f"{path}.path", problems.as_toml(route.path), form)
        elif route.path in seen:
            yield Problem(f"{path}.path", f"{problems.as_toml(route.path)} again", "a path of its own", "remove one")
        if route.group not in groups:
            close = nearest.name(route.group, groups)
            advice = f"did you mean {close}?" if close else f"add [web_groups.{route.group}]"
            yield Problem(f"{path}.group", problems.as_toml(route.group), f"one of {', '.join(groups)}", advice)
        seen.add(route.path)


def ensure_weights(topology: tiers.Topology) -> Iterator[Problem]:
    """Weights are for web servers that exist, 1 to 256, and for a policy that looks at them."""
    if topology.balancer is None:
        return
    weights, policy = topology.balancer.weights, topology.balancer.policy
    widest = topology.decided({path: bounds.max for path, bounds in topology.bounds.items()})
    names = [server.name for server in layout.layout(widest).running("granian")]
    for name, weight in weights.items():
        path = f"balancer.weights.{name}"
        if name not in names:
            close = nearest.name(name, names)
            yield Problem(path, "no such web server", _few(names), f"did you mean {close}?" if close else "remove it")
        elif not 1 <= weight <= 256:
            yield Problem(path, str(weight), "1 to 256")
    if weights and not policy.startswith("weighted_"):
        found = f"weights with policy = {problems.as_toml(policy)}"
        expected = '"weighted_round_robin" or "weighted_least_connections"'
        yield Problem("balancer.weights", found, f"policy {expected}", "set the policy, or remove the weights")


def ensure_cache_cluster(topology: tiers.Topology) -> Iterator[Problem]:
    """A cluster needs three primaries: of two, neither can tell whether the other is dead or only out of reach."""
    if topology.cache is not None and topology.cache.servers == 2:
        advice = "two cannot agree on which of them died; set servers to 3, which makes 6 with their replicas, or to 1"
        yield Problem("cache.servers", "2", "0, 1, or 3 to 9", advice)


def ensure_session_store(topology: tiers.Topology) -> Iterator[Problem]:
    """Sessions in the cache need cache servers: what one process keeps, no other one has."""
    if topology.sessions.store == "cache" and topology.cache_servers == 0:
        found = '"cache" without cache servers'
        advice = 'add [cache] with servers = 3, or set store to "database" or "token"'
        yield Problem("sessions.store", found, '"database", "token" or "memory"', advice)


def ensure_sticky(topology: tiers.Topology) -> Iterator[Problem]:
    """Sessions in a web server's memory need the client to come back to the same process."""
    if topology.sessions.store != "memory":
        return
    balancer = topology.balancer
    if balancer is not None and not balancer.sticky and "sticky" in balancer.model_fields_set:
        advice = 'remove the line, or set sessions.store to "database", "cache" or "token"'
        yield Problem("balancer.sticky", 'false with sessions.store = "memory"', "true", advice)
    groups = {f"web_groups.{name}": group.workers_per_server for name, group in topology.web_groups.items()}
    for path, workers in {"web": topology.web.workers_per_server, **groups}.items():
        if workers > 1:
            found = f'{workers} with sessions.store = "memory"'
            advice = "each process has a memory of its own; set it to 1 and take more servers, or another store"
            yield Problem(f"{path}.workers_per_server", found, "1", advice)


def ensure_queue_majority(topology: tiers.Topology) -> Iterator[Problem]:
    """An even number of queue servers survives no more deaths than one less."""
    if topology.queue is not None and topology.queue.servers % 2 == 0:
        count = topology.queue.servers
        advice = f"{count} bear no more deaths than {count - 1}; set servers to {count - 1} or {count + 1}"
        yield Problem("queue.servers", str(count), "1, 3 or 5", advice)


def ensure_message_fits(topology: tiers.Topology) -> Iterator[Problem]:
    """The queue can hold a few of the largest messages."""
    queue = topology.queue
    if queue is not None and queue.storage_bytes < 8 * queue.message_size_bytes:
        least = units.size(8 * queue.message_size_bytes)
        found = f'"{units.size(queue.storage_bytes)}" with message_size = "{units.size(queue.message_size_bytes)}"'
        yield Problem("queue.storage", found, f'"{least}" or more', "make storage larger, or message_size smaller")


def ensure_imports(topology: tiers.Topology) -> Iterator[Problem]:
    """What workers import are names of modules."""
    for number, name in enumerate(topology.workers.imports if topology.workers else ()):
        if not MODULE.fullmatch(name):
            advice = "leave out the attribute and .py" if ":" in name or name.endswith(".py") else ""
            form = 'the name of a module, such as "shop.mailer"'
            yield Problem(f"workers.imports[{number}]", problems.as_toml(name), form, advice)


def ensure_placement(topology: tiers.Topology) -> Iterator[Problem]:
    """A database beside the app is only for the one server that has both."""
    if topology.database.placement != "shared":
        return
    others = ["[balancer]"] if topology.balancer is not None else []
    others += ["replicas"] if topology.database.replicas else []
    if others:
        advice = 'set placement to "own", or remove the line'
        yield Problem("database.placement", f'"shared" with {" and ".join(others)}', '"own"', advice)


def ensure_synchronous(topology: tiers.Topology) -> Iterator[Problem]:
    """A commit can wait for a replica, or another region, only when there is one."""
    database = topology.database
    said = problems.as_toml(database.synchronous)
    if database.synchronous and database.replicas < 1:
        advice = "set replicas to 1 or more, or synchronous to false"
        yield Problem("database.replicas", f"{database.replicas} with synchronous = {said}", "1 or more", advice)
    if database.synchronous == "regions" and not topology.has_regions:
        advice = "add another [regions.NAME], or set synchronous to true: a commit then waits for a replica at home"
        yield Problem("database.synchronous", f"{said} with one region", "two regions or more", advice)


def ensure_connections(topology: tiers.Topology) -> Iterator[Problem]:
    """PostgreSQL takes the connections of all processes at once, those beside their pools too, and a few more."""
    database = topology.database
    everywhere = [topology.of(name) for name in topology.regions] or [topology]
    processes = sum(_web_processes(one) for one in everywhere)
    workers = topology.workers.most * topology.workers.processes if topology.workers else 0
    needed = (processes + workers) * (database.pool_size + BESIDE_POOL) + SPARE_CONNECTIONS
    if needed > database.max_connections:
        each = f"{processes} web {f'and {workers} worker ' if workers else ''}processes"
        pools = f"a pool_size of {database.pool_size}, and {BESIDE_POOL} more each"
        found = f"{database.max_connections} for {each} with {pools}"
        advice = f"set max_connections to {needed}, or a smaller pool_size"
        yield Problem("database.max_connections", found, f"{needed} or more", advice)


def _web_processes(topology: tiers.Topology) -> int:
    groups = sum(group.most * group.workers_per_server for group in topology.web_groups.values())
    return topology.web.most * topology.web.workers_per_server + groups


def ensure_one_home(topology: tiers.Topology) -> Iterator[Problem]:
    """One region has the primaries."""
    primaries = [name for name, region in topology.regions.items() if region.primary]
    if not topology.regions:
        yield Problem("regions", "no region", "one", "remove [regions], or add [regions.NAME] with primary = true")
    elif len(primaries) != 1:
        found = " and ".join(primaries) + " with primary = true" if primaries else "no region with primary = true"
        yield Problem("regions", found, "exactly one", "set primary = true in the region where the primaries live")


def ensure_region_doors(topology: tiers.Topology) -> Iterator[Problem]:
    """Every region's front door has an address of its own."""
    doors = [("service.listen", topology.service.listen)]
    for name, region in topology.regions.items():
        path = f"regions.{name}.listen"
        if region.listen:
            yield from _listens(path, region.listen, "127.0.0.1:8080")
            doors = doors[1:] if name == topology.first else doors
            doors.append((path, region.listen))
    yield from _repeated("regions", doors)


def ensure_region_tiers(topology: tiers.Topology) -> Iterator[Problem]:
    """What a region has otherwise than the service fits together there, too."""
    for name in topology.regions if topology.has_regions else ():
        own = topology.of(name)
        for problem in (*ensure_balancer(own), *ensure_cache_cluster(own)):
            section = problem.path.partition(".")[0]
            if getattr(topology.regions[name], section, None) is not None:
                yield dataclasses.replace(problem, path=f"regions.{name}.{problem.path}")


def ensure_region_names(topology: tiers.Topology) -> Iterator[Problem]:
    """A region's name can be part of a server's name."""
    for name in topology.regions:
        if not NAME.fullmatch(name):
            yield Problem(f"regions.{name}", problems.as_toml(name), NAME_FORM)


Rule = Callable[[tiers.Topology], Iterable[Problem]]

RULES: tuple[tuple[Rule, tuple[str, ...]], ...] = (
    (ensure_name, ("service.name",)),
    (ensure_one_app, ("service.app", "service.factory")),
    (ensure_listen, ("service.listen",)),
    (ensure_redirect, ("service.listen", "service.redirect_http", "service.tls")),
    (ensure_domain, ("service.domain",)),
    (ensure_env, ("service.env",)),
    (ensure_dns, ("dns", "service.domain", "service.listen", "regions")),
    (ensure_regions_are_found, ("regions",)),
    (ensure_balancer, ("balancer", "web.servers", "web_groups")),
    (ensure_ranges, ("web.servers", "web_groups", "workers.servers")),
    (ensure_group_names, ("web_groups",)),
    (ensure_group_apps, ("web_groups",)),
    (ensure_one_home, ("regions",)),
    (ensure_region_names, ("regions",)),
    (ensure_region_doors, ("regions", "service.listen")),
    (ensure_region_tiers, ("regions", "balancer", "web", "cache")),
    (regional.ensure_few_regions, ("regions",)),
    (regional.ensure_own_database, ("regions",)),
    (regional.ensure_sessions_cross, ("regions", "sessions.store")),
    (regional.ensure_links, ("regions", "wan")),
    (ensure_group_addresses, ("web_groups", "regions")),
    (ensure_routes, ("balancer.route", "web_groups")),
    (ensure_weights, ("balancer", "web.servers", "web_groups", "regions")),
    (edges.ensure_static, ("cdn.static",)),
    (edges.ensure_static_path, ("cdn.static_path",)),
    (edges.ensure_paths, ("cdn.path",)),
    (ensure_cache_cluster, ("cache.servers",)),
    (ensure_session_store, ("cache.servers", "sessions.store")),
    (ensure_sticky, ("balancer.sticky", "sessions.store", "web.workers_per_server", "web_groups")),
    (ensure_queue_majority, ("queue.servers",)),
    (ensure_message_fits, ("queue.storage", "queue.message_size")),
    (ensure_imports, ("workers.imports",)),
    (ensure_placement, ("database.placement", "database.replicas")),
    (ensure_synchronous, ("database.replicas", "database.synchronous", "regions")),
    (ensure_connections, ("database", "web", "web_groups", "workers.servers", "workers.processes", "regions")),
)
"""Every rule, with the fields it reads."""


def problems_of(topology: tiers.Topology, bad: Iterable[str] = ()) -> list[Problem]:
    """What the rules find. `bad` are the paths of fields that are wrong by themselves: rules that read them wait."""
    bad = tuple(bad)
    found: list[Problem] = []
    for rule, reads in RULES:
        home_is_known = rule is not ensure_group_addresses and rule is not ensure_weights
        if any(_touches(path, field) for path in bad for field in reads):
            continue
        if home_is_known or not any(problem.path.startswith("regions") for problem in found):
            found += rule(topology)
    return found


def _touches(path: str, field: str) -> bool:
    """Whether a path lies within a field, or a field within a path."""
    inner, outer = (path, field) if len(path) > len(field) else (field, path)
    return inner == outer or (inner.startswith(outer) and inner[len(outer)] in ".[")


def _forms(path: str, app: str, factory: str) -> Iterator[Problem]:
    for key, value in (("app", app), ("factory", factory)):
        if value and not APP.fullmatch(value):
            yield Problem(f"{path}.{key}", problems.as_toml(value), APP_FORM)


def _listens(path: str, listen: str, example: str, more: str = "") -> Iterator[Problem]:
    address, _, port = listen.rpartition(":")
    is_port = port.isascii() and port.isdigit() and 1 <= int(port) <= 65535
    if not is_port or not _is_address(address):
        form = f'ADDRESS:PORT with an IP address and a port from 1 to 65535, such as "{example}"{more}'
        advice = "put brackets around an IPv6 address" if address.count(":") > 1 and "[" not in address else ""
        yield Problem(path, problems.as_toml(listen), form, advice)


def _repeated(path: str, named: list[tuple[str, str]]) -> Iterator[Problem]:
    """What is said twice where each is to be said once."""
    first: dict[str, str] = {}
    for where, value in named:
        if value in first:
            found = f"{problems.as_toml(value)}, which {first[value]} has too"
            yield Problem(where, found, "each of them once", "remove one of the two")
        first.setdefault(value, where)


def _is_address(text: str) -> bool:
    try:
        if text.startswith("[") and text.endswith("]"):
            ipaddress.IPv6Address(text[1:-1])
        else:
            ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _few(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{names[0]} to {names[-1]}"
