"""`tenfold up`: start the service and stay, or `-d`: start it and leave a runtime in the background."""

from __future__ import annotations

import click

from tenfold import errors
from tenfold.cli import output, project
from tenfold.runtime import client, daemon, paths
from tenfold.topology import load


@click.command()
@click.option("--detach", "-d", is_flag=True, help="Leave the runtime in the background when everything is ready.")
@click.pass_context
def up(ctx: click.Context, detach: bool) -> None:
    """Start the service, or take over what runs already.

    In the foreground, Ctrl-C stops the service (the data stays). Example: tenfold up -d
    """
    where = project.where(ctx)
    text = project.text(where)
    load.parse(text, str(where.topology))
    if detach:
        project.run(_detached(where, text))
    else:
        project.run(_foreground(where, text))


async def _foreground(where: paths.Paths, text: str) -> None:
    say = output.teller()
    async with daemon.running(where, text, say) as stop:
        output.console.print(f"[bold green]ready[/] {_url(text, where)}   Ctrl-C stops the service")
        await stop.wait()


async def _detached(where: paths.Paths, text: str) -> None:
    say = output.teller()
    runtime = project.connect(where)
    is_ours = False
    if not await _is_there(runtime, where):
        await daemon.start_detached(where, say)
        is_ours = True
    try:
        await runtime.up(text, say)
    except errors.TenfoldError:
        if is_ours and not await _is_used(runtime):
            await runtime.leave()
        raise
    output.console.print(f"[bold green]ready[/] {_url(text, where)}   tenfold status, tenfold down")


async def _is_there(runtime: client.Client, where: paths.Paths) -> bool:
    """Whether a runtime of this tenfold answers. One of another version leaves first, and what runs serves on."""
    try:
        found = await runtime.hello()
    except errors.NotRunning:
        return False
    if found.get("tenfold") != client.own_version():
        await daemon.end(where)
        return False
    return True


async def _is_used(runtime: client.Client) -> bool:
    """Whether the runtime that this `up` left behind has work: another command gave it some at the same moment."""
    try:
        status = await runtime.status()
    except errors.TenfoldError:
        return False
    return bool(status["is_changing"]) or any(server["state"] == "running" for server in status["servers"])


def _url(text: str, where: paths.Paths) -> str:
    return load.parse(text, str(where.topology)).service.url
