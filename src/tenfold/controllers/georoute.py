"""Which regions a client is sent to, and which regions are healthy. Pure: the program `tenfold.georoute` acts on it.

A client's place is told by the first of these that knows it: the longest of the regions' `networks` that holds it, then
MaxMind's location of its network, by distance. A client whose place nobody knows goes where the weights say, and
without weights to the home region: it is the same region each time, since two answers in turn are two sets of caches,
and a session that is read far from where it was written.

An answer holds addresses of one region only. Resolvers turn the order of addresses around, so an address of the second
best region in the same answer would draw half of the clients there for good, to spare a few of them some seconds once
a year. A region that shall bear the loss of an address has two of its own; who knows that its clients keep the order
may ask for the next region's as a spare.
"""

import hashlib
import ipaddress
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from tenfold import zone as zones

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

EARTH_KM = 6371.0

SHARE_BITS = {4: 24, 6: 56}
"""By IP version, the networks that weights are shared out by: what one provider's customer is likely to have."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where a network is, as a MaxMind file knows it."""

    location: zones.Location
    bits: int
    """How long the prefix is that this holds for."""


Locate = Callable[[Address], Found | None]
"""Asks a MaxMind file; None: it does not know."""


def knows_nothing(_: Address) -> Found | None:
    """Without a MaxMind file."""
    return None


@dataclass(frozen=True, slots=True)
class Order:
    """The regions for a client, the best first, healthy ones alone unless none is."""

    regions: tuple[zones.Region, ...]
    bits: int
    """The answer is the same for every client in the network of this prefix length; 0: for all clients."""
    reason: str


class Map:
    """A zone's regions, made ready for many questions. `locate` is asked for what no network of theirs says."""

    def __init__(self, zone: zones.Zone, locate: Locate = knows_nothing) -> None:
        self.zone = zone
        self._locate = locate
        self._by_name = {region.name: region for region in zone.regions}
        self._networks: list[tuple[Network, zones.Region]] = sorted(
            ((ipaddress.ip_network(text), region) for region in zone.regions for text in region.networks),
            key=lambda one: -one[0].prefixlen,
        )
        self._is_weighted = any(region.weight is not None for region in zone.regions)

    def order(self, client: Network | None, healthy: Collection[str]) -> Order:
        """Where a client of this network is sent; None: nobody told its network."""
        if len(self.zone.regions) == 1 or client is None or client.prefixlen == 0:
            return self._somewhere(client, healthy)
        address = client.network_address
        bits = self._undivided(address)
        for network, region in self._networks:
            if address in network:
                return self._near(region, max(bits, network.prefixlen), healthy, client, f"network {network}")
        found = self._locate(address)
        if found is not None and any(region.location for region in self.zone.regions):
            return self._nearest(found.location, max(bits, found.bits), healthy, client)
        return self._somewhere(client, healthy, bits)

    def order_at(self, region: str, healthy: Collection[str]) -> Order:
        """Where clients are sent that are in this region, as far as anybody knows."""
        return self._near(self._by_name[region], 0, healthy, None, f"asked in {region}")

    def _undivided(self, address: Address) -> int:
        """How long a prefix of this address must be to hold no other network of the regions (RFC 7871, 7.2.1)."""
        apart = (_common_bits(address, network) + 1 for network, _ in self._networks if _is_elsewhere(address, network))
        return max(apart, default=0)

    def _near(
        self, first: zones.Region, bits: int, healthy: Collection[str], client: Network | None, reason: str
    ) -> Order:
        """This region, then those next to it."""
        others = [region for region in self._by_home() if region != first]
        if first.location is not None:
            others.sort(key=lambda region: distance_km(first.location, region.location))
        return self._order([first, *others], bits, healthy, client, reason)

    def _nearest(self, place: zones.Location, bits: int, healthy: Collection[str], client: Network) -> Order:
        regions = sorted(self._by_home(), key=lambda region: distance_km(place, region.location))
        best = next((region for region in regions if region.name in healthy), regions[0])
        reason = f"{distance_km(place, best.location):.0f} km away"
        return self._order(regions, bits, healthy, client, reason)

    def _somewhere(self, client: Network | None, healthy: Collection[str], bits: int = 0) -> Order:
        """For a client whose place nobody knows."""
        regions = self._by_home()
        if self._is_weighted and client is not None and client.prefixlen > 0:
            share = _shortened(client)
            regions.sort(key=lambda region: _draw(region, share))
            return self._order(regions, max(bits, SHARE_BITS[client.version]), healthy, client, "by weight")
        if self._is_weighted:
            regions.sort(key=lambda region: -_weight(region))
        reason = "the home region" if len(regions) > 1 else "the only region"
        return self._order(regions, bits, healthy, client, reason)

    def _by_home(self) -> list[zones.Region]:
        return sorted(self.zone.regions, key=lambda region: region.name != self.zone.home)

    def _order(
        self, regions: list[zones.Region], bits: int, healthy: Collection[str], client: Network | None, reason: str
    ) -> Order:
        """Healthy regions alone; all of them when none is: better one that may work than no answer.

        Where there is no choice the answer is everybody's, and can be kept.
        """
        good = tuple(region for region in regions if region.name in healthy)
        bits = min(bits, client.prefixlen) if client is not None and len(good) > 1 else 0
        if not good:
            return Order(tuple(regions), bits, f"{reason}; no region is healthy: all are answered")
        return Order(good, bits, reason if good[0] == regions[0] else f"{reason}; {regions[0].name} is down")


def answers(zone: zones.Zone, order: Order, healthy: Collection[str]) -> tuple[str, ...]:
    """The addresses to answer, in their order: those of the best region, of all regions when none is healthy."""
    if not any(region.name in healthy for region in order.regions):
        return tuple(dict.fromkeys(one for region in order.regions for one in region.addresses))
    best = order.regions[0].addresses
    if zone.has_spare and len(best) == 1 and len(order.regions) > 1:
        return tuple(dict.fromkeys((*best, order.regions[1].addresses[0])))
    return best


def distance_km(one: zones.Location | None, other: zones.Location | None) -> float:
    """Along the surface (haversine); for ever when one of the two is unknown."""
    if one is None or other is None:
        return math.inf
    north, south = math.radians(one.latitude), math.radians(other.latitude)
    east = math.radians(other.longitude - one.longitude)
    part = math.sin((south - north) / 2) ** 2 + math.cos(north) * math.cos(south) * math.sin(east / 2) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(min(1.0, part)))


def _is_elsewhere(address: Address, network: Network) -> bool:
    return address.version == network.version and address not in network


def _common_bits(address: Address, network: Network) -> int:
    """How many leading bits the two share."""
    width = address.max_prefixlen
    return width - (int(address) ^ int(network.network_address)).bit_length()


def _shortened(client: Network) -> str:
    bits = min(client.prefixlen, SHARE_BITS[client.version])
    return str(client.supernet(new_prefix=bits))


def _weight(region: zones.Region) -> int:
    return 1 if region.weight is None else region.weight


def _draw(region: zones.Region, share: str) -> float:
    """Weighted rendezvous hashing (Schindelhauer, Schomaker 2005): the lowest wins, as often as the weights say.

    A region that fails or comes back moves its own clients alone.
    """
    digest = hashlib.blake2b(f"{region.name} {share}".encode(), digest_size=4).digest()
    number = (int.from_bytes(digest) + 0.5) / 2**32
    return -math.log(number) / _weight(region) if _weight(region) else math.inf


# Which regions are healthy


@dataclass(frozen=True, slots=True)
class Rules:
    """When a region counts as down or up."""

    down_after: int = 3
    """Failed checks one after the other."""
    up_after: int = 3
    """Good checks one after the other."""
    quiet_seconds: float = 60.0
    """Who goes down again within this time after it came up has to be good for twice as long the next time."""
    most_up_after: int = 64
    """The longest patience of that kind, in good checks."""


@dataclass(frozen=True, slots=True)
class Health:
    """What the checks of a region have come to."""

    is_up: bool = True
    """Until it is known: a name server that begins must not send everybody away."""
    is_judged: bool = False
    """Whether that is known."""
    streak: int = 0
    """Checks one after the other that say the opposite."""
    up_after: int = 0
    """Good checks that are asked for the next time; 0: what the rules say."""
    changed_at: float = 0.0


def judge(health: Health, is_good: bool, now: float, rules: Rules) -> Health:
    """The health after one more check, at the time `now` in seconds."""
    if is_good == health.is_up:
        return replace(health, streak=0, is_judged=health.is_judged or is_good)
    streak = health.streak + 1
    if health.is_up and streak >= rules.down_after:
        return Health(False, True, 0, _patience(health, now, rules), now)
    if not health.is_up and streak >= health.up_after:
        return Health(True, True, 0, health.up_after, now)
    return replace(health, streak=streak)


def _patience(health: Health, now: float, rules: Rules) -> int:
    """How many good checks a region that goes down now needs to come back."""
    if health.up_after and now - health.changed_at < rules.quiet_seconds:
        return min(2 * health.up_after, rules.most_up_after)
    return rules.up_after
