"""`tenfold dns`: what each name server answers, why, which regions it sees up, and what it has counted."""

from __future__ import annotations

import asyncio
from typing import Any

import click
from rich.table import Table

from tenfold import errors
from tenfold.cli import output, project, vantage
from tenfold.engines.powerdns import admin, questions, settings
from tenfold.runtime import paths
from tenfold.topology import layout, tiers
from tenfold.topology import load as load_topology

COUNTED = {
    "queries": ("udp-queries", "tcp-queries"),
    "from_memory": ("packetcache-hit",),
    "unknown_names": ("nxdomain-packets",),
    "refused": ("unauth-packets",),
    "garbage": ("corrupt-packets",),
    "failed": ("servfail-packets",),
    "dropped": ("overload-drops",),
}
"""What is shown, and PowerDNS's own counters that it is the sum of."""


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
    topology = load_topology.load(where.topology)
    client = vantage.of(where, topology, region, _network(subnet))
    body = project.run(_ask_all(where, topology, client.subnet))
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


async def _ask_all(where: paths.Paths, topology: tiers.Topology, subnet: str) -> dict[str, Any]:
    network = vantage.network(where)
    servers = vantage.servers(topology)
    found = await asyncio.gather(*(_ask(where, topology, one, network, subnet) for one in servers))
    return {"version": 1, "name": topology.service.domain, "subnet": subnet, "servers": found}


async def _ask(
    where: paths.Paths, topology: tiers.Topology, server: layout.Server, network: int, subnet: str
) -> dict[str, Any]:
    host, port = settings.public(topology, server, network)
    private = server.address(network)
    answer = await _or_trouble(questions.ask(host, port, topology.service.domain, subnet=subnet))
    order = await _or_trouble(admin.order(private, subnet))
    status = await _or_trouble(admin.status(private))
    counts = await _or_trouble(admin.counts(settings.control_socket(where.run, server.name)))
    is_answered, is_known = isinstance(answer, questions.Answer), isinstance(status, admin.Status)
    return {
        "name": server.name,
        "region": server.region,
        "address": f"{host}:{port}",
        "addresses": list(answer.addresses) if is_answered else [],
        "ttl_seconds": answer.life_seconds if is_answered else 0,
        "scope": answer.scope if is_answered else None,
        "reason": order.reason if isinstance(order, admin.Order) else "",
        "sent_to": list(order.regions[:1]) if isinstance(order, admin.Order) else [],
        "trouble": "" if is_answered else str(answer),
        "regions": [_region(one) for one in status.regions] if is_known else [],
        "counts": _counts(counts) if isinstance(counts, dict) else {},
    }


async def _or_trouble(asked: Any) -> Any:
    """What was asked for, or the words of why there is none: one that is down is part of the picture."""
    try:
        return await asked
    except errors.EngineFailed as error:
        return str(error)


def _region(seen: admin.RegionSeen) -> dict[str, Any]:
    return {"name": seen.name, "is_up": seen.is_up, "trouble": seen.trouble}


def _counts(counts: dict[str, int]) -> dict[str, int]:
    return {name: sum(counts.get(one, 0) for one in theirs) for name, theirs in COUNTED.items()}


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
