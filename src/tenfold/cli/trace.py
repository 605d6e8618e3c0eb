"""`tenfold trace URL`: one request with every hop, every decision and every wait, as a tree."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import click
import h11

from tenfold import bindings, errors
from tenfold.cli import output, project, trace_edge, trace_tree, trust, vantage
from tenfold.runtime import paths, records
from tenfold.runtime.develop import record
from tenfold.topology import load as load_topology
from tenfold.topology import tiers
from tenfold.traffic import connection, cookie_file, cookies, resolving
from tenfold.traffic import visit as visits

HEADER = "Tenfold-Debug"

LOCAL = frozenset(("127.0.0.1", "localhost", "::1"))


@click.command()
@click.argument("url", required=False)
@click.option("--from", "region", metavar="REGION", help="With [dns]: as a client of this region looks the name up.")
@click.option("--method", "-X", help="The method; default: GET, with --data POST.")
@click.option("--header", "-H", "headers", multiple=True, help="A header of the request, 'Name: value'. Repeatable.")
@click.option("--data", "-d", help="The body, or @FILE.")
@click.option("--cookies", "cookie_path", type=click.Path(path_type=Path), help="Send and keep cookies in this file.")
@click.option("--repeat", type=click.IntRange(1, 10_000), default=1, help="So many requests; the slowest as a tree.")
@click.option("--timeout", "timeout_seconds", type=click.FloatRange(min=0.1), default=30.0, show_default=True)
@click.option("--ca", type=click.Path(path_type=Path, dir_okay=False), help="Believe certificates of this PEM file.")
@click.option("--insecure", is_flag=True, help="Believe any certificate.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each request, a line each.")
@click.option("--key", "shows_key", is_flag=True, help="Print the service's debug key, and send nothing.")
@click.pass_context
def trace(ctx: click.Context, /, url: str | None, shows_key: bool, **options: Any) -> int:
    """Send one request through the front door, and show every hop with its time and why it went that way.

    URL may be a path alone. A request to another host than the service's goes without the debug key, and shows no more
    than the client sees. Exit code 0: answered, whatever the status; 1: not answered; 2: bad input.

    Example: tenfold trace /
    """
    where = _project(ctx, url)
    if shows_key:
        click.echo(_key(where))
        return 0
    if url is None:
        raise errors.BadInput("url: none found, a URL or a path of the service expected, such as: tenfold trace /")
    ca, insecure = options.pop("ca"), options.pop("insecure")
    return project.run(_trace(where, url, Asked(**options), ca=ca, insecure=insecure))


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes. `origin` is where the connection is made to, `host` what the request says."""

    origin: connection.Origin
    host: str
    path: str
    is_own: bool


def target(url: str, service: tiers.Service | None, seen: trust.Trust) -> Target:
    """What the words mean: a path of the service, a URL of the service, or a URL of somebody else's."""
    if url.startswith("/"):
        if service is None:
            raise errors.BadInput(f"url: {url!r} found, a whole URL expected: there is no tenfold.toml here or above")
        url = service.url + url
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise errors.BadInput(f"url: {url!r} found, http://HOST/PATH or a path that begins with / expected")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._") + (f"?{parts.query}" if parts.query else "")
    named = connection.Origin.parse(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", seen.context, seen.name)
    if service is None or not _is_own(named, service):
        return Target(named, named.host_header, path, is_own=False)
    door = connection.Origin.parse(service.url, seen.context, seen.name or named.host)
    return Target(door, named.host_header, path, is_own=True)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options say about the request, and about how it is shown."""

    method: str | None
    headers: tuple[str, ...]
    data: str | None
    cookie_path: Path | None
    repeat: int
    timeout_seconds: float
    as_json: bool
    region: str | None = None
    """Where the client is, for name servers; None: nowhere in particular."""


async def _trace(where: paths.Paths | None, url: str, asked: Asked, *, ca: Path | None, insecure: bool) -> int:
    topology = load_topology.load(where.topology) if where else None
    service = topology.service if topology else None
    own = service.url if service is not None and target(url, service, trust.Trust()).is_own else url
    there = target(url, service, trust.of(where.topology if where else None, service, own, ca=ca, insecure=insecure))
    call = _call(there, _key(where) if there.is_own else "", asked)
    if where and topology and _is_looked_up(url, there, topology):
        call = _by_name(call, vantage.of(where, topology, asked.region), vantage.url(topology.service))
    elif asked.region is not None:
        raise errors.BadInput("--from: a URL found that name servers of [dns] do not answer for; leave it out")
    jar = cookies.Jar(urlsplit(f"//{there.host}").hostname or there.host)
    if asked.cookie_path is not None:
        cookie_file.load(asked.cookie_path, jar, jar.host)
    has_edges = topology is not None and topology.edge_servers > 0 and there.is_own
    edge = await _ask_edge(call, jar, asked) if has_edges else None
    found = [await _visit(call, jar, asked, edge) for _ in range(asked.repeat)]
    if asked.cookie_path is not None:
        cookie_file.save(asked.cookie_path, jar, jar.host)
    if not asked.as_json:
        _tell(call, max(found, key=lambda one: one.total_ms), there, edge)
    return 0 if all(one.answer is not None for one in found) else 1


def _is_looked_up(url: str, there: Target, topology: tiers.Topology) -> bool:
    """Whether name servers of ours say where this goes: a path of the service, or a URL with its domain."""
    is_by_name = url.startswith("/") or urlsplit(url).hostname == topology.service.domain
    return topology.dns is not None and there.is_own and is_by_name


def _by_name(call: visits.Call, resolver: resolving.Resolver, door: str) -> visits.Call:
    """The same call by the domain, which is looked up."""
    named = connection.Origin.parse(door, call.origin.trust, call.origin.certified_name or resolver.name)
    return replace(call, origin=named, host=named.host_header, resolver=resolver)


async def _ask_edge(call: visits.Call, jar: cookies.Jar, asked: Asked) -> trace_edge.Seen | None:
    try:
        return await trace_edge.ask(_with_cookies(call, jar), asked.timeout_seconds)
    except h11.LocalProtocolError:
        return None  # the request itself says what is wrong with it


def _with_cookies(call: visits.Call, jar: cookies.Jar) -> visits.Call:
    carried = jar.header(call.path.partition("?")[0], call.origin.is_secure, time.time())
    return replace(call, headers=(*call.headers, ("Cookie", carried))) if carried else call


async def _visit(call: visits.Call, jar: cookies.Jar, asked: Asked, edge: trace_edge.Seen | None) -> visits.Visit:
    """One request with the jar's cookies; its answer's go into the jar."""
    is_secure, path = call.origin.is_secure, call.path.partition("?")[0]
    call = _with_cookies(call, jar)
    try:
        visit = await visits.pay(call, asked.timeout_seconds)
    except h11.LocalProtocolError as error:
        raise errors.BadInput(f"request: {error}; look at --method, --header and the path") from error
    for value in visit.answer.header_values(b"set-cookie") if visit.answer else ():
        jar.take(value, path, is_secure, time.time())
    if asked.as_json:
        click.echo(json.dumps(_document(call, visit, edge)))
    elif asked.repeat > 1:
        output.console.print(f"{visit.total_ms:9.1f} ms  {_outcome(visit)}", markup=False, soft_wrap=True)
    return visit


def _call(there: Target, key: str, asked: Asked) -> visits.Call:
    body = _body(asked.data)
    pairs = [_header(one) for one in asked.headers]
    names = {name.lower() for name, _ in pairs}
    if body and "content-type" not in names:
        is_json = body.lstrip()[:1] in (b"{", b"[")
        pairs.append(("Content-Type", "application/json" if is_json else "application/x-www-form-urlencoded"))
    if key:
        pairs = [pair for pair in pairs if pair[0].lower() != HEADER.lower()] + [(HEADER, key)]
    method = asked.method or ("GET" if asked.data is None else "POST")
    return visits.Call(there.origin, there.host, method.upper(), there.path, tuple(pairs), body)


def _tell(call: visits.Call, visit: visits.Visit, there: Target, edge: trace_edge.Seen | None) -> None:
    """The tree, and what is worth knowing beside it."""
    say = output.console.print
    trace_tree.show(trace_tree.whole(call, visit), output.console)
    say()
    say(_outcome(visit), markup=False, soft_wrap=True, style="" if visit.answer else "red")
    if edge is not None:
        say(str(edge), markup=False, soft_wrap=True)
    if hint := _hint(visit, there):
        say(hint, style="yellow" if there.is_own else "dim")


def _hint(visit: visits.Visit, there: Target) -> str:
    """What to know, or do, when the whole story is not in the tree."""
    if visit.failure is not None and visit.failure.reason is connection.Reason.UNTRUSTED:
        return "to believe it: --ca FILE; to believe any certificate: --insecure"
    if not there.is_own:
        return "not this service's: sent without the debug key, so only the client's own times are known"
    if visit.answer is None:
        return "is the service up? tenfold status; start it with: tenfold up -d"
    if not visit.answer.header("tenfold-trace"):
        return "no web server told its part: the balancer answered, or the app did without tenfold"
    return ""


def _outcome(visit: visits.Visit) -> str:
    if visit.answer is None:
        return f"not answered: {visit.failure.detail if visit.failure else 'unknown'}"
    answer = visit.answer
    size = f"{len(answer.body):,} bytes" + ("" if visit.is_whole else " so far")
    parts = [f"HTTP {answer.status}", size, answer.header("content-type")]
    if answer.header("location"):
        parts.append(f"leads to {answer.header('location')}")
    if identity := trace_tree.request_id(visit):
        parts.append(f"request id {identity}")
    return ", ".join(part for part in parts if part)


def _document(call: visits.Call, visit: visits.Visit, edge: trace_edge.Seen | None) -> dict[str, Any]:
    return {
        "version": 1,
        "method": call.method,
        "url": f"{call.origin.scheme}://{call.host}{call.path}",
        "status": visit.answer.status if visit.answer else None,
        "body_bytes": len(visit.answer.body) if visit.answer else 0,
        "is_whole": visit.is_whole,
        "failure": visit.failure.detail if visit.failure else "",
        "request_id": trace_tree.request_id(visit),
        "edge": edge.as_json() if edge else None,
        "trace": trace_tree.whole(call, visit).as_json(),
    }


def _project(ctx: click.Context, url: str | None) -> paths.Paths | None:
    """The project; a whole URL does without one."""
    is_path = url is None or url.startswith("/")
    if is_path or ctx.find_root().obj is not None:
        return project.where(ctx)
    found = paths.find(Path.cwd())
    return paths.Paths(found) if found else None


def _key(where: paths.Paths | None) -> str:
    told = _told(where) if where is not None else None
    if told is None or not told.exists():
        raise errors.NotRunning("this service was never started: there is no debug key yet; start it: tenfold up -d")
    return bindings.debug_key(bindings.load(told).service.secret)


def _told(where: paths.Paths) -> Path:
    """The bindings of what answers at the front door: the service's, or those of a `tenfold dev` in its place."""
    if record.read(where) is None:
        return where.bindings
    servers = records.Store.open(where.records).records.servers.values() if where.records.exists() else ()
    is_up = any(one.is_alive for server in servers for one in server.processes.values())
    return where.bindings if is_up else where.dev_bindings


def _is_own(named: connection.Origin, service: tiers.Service) -> bool:
    """Whether the URL is the front door's: by its address, by its domain, or by a name of this machine."""
    door = connection.Origin.parse(service.url)
    hosts = {door.host, service.domain} | (LOCAL if door.host in LOCAL else frozenset())
    if named.host not in hosts or named.port != door.port:
        return False
    if named.scheme != door.scheme:
        raise errors.BadInput(f"url: {named.scheme} found, {door.scheme} expected: the front door is {service.url}")
    return True


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise errors.BadInput(f"--header: {text!r} found, 'Name: value' expected")
    return name.strip(), value.strip()


def _body(data: str | None) -> bytes:
    if data is None or not data.startswith("@"):
        return (data or "").encode()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise errors.BadInput(f"--data: {data[1:]} cannot be read ({error.strerror})") from error
