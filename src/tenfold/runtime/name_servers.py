"""What each name server answers, why, and what it has counted. Asked by `tenfold dns`; no runtime has to run.

A name server that does not answer is part of the picture: its trouble stands in the place of its answer.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from tenfold import errors
from tenfold.engines.powerdns import admin, questions, settings
from tenfold.runtime import paths
from tenfold.topology import layout, tiers

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


async def ask(
    where: paths.Paths, topology: tiers.Topology, servers: Sequence[layout.Server], network: int, subnet: str
) -> dict[str, Any]:
    """What all of them say about a client in `subnet` (empty: one without a place), in the form of `--json`."""
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
