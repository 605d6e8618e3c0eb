"""`tenfold status`: servers, processes, roles, and what happened last."""

from __future__ import annotations

from typing import Any

import click

from tenfold import errors
from tenfold.cli import output, project, watch
from tenfold.runtime import daemon, paths


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The documented form, for programs.")
@click.option("--watch", "-w", "is_watched", is_flag=True, help="One screen, every second, until q or Ctrl-C.")
@click.pass_context
def status(ctx: click.Context, as_json: bool, is_watched: bool) -> None:
    """What runs, what it carries, and what is wrong. Example: tenfold status --watch"""
    where = project.where(ctx, needs_file=False)
    if is_watched:
        project.run(watch.watch(lambda: look(where), as_json=as_json))
    else:
        project.run(_once(where, as_json))


async def look(where: paths.Paths) -> dict[str, Any]:
    """The status from the runtime, or from a look of our own when none runs."""
    try:
        body = await project.connect(where).status()
        if "traffic" not in body:  # an older version's runtime, still running: what it leaves out we see ourselves
            body = await daemon.status_without_runtime(where)
    except errors.NotRunning:
        return {"runtime": "not running", **await daemon.status_without_runtime(where)}
    return {"runtime": "running", **body}


async def _once(where: paths.Paths, as_json: bool) -> None:
    body = await look(where)
    if as_json:
        output.as_json(body)
    else:
        _show(body)


def _show(body: dict[str, Any]) -> None:
    note = watch.without_runtime(body)
    if note:
        output.console.print(f"[yellow]{note}[/]")
    output.status(body)
