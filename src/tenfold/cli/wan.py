"""`tenfold wan`: what lies between regions and what it carries; `tenfold wan cut` and `heal` break and mend it."""

from __future__ import annotations

from typing import Any

import click
from rich.table import Table

from tenfold.cli import gauges, output, project, status

Json = dict[str, Any]


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="The documented form, for programs.")
@click.pass_context
def wan(ctx: click.Context, as_json: bool) -> None:
    """What lies between regions. Example: tenfold wan"""
    if ctx.invoked_subcommand is not None:
        return
    found = project.run(status.look(project.where(ctx, needs_file=False)))["wan"]
    if as_json:
        output.as_json({"version": 1, "links": found})
    else:
        _show(found)


@wan.command()
@click.argument("regions", nargs=-1)
@click.pass_context
def cut(ctx: click.Context, regions: tuple[str, ...]) -> None:
    """Nothing crosses between two regions, or to and from one. Example: tenfold wan cut seoul virginia"""
    _change(ctx, regions, cuts=True)


@wan.command()
@click.argument("regions", nargs=-1)
@click.pass_context
def heal(ctx: click.Context, regions: tuple[str, ...]) -> None:
    """End a cut; without regions every one. Example: tenfold wan heal"""
    _change(ctx, regions, cuts=False)


def _change(ctx: click.Context, regions: tuple[str, ...], *, cuts: bool) -> None:
    if len(regions) > 2:
        raise click.UsageError(f"{len(regions)} regions found, two at most expected: a link joins two")
    where = project.where(ctx, needs_file=False)
    done = project.run(project.connect(where).change_wan(cuts=cuts, regions=regions))
    left = f"cut: {', '.join(done['cut'])}; heal with: tenfold wan heal" if done["cut"] else "every link is whole"
    output.console.print(left, markup=False)


def _show(links: list[Json]) -> None:
    if not links:
        output.console.print("There is one region; add another with: tenfold grow --to regions")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("link", "state", "delay", "way", "carried", "connections", "refused"):
        table.add_column(column, no_wrap=True)
    for link in links:
        state = "[red]cut[/]" if link["is_cut"] else "[green]whole[/]"
        delay = gauges.milliseconds(link["delay_milliseconds"])
        for number, way in enumerate(link["directions"] or [None]):
            first = ("", "", "") if number else (link["name"], state, delay)
            table.add_row(*first, *_figures(way))
    output.console.print(table)


def _figures(way: Json | None) -> tuple[str, ...]:
    if way is None:
        return ("does not answer",)
    counts = (str(way["open"]), str(way["refused"]))
    return f"{way['source']} to {way['target']}", gauges.size(way["sent_bytes"]), *counts
