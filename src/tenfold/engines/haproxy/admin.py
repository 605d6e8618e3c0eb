"""What can be asked of a running HAProxy: what it routes to, and to route to other servers, without a reload.

Called by the runtime. Everything goes through the unix sockets; every call has a deadline and may be repeated: the
second time finds its work done. Raises `EngineFailed` when HAProxy does not answer or refuses.

Servers that join or leave need no reload, but only the file survives a restart: write the rendered files first.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tenfold import engines, errors
from tenfold.engines.haproxy import console, counts, render, replaced, settings
from tenfold.engines.haproxy import weights as weighing
from tenfold.kit import clock
from tenfold.observation import snapshot

_USABLE_SECONDS = 3.0
"""How long a reload waits for a usable server in each group: checks look at one that is down every 200 ms."""

Place = tuple[str, str]
"""A web server in its group: (group, server); or an edge: (settings.EDGES, server)."""

State = Literal["up", "down", "drain", "maint"]


@dataclass(frozen=True, slots=True)
class Changes:
    """What a change did, for the log: nothing at all when it was done before."""

    added: tuple[Place, ...] = ()
    removed: tuple[Place, ...] = ()
    reopened: tuple[Place, ...] = ()
    """Servers that were draining or in maintenance and take requests again."""
    cut: tuple[Place, ...] = ()
    """Of the removed: those that still had requests when their time was over."""
    is_reloaded: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """What a web server or, summed up by HAProxy, a group carries at the moment."""

    sessions: int
    queued: int
    requests: int
    requests_per_second: int
    errors: int
    """Failed connections and answers that broke off, since HAProxy's start."""
    retries: int
    answers_5xx: int
    queue_milliseconds: int
    response_milliseconds: int
    total_milliseconds: int
    arrivals: int = 0
    """Requests that were given to it, those that wait included, since HAProxy's start."""
    bytes: int = 0
    """In and out, since HAProxy's start."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What goes through one balancer. Counters are those since its worker started."""

    public: Load
    groups: Mapping[str, Load] = field(default_factory=dict)
    """Of a group, `queued` counts the requests that wait for a free place on any of its servers."""
    servers: Mapping[Place, Load] = field(default_factory=dict)
    held: int = 0
    """Requests that wait because their group has no usable server."""
    refused: int = 0
    """Requests that were refused for want of capacity, here or at a web server."""


async def backends(socket: Path) -> tuple[snapshot.Backend, ...]:
    """The web servers that it knows, as it sees them, and the edges (of the group `settings.EDGES`)."""
    return tuple(
        snapshot.Backend(row.server, _group(row), _state(row), row.sessions)
        for row in _servers(await console.statistics(socket))
    )


async def edge_counts(socket: Path) -> tuple[counts.Count, ...]:
    """What edges have answered and fetched through this balancer since it was started or reloaded."""
    found = [await console.ask(socket, f"show table {table}") for table in counts.TABLES]
    return tuple(counts.read("\n".join(found)))


async def revision(socket: Path) -> str:
    """The revision it runs with, as `render.revision` gave it; empty when it has none."""
    return await _variable(socket, "proc.revision")


async def configure(seat: engines.Seat, *, drain_seconds: float = 10.0) -> Changes:
    """Make it run what the seat's files (written before) say: servers one by one, anything else by a reload.

    On return every removed server is drained and gone, and a new configuration serves.
    """
    socket = settings.runtime_socket(seat)
    wanted = settings.of(seat)
    changes = await route_to(socket, wanted, drain_seconds=drain_seconds)
    if wanted.cdn is None:
        await replaced.leave_edges(settings.master_socket(seat), drain_seconds)
    if await revision(socket) == render.revision(seat):
        return changes
    await _let_held_go(socket)
    await reload(settings.master_socket(seat))
    return Changes(changes.added, changes.removed, changes.reopened, changes.cut, is_reloaded=True)


async def _let_held_go(socket: Path) -> None:
    """Wait, for a moment, until each group has a usable server: a worker that ends checks none any more, and requests
    that it holds for one that has only just come back would wait in vain."""

    async def look() -> bool:
        rows = [row for row in _servers(await console.statistics(socket)) if _group(row) != settings.EDGES]
        usable = {_group(row) for row in rows if _state(row) == "up"}
        return usable == {_group(row) for row in rows}

    await clock.until(look, seconds=_USABLE_SECONDS, pause_seconds=0.02)


async def route_to(socket: Path, wanted: settings.Settings, *, drain_seconds: float = 10.0) -> Changes:
    """Route each group to exactly its servers, and to exactly these edges: new first, then the others drain and go.

    A server that still has requests after `drain_seconds` loses them. Groups that it does not know need a reload.
    """
    rows = await console.statistics(socket)
    there = {(_group(row), row.server): row for row in _servers(rows)}
    known_groups = {_group(row) for row in rows if _is_group(row)}
    if settings.EDGES in known_groups:
        await _go_by_edges(socket, is_wanted=wanted.cdn is not None)
    asked = {place: one for place, one in wanted.places.items() if place[0] in known_groups}
    moved = [place for place, one in asked.items() if place in there and there[place].address != one.address]
    removed = [place for place in there if place not in asked]
    added = [place for place in asked if place not in there or place in moved]
    reopened = [place for place in asked if place not in added and _state(there[place]) in ("drain", "maint")]
    cut = await _remove_all(socket, moved, drain_seconds)
    await _add_all(socket, {place: asked[place] for place in added}, wanted)
    for place in reopened:
        await reopen(socket, place)
    cut += await _remove_all(socket, removed, drain_seconds)
    return Changes(tuple(added), (*moved, *removed), tuple(reopened), tuple(cut))


async def drain(socket: Path, place: Place, seconds: float = 10.0) -> bool:
    """Give it no more requests and wait until those it has have ended; whether they did in time. `reopen` undoes it.

    When it is its group's only one, requests wait meanwhile.
    """
    rows = await console.statistics(socket, settings.backend(place[0]))
    # A sticky client is still led to a server in the state `drain`, to one in maintenance nobody is.
    state = "maint" if any(row.cookie for row in rows if row.server == "BACKEND") else "drain"
    await _tell(socket, f"set server {_path(place)} state {state}")
    return await _is_idle(socket, place, seconds)


async def reopen(socket: Path, place: Place) -> None:
    """Give it requests again, once its health check passes; also to one that was added and never enabled."""
    await _tell(socket, f"enable health {_path(place)}")
    await _tell(socket, f"set server {_path(place)} state ready")


async def reload(master: Path, seconds: float = 20.0) -> None:
    """Start a new worker with the files on disk; on return it serves, and the old one ends its open requests.

    Bad files change nothing: the old worker goes on and `EngineFailed` holds HAProxy's complaints.
    """
    answer = await console.ask(master, "reload", seconds)
    if not answer.startswith("Success=1"):
        raise errors.EngineFailed(f"haproxy: {master}: reload refused, the former configuration serves on\n{answer}")


async def certificate(socket: Path, file: Path) -> str:
    """The fingerprint (SHA-1, upper case hex) of the certificate that it serves from this file; empty: of none."""
    answer = await console.ask(socket, f"show ssl cert {console.quoted(file)}")
    lines = (line.partition(": ") for line in answer.splitlines())
    return next((value.strip() for name, _, value in lines if name == "SHA1 FingerPrint"), "")


async def take_certificate(socket: Path, file: Path, pem: bytes, fingerprint: str) -> None:
    """Serve this certificate (with chain and key) in the place of the file's, from the next handshake on.

    No connection ends and nothing is reloaded. A reload or restart reads the file: write it too. What a caller that
    died in between has set and not committed is replaced. On a refusal the former one is served on.
    """
    answers = [await console.ask(socket, f"set ssl cert {console.quoted(file)}", payload=pem.decode())]
    answers.append(await console.ask(socket, f"commit ssl cert {console.quoted(file)}"))
    if await certificate(socket, file) != fingerprint:
        await console.ask(socket, f"abort ssl cert {console.quoted(file)}")
        raise errors.EngineFailed(f"haproxy: {socket}: certificate {file.name} not taken over\n" + "\n".join(answers))


async def set_weights(socket: Path, weights: Mapping[Place, int]) -> None:
    """Give servers weights (1 to 256) until the next reload."""
    for place, weight in weights.items():
        await _tell(socket, f"set server {_path(place)} weight {weight}")


async def apply_fastest(socket: Path) -> Mapping[Place, int]:
    """One iteration of the policy `fastest`: weights from measured response times; returns those it changed."""
    changed: dict[Place, int] = {}
    rows = [row for row in _servers(await console.statistics(socket)) if _state(row) == "up"]
    rows = [row for row in rows if _group(row) != settings.EDGES]
    for group in {_group(row) for row in rows}:
        measured = {row.server: _measured(row) for row in rows if _group(row) == group}
        now = {row.server: row.weight for row in rows if _group(row) == group}
        wanted = weighing.weights(measured)
        changed |= {(group, name): weight for name, weight in wanted.items() if weight != now[name]}
    await set_weights(socket, changed)
    return changed


async def stats(socket: Path) -> Traffic:
    """What goes through it at the moment."""
    rows, refused = await asyncio.gather(console.statistics(socket), _variable(socket, "proc.refused"))
    public = next(row for row in rows if row.proxy == "public")
    held = sum(row.sessions for row in rows if row.server == settings.HOLD)
    groups = {_group(row): _load(row) for row in rows if row.server == "BACKEND" and _is_group(row)}
    groups.pop(settings.EDGES, None)
    servers = {place: _load(row) for row in _servers(rows) if (place := (_group(row), row.server))[0] in groups}
    return Traffic(_load(public), groups, servers, held, int(refused or 0))


async def refuse_early(socket: Path, groups: Mapping[str, bool]) -> None:
    """Whether each of these groups will have no more servers: then who would wait in vain is refused at once.

    It lasts as long as this process; another one, after a reload too, lets requests wait until it is told.
    """
    for group, is_full in groups.items():
        await _set(socket, settings.full(group), is_true=is_full)


async def _go_by_edges(socket: Path, *, is_wanted: bool) -> None:
    """Whether requests go by the edges, in this process and as long as it lives."""
    await _set(socket, "proc.edges", is_true=is_wanted)


async def _set(socket: Path, variable: str, *, is_true: bool) -> None:
    word = "true" if is_true else "false"
    await console.ask(socket, f"experimental-mode on; set var {variable} bool({word})")
    if await _variable(socket, variable) != str(int(is_true)):
        raise errors.EngineFailed(f"haproxy: {socket}: {variable} not set to {word}")


async def _variable(socket: Path, variable: str) -> str:
    """A variable's value; empty when it has none."""
    answer = await console.ask(socket, f"get var {variable}")
    return answer.rpartition("value=<")[2].removesuffix(">") if "value=<" in answer else ""


async def _add_all(socket: Path, servers: Mapping[Place, settings.Upstream], wanted: settings.Settings) -> None:
    """New servers are in maintenance until they are reopened."""
    for place, one in servers.items():
        shared = wanted.edge_options if place[0] == settings.EDGES else wanted.server_options
        options = f"{one.address} {shared} weight {one.weight}"
        await _tell(socket, f"add server {_path(place)} {options}", "New server registered.")
        await reopen(socket, place)


async def _remove_all(socket: Path, places: Sequence[Place], drain_seconds: float) -> list[Place]:
    """Remove servers at the same time; returns those that had requests left."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = {place: group.create_task(_remove(socket, place, drain_seconds)) for place in places}
    except* errors.EngineFailed as failed:
        raise errors.EngineFailed("\n".join(str(one) for one in failed.exceptions)) from failed
    return [place for place, task in tasks.items() if not task.result()]


async def _remove(socket: Path, place: Place, drain_seconds: float) -> bool:
    is_drained = await drain(socket, place, drain_seconds)
    await _tell(socket, f"set server {_path(place)} state maint")
    if not is_drained:
        await _tell(socket, f"shutdown sessions server {_path(place)}")

    async def is_deleted() -> bool:
        answer = await console.ask(socket, f"del server {_path(place)}")
        return answer in ("Server deleted.", "No such server.")

    # HAProxy refuses while idle connections to it are left; they go within a second or two.
    if not await clock.until(is_deleted, seconds=10, pause_seconds=0.1):
        raise errors.EngineFailed(f"haproxy: {socket}: {_path(place)} cannot be deleted, it still has connections")
    return is_drained


async def _is_idle(socket: Path, place: Place, seconds: float) -> bool:
    async def look() -> bool:
        rows = _servers(await console.statistics(socket, settings.backend(place[0])))
        return all(row.sessions == row.queued == 0 for row in rows if row.server == place[1])

    return bool(await clock.until(look, seconds=seconds, pause_seconds=0.02))


async def _tell(socket: Path, command: str, expected: str = "") -> None:
    """A command whose good answer is known (most say nothing); any other answer is a refusal."""
    answer = await console.ask(socket, command)
    if expected not in answer or (answer and not expected):
        raise errors.EngineFailed(f"haproxy: {socket}: `{command}` refused: {answer}")


def _servers(rows: Iterable[console.Row]) -> list[console.Row]:
    """The rows about web servers and edges; the stand-ins left out."""
    others = ("FRONTEND", "BACKEND", settings.HOLD, settings.ORIGIN)
    return [row for row in rows if _is_group(row) and row.server not in others]


def _is_group(row: console.Row) -> bool:
    return row.proxy.startswith(settings.backend("")) or row.proxy == settings.backend(settings.EDGES)


def _group(row: console.Row) -> str:
    is_edges = row.proxy == settings.backend(settings.EDGES)
    return settings.EDGES if is_edges else row.proxy.removeprefix(settings.backend(""))


def _path(place: Place) -> str:
    return f"{settings.backend(place[0])}/{place[1]}"


def _state(row: console.Row) -> State:
    """From HAProxy's words: `UP`, `UP 1/2`, `NOLB`, `DRAIN`, `DOWN`, `DOWN 1/2`, `MAINT (via x/y)`, `no check`."""
    word = row.status.split(" ")[0]
    states: Mapping[str, State] = {"DRAIN": "drain", "NOLB": "drain", "MAINT": "maint", "DOWN": "down"}
    return states.get(word, "up")


def _measured(row: console.Row) -> float | None:
    return float(row.response_milliseconds) if row.requests else None


def _load(row: console.Row) -> Load:
    return Load(
        sessions=row.sessions,
        queued=row.queued,
        requests=row.requests,
        requests_per_second=row.requests_per_second,
        errors=row.failed_connections + row.failed_answers,
        retries=row.retries + row.redispatches,
        answers_5xx=row.answers_5xx,
        queue_milliseconds=row.queue_milliseconds,
        response_milliseconds=row.response_milliseconds,
        total_milliseconds=row.total_milliseconds,
        arrivals=row.arrivals,
        bytes=row.bytes,
    )
