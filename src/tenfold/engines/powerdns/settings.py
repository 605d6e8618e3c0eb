"""What name servers are told. Called by render, command, probe and admin. Pure."""

from pathlib import Path
from urllib.parse import urlsplit

from tenfold import engines, zone
from tenfold.topology import layout, tiers

KEEP_SECONDS = 1
"""How long PowerDNS keeps an answer that is the same for all clients. It is told to forget them when answers change;
this is for the case that it could not be told."""


def control_socket(run: Path, server: str) -> Path:
    """Where a running PowerDNS takes orders."""
    return run / f"pdns-{server}.controlsocket"


def socket(seat: engines.Seat) -> Path:
    """Where PowerDNS asks the program beside it."""
    return seat.run / f"{seat.server.name}.georoute"


def listens(seat: engines.Seat) -> tuple[str, ...]:
    """Where this server answers: on its private address, and at its place in `dns.listen`."""
    return (f"{seat.address}:{layout.PORTS['powerdns']}", *_public(seat.topology, seat.server))


def public(topology: tiers.Topology, server: layout.Server, network: int) -> tuple[str, int]:
    """Where the world finds a name server."""
    private = f"{server.address(network)}:{layout.PORTS['powerdns']}"
    host, _, port = (*_public(topology, server), private)[0].rpartition(":")
    return host.strip("[]"), int(port)


def answered(topology: tiers.Topology, region: str, network: int) -> tuple[str, ...]:
    """The addresses that a region is answered with."""
    host = layout.front_door(topology, region, network).rpartition(":")[0].strip("[]")
    return topology.regions[region].addresses or (host,)


def zone_of(seat: engines.Seat) -> zone.Zone:
    """What the program beside PowerDNS is to know."""
    topology = seat.topology
    dns = topology.dns or tiers.Dns()
    return zone.Zone(
        name=topology.service.domain.lower(),
        life_seconds=round(dns.life_seconds),
        regions=tuple(_region(seat, name, region) for name, region in topology.regions.items()),
        home=topology.home,
        here=seat.server.region,
        servers=tuple(public(topology, one, seat.network)[0] for one in seat.layout.running("powerdns")),
        maxmind=str(seat.project / dns.maxmind) if dns.maxmind else "",
        locates_resolvers=dns.without_subnet == "resolver",
        has_spare=dns.spare,
    )


def _public(topology: tiers.Topology, server: layout.Server) -> tuple[str, ...]:
    """Its place in `dns.listen`: those of the first region come first."""
    if topology.dns is None:
        return ()
    place = (server.region_number - 1) * topology.dns.servers + server.number - 1
    return topology.dns.listen[place : place + 1]


def _region(seat: engines.Seat, name: str, region: tiers.Region) -> zone.Region:
    place = region.location
    return zone.Region(
        name=name,
        addresses=answered(seat.topology, name, seat.network),
        checks=_checks(seat, name),
        networks=region.networks,
        location=zone.Location(place.latitude, place.longitude) if place else None,
        weight=region.weight if "weight" in region.model_fields_set else None,
    )


def _checks(seat: engines.Seat, region: str) -> tuple[zone.Check, ...]:
    """Its front door; another region's is behind the wide area network, where its balancers are met one by one."""
    if region == seat.server.region:
        service = layout.as_in(seat.topology, region, seat.network).service
        url = urlsplit(service.url)
        return (
            zone.Check(url.hostname or "", url.port or (443 if service.tls else 80), is_tls=service.tls is not None),
        )
    doors = seat.layout.of(region).running("haproxy")
    asking = seat.server.region_number
    return tuple(zone.Check(one.address(seat.network, seen_from=asking), layout.HOME_PORT) for one in doors)
