"""The one screen of `tenfold status --watch`: a status, as text of a given size. Pure.

Drawn by `watch` once a second. What does not fit is left out from the bottom and the right, and said to be.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tenfold.cli import gauges

Json = dict[str, Any]

COLOURS = {"running": "green", "ready": "green", "stopped": "dim", "killed": "red", "failed": "red"}

MARKS = {"step_started": "▸", "step_done": "✓"}

LEVELS = {"info": "", "warning": "yellow", "error": "red"}

ROLES = {"haproxy": "balancer", "varnish": "edge", "granian": "web", "etcd": "etcd", "worker": "worker"}

TIERS = ("balancer", "cdn", "web", "cache", "database", "coordination", "queue", "worker")
"""In the order in which a request meets them."""

LEAST_EVENTS = 3


def draw(body: Json, rates: Sequence[float], note: str, width: int, height: int) -> RenderableType:
    """The screen: headline, totals, servers, what is wrong, what happened last. `note`: why this is not the present."""
    top = [_headline(body, width), *_state(body, note), *totals(body, rates, width), Text()]
    wrong = [_cut(f"! {one['text']}", width, _colour(one)) for one in body["conditions"]]
    room = height - len(top) - 1
    most_wrong = max(1, room // 4)
    wrong = _few(wrong, most_wrong, "more of this kind: tenfold status", width)
    rows = servers(body)
    rows_room = room - len(wrong) - LEAST_EVENTS - 2
    shown, hidden = (rows, 0) if len(rows) <= rows_room else (rows[: max(1, rows_room - 1)], len(rows) - rows_room + 1)
    parts: list[RenderableType] = [*top, table(shown, width)]
    if hidden:
        parts.append(Text(f"and {hidden} more: tenfold status", style="dim"))
    room -= len(shown) + bool(hidden) + len(wrong) + 2
    parts += [*wrong, Text()]
    parts += [event(one, width) for one in body["events"][-room:]] if room > 0 else []
    return Group(*parts)


def line(body: Json, note: str) -> str:
    """The same in one line, for what is no terminal."""
    figures = body["traffic"]
    ready = sum(one["state"] == "running" for one in body["servers"])
    words = [
        time.strftime("%Y-%m-%d %H:%M:%S"),
        f"{body['service']} {body['rung']}",
        f"{gauges.rate(figures['requests_per_second'])} req/s",
        *(f"{name} {gauges.milliseconds(figures[f'{name}_milliseconds'])}" for name in ("p50", "p95", "p99")),
        f"errors {gauges.rate(figures['answers_5xx_per_second'])}/s",
        f"servers {ready}/{len(body['servers'])}",
    ]
    said = [note] if note else []
    return "  ".join(words + said + [f"! {one['text']}" for one in body["conditions"]])


def totals(body: Json, rates: Sequence[float], width: int) -> list[Text]:
    """What the whole service carries, in one line or two."""
    figures = body["traffic"]
    first = f"{gauges.rate(figures['requests_per_second']):>5} req/s {gauges.sparkline(rates, 20)}".rstrip()
    latencies = "  ".join(
        f"{name} {gauges.milliseconds(figures[f'{name}_milliseconds'])}" for name in ("p50", "p95", "p99")
    )
    counts = (
        f"in flight {figures['in_flight']}   errors {gauges.rate(figures['answers_5xx_per_second'])}/s   "
        f"retries {gauges.rate(figures.get('retries_per_second'))}/s   "
        f"queued {figures['queued'] + figures['held']}   refused {gauges.rate(figures.get('refused_per_second'))}/s"
    )
    is_bad = (figures["answers_5xx_per_second"] or 0) > 0
    return [_cut(f"{first}   {latencies}", width, "bold"), _cut(f"      {counts}", width, "red" if is_bad else "")]


def servers(body: Json) -> list[Json]:
    """One row a server, in the order in which a request meets their tiers."""
    order = {name: number for number, name in enumerate(TIERS)}
    ordered = sorted(body["servers"], key=lambda one: order.get(one["tier"], len(order)))
    return [_row(one, body) for one in sorted(ordered, key=_region_number(body))]


def by_region(body: Json) -> list[Json]:
    """The servers, those of one region after those of another."""
    return sorted(body["servers"], key=_region_number(body))


def _region_number(body: Json) -> Callable[[Json], int]:
    order = {one["name"]: number for number, one in enumerate(body.get("regions", ()))}
    return lambda server: order.get(server["region"], len(order))


def event(one: Json, width: int) -> Text:
    """One event in one line."""
    at = time.strftime("%H:%M:%S", time.localtime(one["at"]))
    first = one["text"].splitlines()[0] if one["text"] else ""
    text = _cut(f"{at} {MARKS.get(one['kind'], '·')} {first}", width, LEVELS[one["level"]])
    text.stylize("dim", 0, 8)
    return text


def _headline(body: Json, width: int) -> Text:
    words = [body["service"], body["url"], f"rung {body['rung']}", _release(body["releases"])]
    left = "   ".join(word for word in words if word)
    clock = time.strftime("%H:%M:%S")
    text = _cut(f"{left:<{max(0, width - 9)}} {clock}" if len(left) < width - 9 else left, width)
    text.stylize("bold", 0, len(body["service"]))
    return text


def _release(known: Json) -> str:
    if not known["current"]:
        return ""
    canary = f", {known['canary']} for {known['percent']:g} %" if known["canary"] else ""
    return f"release {known['current']}{canary}"


def _state(body: Json, note: str) -> list[Text]:
    if note:
        return [Text(note, style="yellow", overflow="fold")]
    change = body.get("change")
    if change is None:
        return []
    step = f"{change['step']} ({change['seconds']:.0f} s)" if change["step"] else "planning the next step"
    return [Text(f"▸ {step}", style="cyan", overflow="ellipsis", no_wrap=True)]


def _row(server: Json, body: Json) -> Json:
    node, load = server["database"], server.get("load")
    door = next((one.get("load") for one in body["balancers"] if one["server"] == server["name"]), None)
    return {
        "server": server["name"],
        "state": _state_of(server),
        "role": _role(server, node),
        "req/s": gauges.rate(load["requests_per_second"]) if load else _of(door, "requests_per_second"),
        "p95": gauges.milliseconds(load["p95_milliseconds"]) if load else "",
        "lag": _lag(node),
        "conns": str(node["connections"]) if node and node["is_reachable"] else _count(door, "open_connections"),
        "restarts": str(sum(one["restarts"] for one in server["processes"]) or ""),
        "release": next((one["release"] for one in server["processes"] if one["release"]), ""),
    }


def _state_of(server: Json) -> str:
    if server["state"] != "running":
        return str(server["state"])
    worst = next((one["state"] for one in server["processes"] if one["state"] != "ready" and one["is_wanted"]), None)
    return str(worst or "running")


def _role(server: Json, node: Json | None) -> str:
    names = [ROLES.get(one["engine"]) for one in server["processes"]]
    names += [f"{one['tier']} {one['role']}" for one in _of_stores(server)]
    if node is not None:
        names.append(database_role(node) if node["is_reachable"] else "database")
    return ", ".join(dict.fromkeys(name for name in names if name)) or str(server["tier"])


def _of_stores(server: Json) -> list[Json]:
    """The processes of a cache or queue server that say what they are: its primary, its leader."""
    tiers = {"valkey": "cache", "nats": "queue"}
    return [{**one, "tier": tiers[one["engine"]]} for one in server["processes"] if one["engine"] in tiers]


def database_role(node: Json) -> str:
    """As people say it; PostgreSQL calls a replica a standby, and so do the documents for programs."""
    return {"standby": "replica"}.get(node["role"], str(node["role"]))


def _lag(node: Json | None) -> str:
    if node is None or node["role"] != "standby" or not node["is_reachable"]:
        return ""
    if node["lag_bytes"] is None:
        return "unknown"
    stalled = "" if node["is_streaming"] else " (stopped)"
    return f"{gauges.size(node['lag_bytes'])} {gauges.milliseconds(node['lag_milliseconds'])}{stalled}"


def _count(door: Json | None, name: str) -> str:
    return str(door[name]) if door else ""


def _of(door: Json | None, name: str) -> str:
    return gauges.rate(door[name]) if door else ""


COLUMNS: tuple[tuple[str, int], ...] = (
    ("server", 0),
    ("state", 0),
    ("role", 45),
    ("req/s", 0),
    ("p95", 55),
    ("lag", 62),
    ("conns", 70),
    ("restarts", 78),
    ("release", 88),
)
"""Each with the width of the terminal from which on it is shown."""


def table(rows: Sequence[Json], width: int) -> Table:
    """The servers' rows in as many columns as there is room for."""
    made = Table(box=None, pad_edge=False, header_style="dim")
    is_used = {name for row in rows for name, value in row.items() if value}
    columns = [name for name, least in COLUMNS if width >= least and name in is_used]
    for name in columns:
        is_number = name in ("req/s", "p95", "conns", "restarts")
        made.add_column(name, no_wrap=True, justify="right" if is_number else "left", overflow="ellipsis")
    for row in rows:
        made.add_row(*(Text(row[name], style=_style(name, row[name])) for name in columns))
    return made


def _style(column: str, value: str) -> str:
    return COLOURS.get(value, "yellow") if column == "state" else ""


def _colour(condition: Json) -> str:
    return "red" if condition["severity"] == "error" else "yellow"


def _few(lines: list[Text], most: int, word: str, width: int) -> list[Text]:
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], _cut(f"! {len(lines) - most + 1} {word}", width, "yellow")]


def _cut(text: str, width: int, style: str = "") -> Text:
    """One line, never two."""
    shown = Text(text, style=style, no_wrap=True, overflow="ellipsis")
    shown.truncate(width, overflow="ellipsis")
    return shown
