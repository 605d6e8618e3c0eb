"""`tenfold status`: servers, processes, roles, and what happened last."""

import asyncio
from typing import Any

import click

from tenfold import errors
from tenfold.cli import output, project
from tenfold.runtime import daemon, paths


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The documented form, for programs.")
@click.option("--watch", "-w", is_flag=True, help="Again every second, until Ctrl-C.")
@click.pass_context
def status(ctx: click.Context, as_json: bool, watch: bool) -> None:
    """Servers, processes, roles and what happened last. Example: tenfold status --watch"""
    where = project.where(ctx, needs_file=False)
    project.run(_watch(where) if watch else _once(where, as_json))


async def look(where: paths.Paths) -> dict[str, Any]:
    """The status from the runtime, or from a look of our own when none runs."""
    try:
        return {"runtime": "running", **await project.connect(where).status()}
    except errors.NotRunning:
        return {"runtime": "not running", **await daemon.status_without_runtime(where)}


async def _once(where: paths.Paths, as_json: bool) -> None:
    body = await look(where)
    if as_json:
        output.as_json(body)
    else:
        _show(body)


async def _watch(where: paths.Paths) -> None:
    while True:
        body = await look(where)
        output.console.clear()
        _show(body)
        await asyncio.sleep(1.0)


def _show(body: dict[str, Any]) -> None:
    if body["runtime"] != "running":
        output.console.print(f"[yellow]{_without_runtime(body)}[/]")
    output.status(body)


def _without_runtime(body: dict[str, Any]) -> str:
    if any(one["state"] == "running" for one in body["servers"]):
        return "no runtime runs; what runs keeps serving: take it over with tenfold up -d"
    return "the service is stopped, its data is kept: start it with tenfold up -d"
