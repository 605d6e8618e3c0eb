"""What the wide area network is told: its links, and every address at which one region may meet a server of another.

Called by render. Pure. Addresses follow from the topology's regions alone, not from the servers that are there now: who
comes or goes changes nothing here, and a server that is not there is refused at its own address.
"""

import itertools
from collections.abc import Iterator

from tenfold import engines
from tenfold.topology import layout, tiers
from tenfold.wan import network

CROSSING = {
    "server": (layout.PORTS["postgres"], layout.HOME_PORT),
    "balancer": (layout.HOME_PORT,),
    "edge": (layout.PURGE_PORT,),
    "queue": (layout.PORTS["nats"], layout.QUEUE_LINK_PORT),
    "database": (layout.PORTS["postgres"], layout.PORTS["patroni"]),
}
"""By tier, the ports that another region may ask."""

MOST_SERVERS = {"server": 1, "balancer": 9, "edge": 8, "queue": 5, "database": layout.DATABASE_SERVERS}
"""By tier, the most servers of a region: `tiers` allows no more."""


def of(seat: engines.Seat) -> network.Network:
    """All links and roads between the regions of the topology."""
    regions = layout.regions(seat.topology)
    links = tuple(_link(seat.topology, one, other) for one, other in itertools.combinations(regions, 2))
    pairs = itertools.permutations(regions, 2)
    return network.Network(links=links, roads=tuple(road for pair in pairs for road in _roads(*pair, seat.network)))


def _link(topology: tiers.Topology, one: layout.Region, other: layout.Region) -> network.Link:
    found = topology.link(one.name, other.name)
    return network.Link(
        name=_name(one, other),
        delay_seconds=found.one_way_seconds,
        jitter_seconds=found.varies_seconds,
        bandwidth_bytes=found.bandwidth_bytes,
    )


def _roads(source: layout.Region, target: layout.Region, number: int) -> Iterator[network.Road]:
    for tier, ports in CROSSING.items():
        for server in target.servers(tier, MOST_SERVERS[tier], ()):
            yield network.Road(
                link=_name(source, target),
                source=source.name,
                target=target.name,
                listen=server.address(number, seen_from=source.number),
                address=server.address(number),
                ports=ports,
            )


def _name(one: layout.Region, other: layout.Region) -> str:
    first, second = sorted((one, other), key=lambda region: region.number)
    return f"{first.name}-{second.name}"
