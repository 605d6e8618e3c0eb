"""`tenfold doctor`: which engines are installed, and what is in the way on this machine."""

import os
import sys

import click

from tenfold.cli import output, project
from tenfold.kit import address, enclosure
from tenfold.runtime import registry
from tenfold.topology import layout


@click.command()
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Which engines are installed, and what is in the way. Example: tenfold doctor"""
    is_well = project.run(_doctor())
    ctx.exit(0 if is_well else 1)


async def _doctor() -> bool:
    missing = 0
    for one in await registry.installed():
        if one.path:
            output.console.print(f"[green]ok[/]      {one.name:<9} {one.version}  [dim]{one.path}[/]", soft_wrap=True)
        else:
            missing += 1
            line = f"[red]missing[/] {one.name:<9} needed from rung {one.needed_from}: {one.install}"
            output.console.print(line, soft_wrap=True)
    troubles = await _troubles()
    for trouble in troubles:
        output.console.print(f"[yellow]warning[/] {trouble}", soft_wrap=True)
    if not missing and not troubles:
        output.console.print("All is well: every rung that is built can run here.")
    return not missing


async def _troubles() -> list[str]:
    found = []
    if sys.platform != "linux":
        found.append("the runtime needs Linux (WSL and containers included); the SDK runs anywhere")
    if not await enclosure.namespaces_work():
        found.append("user and PID namespaces are forbidden here: servers are kept apart by a marker only")
        if os.getuid() == 0:
            found.append("PostgreSQL refuses to run as root without user namespaces: run tenfold as an ordinary user")
    for engine, port in layout.PORTS.items():
        if address.listener_on_any(port):
            found.append(f"something listens on port {port} of every address: {engine} cannot start; stop it")
    return found
