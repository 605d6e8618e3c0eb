"""`tenfold region`: which region is the home of the data, and what becomes of it."""

from __future__ import annotations

from typing import Any

import click
from rich.table import Table

from tenfold import errors
from tenfold.cli import apply, output, project, words
from tenfold.runtime import homes, paths
from tenfold.topology import load


@click.group()
def region() -> None:
    """Move the home of the data, lose a region, or look. Example: tenfold region move virginia"""


@region.command()
@click.argument("name", type=words.Region())
@click.option("--accept-loss", is_flag=True, help="The home does not answer: cut its power, and lose what only it has.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_context
def move(ctx: click.Context, name: str, accept_loss: bool, yes: bool) -> None:
    """Make a region the home of the data: writes wait a moment, none is lost. Example: tenfold region move virginia

    With --accept-loss the home may be out of reach: its servers lose their power first, which proves that nobody
    writes there, and what the other region has not received by then is lost and listed when the old home returns.
    """
    where = project.where(ctx)
    text = project.text(where)
    topology = load.parse(text, str(where.topology))
    homes.ensure_known(topology, name)
    if name == topology.home:
        click.echo(f"{name} is the home of the data already")
        return
    if accept_loss:
        if not yes:
            project.confirm(f"Cut the power of everything in {topology.home}?")
        done = project.run(project.connect(where).kill_region(topology.home, name, output.teller()))
        output.console.print(f"[bold green]done[/]: {done['home']} is the home of the data")
        return
    changed = homes.with_home(text, topology, name)
    load.parse(changed, str(where.topology))
    project.run(apply.shown(where, changed, yes, is_climb=True))


@region.command()
@click.argument("name", type=words.Region())
@click.pass_context
def kill(ctx: click.Context, name: str) -> None:
    """SIGKILL to everything in a region at once; it stays off. Example: tenfold region kill seoul

    If it was the home of the data, another region becomes the home: that nothing of the lost one runs is proven.
    """
    where = project.where(ctx)
    done = project.run(project.connect(where).kill_region(name, "", output.teller()))
    output.console.print(f"{name} has no power; give it back with: tenfold region start {name}")
    output.console.print(f"{done['home']} is the home of the data")


@region.command()
@click.argument("name", type=words.Region())
@click.pass_context
def start(ctx: click.Context, name: str) -> None:
    """Give a region power and start what ran there; its data follows the home. Example: tenfold region start seoul"""
    where = project.where(ctx)
    done = project.run(project.connect(where).start_region(name, output.teller()))
    output.console.print(f"{name} {'runs again' if done['steps'] else 'runs already: nothing was to be started'}")


@region.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Where the data is at home, and how far the other regions follow. Example: tenfold region status"""
    where = project.where(ctx)
    found = described(where, project.run(project.connect(where).status()))
    if as_json:
        output.as_json({"version": 1, "regions": found})
        return
    table = Table(box=None, pad_edge=False)
    for title in ("region", "servers", "database", "role", "lag"):
        table.add_column(title)
    for one in found:
        name = f"{one['name']} (home)" if one["is_home"] else one["name"]
        table.add_row(name, f"{one['running']} of {one['servers']}", "", "", "")
        for node in one["databases"]:
            table.add_row("", "", node["server"], node["role"], _lag(node))
    output.console.print(table)


def described(where: paths.Paths, body: dict[str, Any]) -> list[dict[str, Any]]:
    """By region, what the status says of it."""
    topology = load.parse(project.text(where), str(where.topology))
    if not topology.has_regions:
        raise errors.BadInput(
            "tenfold.toml has one region; a second one comes with the rung: tenfold grow --to regions"
        )
    return [_described(name, topology.home, body["servers"]) for name in topology.regions]


def _described(name: str, home: str, servers: list[dict[str, Any]]) -> dict[str, Any]:
    own = [one for one in servers if one["region"] == name]
    return {
        "name": name,
        "is_home": name == home,
        "servers": len(own),
        "running": len([one for one in own if one["state"] == "running"]),
        "databases": [one["database"] for one in own if one["database"]],
    }


def _lag(node: dict[str, Any]) -> str:
    if not node["is_reachable"]:
        return "does not answer"
    if node["role"] == "primary":
        return "" if node["accepts_writes"] else "holds its writes"
    if not node["is_streaming"]:
        return "does not follow"
    milliseconds = node["lag_milliseconds"]
    return "follows" if milliseconds is None else f"{milliseconds:.0f} ms"
