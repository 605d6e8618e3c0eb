"""How plans, events and status look on a terminal. Prints; decides nothing."""

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tenfold.cli import gauges, screen
from tenfold.runtime import events
from tenfold.topology import sizes as topology_sizes

Json = dict[str, Any]


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Whoever reads has gone: for `cli.main` to end on, as with any other output."""
        raise BrokenPipeError


console = _Console(highlight=False)

_RISKS = {"none": "green", "low": "cyan", "medium": "yellow"}


def as_json(body: Json) -> None:
    """The documented form, for programs."""
    print(json.dumps(body, indent=2))


def plan(body: Json) -> None:
    """Each step with its reason, risk and undo."""
    if not body["steps"]:
        has_new = body["has_new_settings"]
        is_there = "what is there is what is wanted, and goes by new settings once they are applied"
        console.print(f"No step: {is_there}." if has_new else "Nothing to do: what is there is what is wanted.")
        return
    for number, step in enumerate(body["steps"], start=1):
        risk = f"[{_RISKS[step['risk']]}]risk: {step['risk']}[/]"
        console.print(f"[bold]{number:>3}. {escape(step['title'])}[/]", soft_wrap=True)
        console.print(f"     why:  {escape(step['reason'])}", soft_wrap=True)
        console.print(f"     {risk}   undo: {escape(step['undo'])}", soft_wrap=True)
    for note in body["notes"]:
        console.print(f"[yellow]left alone:[/] {escape(note)}", soft_wrap=True)


def sizes(found: Iterable[topology_sizes.Size]) -> None:
    """What can be resized, what it is now, and what it means."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("size", "now", "what"):
        table.add_column(column, no_wrap=column != "what")
    for one in found:
        table.add_row(one.name, one.value, one.meaning)
    console.print(table)


def teller() -> Callable[[events.Event], None]:
    """Prints events as they come, with the time since the first."""
    began = time.time()

    def say(event: events.Event) -> None:
        colour = screen.LEVELS[event.level] or "default"
        took = f" [dim]({event.seconds:.2f} s)[/]" if event.seconds is not None else ""
        mark = screen.MARKS.get(event.kind, "·")
        console.print(f"[dim]{event.at - began:7.2f}[/] [{colour}]{mark} [/]", end="")
        console.print(_brief(event), style=colour, markup=False, end="", soft_wrap=True)
        console.print(took)

    return say


def _brief(event: events.Event) -> str:
    """What the command ends with as its error, log and all, is not told twice."""
    lines = event.text.splitlines()
    return f"{lines[0]}\n{lines[-1]}" if event.kind == "going_back" else event.text


def status(body: Json) -> None:
    """One calm table: servers, what runs on them, roles, and the last events."""
    console.print(f"[bold]{body['service']}[/]  rung: {body['rung']}  front door: {body['url']}  {body['network']}")
    _certificate(body["certificate"])
    if body["change"]:
        console.print(f"[cyan]▸ {escape(body['change']['step'] or 'planning the next step')}[/]", soft_wrap=True)
    for line in screen.totals(body, (), console.width):
        console.print(line)
    is_narrow = console.width < 70
    console.print(screen.table(screen.servers(body), console.width) if is_narrow else _servers(body))
    for one in body.get("scaling", ()):  # an older version's runtime has none
        console.print(_scaling(one), soft_wrap=True)
    for one in body.get("wan", ()):
        state = "[red]cut[/]" if one["is_cut"] else f"{gauges.milliseconds(one['delay_milliseconds'])} each way"
        console.print(f"[dim]{escape(one['name'])}:[/] {state}")
    for one in body["conditions"]:
        colour = "red" if one["severity"] == "error" else "yellow"
        console.print(f"[{colour}]! {escape(one['text'])}[/]", soft_wrap=True)
    for name in body["missing"]:
        console.print(f"[yellow]{name}: wanted, not there yet; tenfold apply[/]")
    for one in body["events"][-8:]:
        console.print(screen.event(one, console.width))


def event(one: events.Event) -> None:
    """One event, as `tenfold events` shows it; the lines after its first are set in."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.at))
    took = f" ({one.seconds:.2f} s)" if one.seconds is not None else ""
    text = one.text.replace("\n", "\n" + " " * 22)
    console.print(f"[dim]{at}[/] {screen.MARKS.get(one.kind, '·')} ", end="")
    console.print(text, style=screen.LEVELS[one.level] or None, markup=False, end="", soft_wrap=True)
    console.print(f"[dim]{took}[/]")


def _scaling(one: Json) -> str:
    """How many servers a tier has, may have, and why it has as many."""
    why = f"; last: {one['reason']}" if one["reason"] else ""
    now = f", now {one['load']}" if one["load"] else ""
    bounds = f"{one['servers']} servers ({one['min']} to {one['max']})"
    return f"[dim]{escape(one['tier'])} follows the load: {bounds}{escape(now + why)}[/]"


def _certificate(found: Json | None) -> None:
    if found is None:
        return
    console.print(f"[dim]certificate: {escape(found['source'])}, valid until {found['ends'][:10] or 'unknown'}[/]")


def _servers(body: Json) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    is_wide = console.width >= 90
    for column in ("server", "address", "power", "process", "state", "role", *(("pid",) if is_wide else ())):
        table.add_column(column, no_wrap=True)
    table.add_column("note", overflow="fold")
    region = None
    for server in screen.by_region(body):
        if len(body.get("regions", ())) > 1 and server["region"] != region:
            region = server["region"]
            table.add_row(*_region(region, body), *([""] * (5 + is_wide)))
        first = (server["name"], server["address"], _coloured(server["state"]))
        if not server["processes"]:
            table.add_row(*first)
        for one in server["processes"]:
            pid = (str(one["pid"] or ""),) if is_wide else ()
            table.add_row(*first, one["name"], _coloured(one["state"]), _role(one, server), *pid, _note(one, server))
            first = ("", "", "")
    return table


def _region(name: str, body: Json) -> tuple[str, str]:
    """A region's name and its front door; what is between regions has neither."""
    found = next((one for one in body["regions"] if one["name"] == name), None)
    if found is None:
        return f"[bold]{escape(name) or 'between regions'}[/]", ""
    return f"[bold]{escape(name)}{', home' if found['is_home'] else ''}[/]", found["listen"]


def _role(one: Json, server: Json) -> str:
    node = server["database"]
    is_database = one["engine"] in ("postgres", "patroni") and node is not None
    return screen.database_role(node) if is_database and node["is_reachable"] else str(one["role"])


def _note(one: Json, server: Json) -> str:
    notes = [f"release {one['release']}"] if one["release"] else []
    notes += [one["detail"]] if one["detail"] and one["state"] == "starting" else []
    notes += [f"{one['restarts']} restarts"] if one["restarts"] else []
    notes += _kept(one, server)
    node = server["database"]
    if one["engine"] in ("postgres", "patroni") and node and node["is_reachable"] and node["role"] == "standby":
        late = f", {gauges.milliseconds(node['lag_milliseconds'])}" if node["lag_milliseconds"] else ""
        behind = f"{gauges.size(node['lag_bytes'])}{late} behind"
        notes.append(behind if node["is_streaming"] else "does not stream")
    return ", ".join(notes)


def _kept(one: Json, server: Json) -> list[str]:
    """What a cache or queue server keeps."""
    cache, queue = server.get("cache"), server.get("queue")
    if one["engine"] == "valkey" and cache:
        return [f"{gauges.size(cache['used_bytes'])} of {gauges.size(cache['most_bytes'])}"]
    if one["engine"] == "nats" and queue:
        return [f"{queue['messages']} messages, {gauges.size(queue['stored_bytes'])}"]
    return []


def _coloured(state: str) -> str:
    return f"[{screen.COLOURS.get(state, 'yellow')}]{state}[/]"
