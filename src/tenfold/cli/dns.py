"""`tenfold dns`: what each name server answers, why, which regions it sees up, and what it has counted."""

from __future__ import annotations

from typing import Any

import click
from rich.table import Table

from tenfold import errors
from tenfold.cli import output, project, vantage
from tenfold.runtime import name_servers
from tenfold.topology import load


@click.command()
@click.option("--from", "region", metavar="REGION", help="As a client of this region: by its first network.")
@click.option("--subnet", metavar="NETWORK", help="As a client of this network, such as 203.0.113.0/24.")
@click.option("--json", "as_json", is_flag=True, help="The documented form, for programs.")
@click.pass_context
def dns(ctx: click.Context, region: str | None, subnet: str | None, as_json: bool) -> int:
    """What each name server answers, and why. Needs no runtime. Exit code 1: none answered.

    Example: tenfold dns --from home
    """
    where = project.where(ctx)
    topology = load.load(where.topology)
    client = vantage.of(where, topology, region, _network(subnet))
    servers, network = vantage.servers(topology), vantage.network(where)
    body = project.run(name_servers.ask(where, topology, servers, network, client.subnet))
    if as_json:
        output.as_json(body)
    else:
        _show(body)
    return 0 if any(one["addresses"] for one in body["servers"]) else 1


def _network(subnet: str | None) -> str:
    import ipaddress  # late, as what only some calls need

    try:
        return str(ipaddress.ip_network(subnet, strict=False)) if subnet else ""
    except ValueError as error:
        raise errors.BadInput(f"--subnet: {subnet!r} found, a network such as 203.0.113.0/24 expected") from error


def _show(body: dict[str, Any]) -> None:
    say = output.console.print
    asked = f", for a client of {body['subnet']}" if body["subnet"] else ""
    say(f"{body['name']}{asked}", markup=False, style="bold")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("server", "address", "answers", "region", "because", "sees"):
        table.add_column(column, overflow="fold")
    for one in body["servers"]:
        answers = ", ".join(one["addresses"]) or one["trouble"] or "nothing"
        ttl = f" for {one['ttl_seconds']} s" if one["addresses"] else ""
        sent, seen = ", ".join(one["sent_to"]), "; ".join(_seen(region) for region in one["regions"])
        table.add_row(one["name"], one["address"], f"{answers}{ttl}", sent, one["reason"], seen)
    say(table)
    for one in body["servers"]:
        counted = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in one["counts"].items() if count)
        say(f"{one['name']} counted: {counted or 'nothing yet'}", style="dim", markup=False, soft_wrap=True)


def _seen(region: dict[str, Any]) -> str:
    state = "up" if region["is_up"] else "down"
    trouble = f" ({region['trouble']})" if region["trouble"] else ""
    return f"{region['name']} {state}{trouble}"
