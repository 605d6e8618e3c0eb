"""`tenfold doctor`: which engines are installed, and what is in the way on this machine."""

import os
import sys

import click

from tenfold import errors
from tenfold.cli import output, project
from tenfold.kit import address, enclosure
from tenfold.runtime import certificates, registry
from tenfold.topology import layout, load


@click.command()
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Which engines are installed, and what is in the way. Example: tenfold doctor"""
    is_well = project.run(_doctor(_certificate_troubles(ctx)))
    ctx.exit(0 if is_well else 1)


async def _doctor(more: list[str]) -> bool:
    missing = 0
    for one in await registry.installed():
        if one.path:
            output.console.print(f"[green]ok[/]      {one.name:<9} {one.version}  [dim]{one.path}[/]", soft_wrap=True)
        else:
            missing += 1
            line = f"[red]missing[/] {one.name:<9} needed from rung {one.needed_from}: {one.install}"
            output.console.print(line, soft_wrap=True)
    troubles = await _troubles() + more
    for trouble in troubles:
        output.console.print(f"[yellow]warning[/] {trouble}", soft_wrap=True)
    if not missing and not troubles:
        output.console.print("All is well: every rung that is built can run here.")
    return not missing


def _certificate_troubles(ctx: click.Context) -> list[str]:
    """What is wrong with the certificate of the project that doctor is called in, if it is called in one."""
    try:
        where = project.where(ctx)
    except errors.BadInput:
        return []
    try:
        certificates.ensure_usable(load.load(where.topology), where, certificates.now())
    except errors.BadInput as error:
        return str(error).splitlines()
    return []


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
