"""`tenfold cdn`: what the edges answer, by edge and path, and what web servers do not have to send because of them."""

from __future__ import annotations

from typing import Any

import click
from rich.table import Table

from tenfold import bindings, errors
from tenfold.cli import gauges, output, project
from tenfold.runtime import daemon, paths
from tenfold.sdk.cdn import by_hand, purges

OTHERS = "everything else"


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="The documented form, for programs.")
@click.pass_context
def cdn(ctx: click.Context, as_json: bool) -> None:
    """What the edges answer, by edge and path. Example: tenfold cdn"""
    if ctx.invoked_subcommand is not None:
        return
    body = project.run(_look(project.where(ctx, needs_file=False)))
    if as_json:
        output.as_json(body)
    else:
        _show(body)


@cdn.command()
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Everything with this tag; may be repeated.")
@click.option("--url", "urls", multiple=True, metavar="PATH", help="A path with its query, or a whole URL.")
@click.option("--all", "everything", is_flag=True, help="Everything that is kept.")
@click.option("--soft", is_flag=True, help="Stale from now on; may serve once more while it is fetched anew.")
@click.pass_context
def purge(ctx: click.Context, tags: tuple[str, ...], urls: tuple[str, ...], everything: bool, soft: bool) -> None:
    """Let every edge forget something. Example: tenfold cdn purge --tag product:1"""
    if not (tags or urls or everything):
        raise errors.BadInput("tenfold cdn purge: nothing to forget; say --tag TAG, --url PATH or --all")
    try:
        wanted = purges.purge(tags, urls, everything=everything, soft=soft)
    except errors.MisuseError as error:
        raise errors.BadInput(str(error)) from error
    where = project.where(ctx, needs_file=False)
    told = bindings.load(where.bindings)
    if told.database is None or not told.cdn.nodes:
        raise errors.BadInput("tenfold cdn purge: there are no edges; add some with: tenfold grow --to cdn")
    answers = project.run(_purge(told, wanted))
    for name, trouble in answers.items():
        said = f"has not acknowledged yet ({trouble})" if trouble else "has forgotten"
        output.console.print(f"{name} {said}: {wanted}", markup=False, soft_wrap=True)
    late = [name for name, trouble in answers.items() if trouble]
    if late:
        raise errors.RuntimeFailure(f"{', '.join(late)}: told again until acknowledged; see: tenfold status")


async def _purge(told: bindings.Bindings, wanted: purges.Purge) -> dict[str, str]:
    try:
        return await by_hand.purge(told, wanted)
    except errors.TryAgain as error:
        raise errors.NotRunning(f"{error}; is it running? see: tenfold status") from error


async def _look(where: paths.Paths) -> dict[str, Any]:
    try:
        return await project.connect(where).cdn()
    except errors.NotRunning:
        return await daemon.cdn_without_runtime(where)


def _show(body: dict[str, Any]) -> None:
    if not body["edges"]:
        output.console.print("There are no edges; add some with: tenfold grow --to cdn")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("edge", no_wrap=True)
    table.add_column("path", overflow="fold")
    for column in ("requests", "hits", "ratio", "sent", "fetched", "saved"):
        table.add_column(column, justify="right", no_wrap=True)
    for edge in body["edges"]:
        for number, one in enumerate(edge["paths"]):
            table.add_row("" if number else edge["name"], one["path"] or OTHERS, *_figures(one))
    table.add_row("all", "", *_figures(body["total"]), style="bold")
    output.console.print(table)
    for edge in body["edges"]:
        output.console.print(f"{edge['name']} {_holds(edge)}", markup=False, style="dim", soft_wrap=True)
    if body["without_edge"]:
        text = f"{body['without_edge']:,} requests went to web servers because no edge could take them"
        output.console.print(text, style="yellow", soft_wrap=True)
    output.console.print("Counted since the balancers were started or took new settings over.", style="dim")


def _figures(one: dict[str, Any]) -> tuple[str, ...]:
    ratio = "-" if one["hit_ratio"] is None else f"{100 * one['hit_ratio']:.1f} %"
    sizes = (gauges.size(one[f"{name}_bytes"]) for name in ("sent", "fetched", "saved"))
    return (f"{one['requests']:,}", f"{one['hits']:,}", ratio, *sizes)


def _holds(edge: dict[str, Any]) -> str:
    holds = edge["holds"]
    if holds is None:
        return "does not answer" if edge["is_running"] else "does not run"
    driven = f", {holds['evicted']:,} driven out by others" if holds["evicted"] else ""
    used = f"{gauges.size(holds['used_bytes'])} of {gauges.size(holds['most_bytes'])}"
    return f"holds {holds['objects']:,} objects, {used}{driven}"
