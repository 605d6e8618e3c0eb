"""Where a client stands that `load`, `trace` and `dns` play: its network, and the name servers that it asks first.

All of it is read from tenfold.toml and the runtime's records: name servers answer while no runtime runs.
"""

from __future__ import annotations

from tenfold import errors
from tenfold.engines.powerdns import settings
from tenfold.runtime import paths, records
from tenfold.topology import layout, nearest, tiers
from tenfold.traffic import resolving


def servers(topology: tiers.Topology) -> tuple[layout.Server, ...]:
    """The name servers of all regions. Raises BadInput when there are none."""
    found = layout.layout(topology).running("powerdns")
    if not found:
        raise errors.BadInput("dns: no section [dns] in tenfold.toml; see: tenfold help topology dns")
    return found


def network(where: paths.Paths) -> int:
    """The service's network on this machine. Raises NotRunning when it never had one."""
    if not where.records.exists():
        raise errors.NotRunning(f"{where.state}: nothing was ever started here; start it with: tenfold up -d")
    return records.Store.open(where.records).records.network


def of(where: paths.Paths, topology: tiers.Topology, region: str | None, subnet: str = "") -> resolving.Resolver:
    """What a client in this region resolves by, or one without a place.

    Its network is the region's first one, unless `subnet` says another. Raises BadInput, NotRunning.
    """
    if region is not None and region not in topology.regions:
        known = list(topology.regions)
        hint = nearest.hint(region, known)
        raise errors.BadInput(f"--from: region {region!r} found, one of {', '.join(known)} expected{hint}")
    numbered = network(where)
    near = sorted(servers(topology), key=lambda one: one.region != region)
    told = subnet or (next(iter(topology.regions[region].networks), "") if region is not None else "")
    return resolving.Resolver(
        name=topology.service.domain,
        servers=tuple(resolving.NameServer(one.name, *settings.public(topology, one, numbered)) for one in near),
        subnet=told,
        regions={address: name for name in topology.regions for address in settings.answered(topology, name, numbered)},
    )


def url(service: tiers.Service) -> str:
    """The front door by the name that is looked up."""
    scheme, _, rest = service.url.partition("://")
    port = rest.rpartition(":")[2] if ":" in rest.rpartition("]")[2] else ""
    return f"{scheme}://{service.domain}{f':{port}' if port else ''}"
