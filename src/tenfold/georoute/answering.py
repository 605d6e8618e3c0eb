"""Answers in the words of PowerDNS's remote backend: one JSON object a line, from memory alone.

Called by `serving` for each line that comes. The protocol is PowerDNS's ("Remote Backend" in its manual). PowerDNS
keeps in memory what has no scopeMask: a packet by the records in it, what it was told of a name (always of all its
records) by all of them. So addresses have one where they depend on the client's network, and the domain's SOA has one
always: that keeps the whole of it from being taken for everybody's, where a packet with these addresses alone may be.
"""

import ipaddress
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from tenfold import zone as zones
from tenfold.controllers import georoute

DOMAIN_ID = 1

MOST_KEPT = 65_536
"""Answers that are kept by the network that asked."""

NOBODY = "0.0.0.0"  # noqa: S104 (read, not bound)
"""Who PowerDNS says asks when it wants to know, before each answer, whether the zone is here: it uses the SOA alone."""

NOBODYS_BITS = 1
"""The scope of what may be answered to everybody, and is not to be kept."""

NOTHING = b'{"result":[]}\n'

REFUSED = b'{"result":false}\n'


class _Parameters(msgspec.Struct, rename="kebab"):
    qname: str = ""
    qtype: str = ""
    name: str = ""
    remote: str = ""
    real_remote: str = ""


class _Question(msgspec.Struct):
    method: str
    parameters: _Parameters = msgspec.field(default_factory=_Parameters)


class Desk:
    """Answers for one zone as it is now. `refresh` whenever the zone, the health or MaxMind's file has changed."""

    def __init__(self, zone: zones.Zone) -> None:
        self.counts: Counter[str] = Counter()
        """`queries`, `unknown` (names that there are not), `broken` (lines that are not the protocol's), and by region
        `region NAME`: how often it was the best one in an answer that PowerDNS did not have in memory."""
        self._decoder = msgspec.json.Decoder(_Question)
        self.refresh(georoute.Map(zone), frozenset(one.name for one in zone.regions))

    def refresh(self, known: georoute.Map, healthy: frozenset[str]) -> None:
        """Answer by these regions and their health from now on."""
        self._map, self._healthy = known, healthy
        zone = known.zone
        self._name = f"{zone.name.lower()}."
        self._fixed = _fixed(zone)
        self._kept: dict[str, tuple[bytes, str]] = {}
        self._methods: dict[str, Callable[[_Parameters], bytes]] = {
            "lookup": self._lookup,
            "initialize": lambda _: b'{"result":true}\n',
            "getDomainInfo": self._domain,
            "getAllDomains": lambda _: _line([_domain(zone)]),
            "getAllDomainMetadata": lambda _: b'{"result":{}}\n',
            "getDomainMetadata": lambda _: NOTHING,
        }

    def answer(self, line: bytes) -> bytes:
        """The answer to one line, a line too; to one that is not understood: that it failed."""
        try:
            question = self._decoder.decode(line)
        except msgspec.DecodeError:
            self.counts["broken"] += 1
            return REFUSED
        method = self._methods.get(question.method)
        return method(question.parameters) if method else REFUSED

    def order(self, subnet: str, resolver: str = "") -> georoute.Order:
        """Where a client of this network is sent, asked through this resolver."""
        is_told = subnet.partition("/")[0] != resolver
        if not is_told and not self._map.zone.locates_resolvers:
            return self._map.order_at(self._map.zone.here, self._healthy)
        return self._map.order(_network(subnet), self._healthy)

    def _lookup(self, asked: _Parameters) -> bytes:
        name = asked.qname.lower()
        if asked.remote == NOBODY:
            return self._fixed.get(f"SOA {name}", NOTHING)
        self.counts["queries"] += 1
        if name == self._name:
            return self._regions(asked.real_remote or asked.remote, asked.remote)
        found = self._fixed.get(name)
        self.counts["unknown"] += found is None
        return found or NOTHING

    def _regions(self, subnet: str, resolver: str) -> bytes:
        key = subnet if self._map.zone.locates_resolvers else f"{subnet} {resolver}"
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            kept = self._kept[key] = self._make(self.order(subnet, resolver))
        self.counts[kept[1]] += 1
        return kept[0]

    def _make(self, order: georoute.Order) -> tuple[bytes, str]:
        zone = self._map.zone
        found = georoute.answers(zone, order, self._healthy)
        scope = {"scopeMask": order.bits} if order.bits else {}
        soa, *servers = _apex(zone)
        told = [*servers, *({**_address(zone.name, one, zone.life_seconds), **scope} for one in found)]
        line = _line([*told, {**soa, "scopeMask": NOBODYS_BITS}])
        return line, f"region {order.regions[0].name}"

    def _domain(self, asked: _Parameters) -> bytes:
        zone = self._map.zone
        return _line(_domain(zone)) if asked.name.lower() == self._name else REFUSED


def _fixed(zone: zones.Zone) -> dict[str, bytes]:
    """The answers that are the same for everybody: `SOA name`, and the names of the name servers."""
    soa = _line(_apex(zone)[:1])
    servers = {
        f"{name.lower()}.": _line([_address(name, address, zone.life_seconds)])
        for name, address in zip(_server_names(zone), zone.servers, strict=True)
    }
    return {f"SOA {zone.name.lower()}.": soa, **servers}


def _server_names(zone: zones.Zone) -> list[str]:
    return [f"ns{number}.{zone.name}" for number in range(1, len(zone.servers) + 1)]


def _apex(zone: zones.Zone) -> list[dict[str, Any]]:
    """What the zone says of itself. That there is no such name may be kept as long as an answer may."""
    names = _server_names(zone)
    soa = f"{names[0]}. hostmaster.{zone.name}. 1 3600 600 86400 {zone.life_seconds}"
    return [
        _record(zone.name, "SOA", soa, zone.life_seconds),
        *(_record(zone.name, "NS", f"{name}.", zone.life_seconds) for name in names),
    ]


def _address(name: str, address: str, life_seconds: int) -> dict[str, Any]:
    return _record(name, "AAAA" if ":" in address else "A", address, life_seconds)


def _record(name: str, kind: str, content: str, life_seconds: int) -> dict[str, Any]:
    return {"qtype": kind, "qname": name, "content": content, "ttl": life_seconds}


def _domain(zone: zones.Zone) -> dict[str, Any]:
    return {"id": DOMAIN_ID, "zone": f"{zone.name}.", "kind": "native", "serial": 1}


def _line(result: object) -> bytes:
    return msgspec.json.encode({"result": result}) + b"\n"


def _network(text: str) -> georoute.Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
