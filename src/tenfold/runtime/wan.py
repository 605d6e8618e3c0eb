"""What lies between regions, for the status and for whoever cuts and heals it.

Called by `runtime/service`. What is cut is in a file that the network itself follows: it stays cut when the runtime
dies, and through a restart of the network.
"""

from typing import Any

import msgspec

from tenfold import engines, errors
from tenfold.engines.wan import admin, settings
from tenfold.runtime import events, seats
from tenfold.topology import nearest
from tenfold.wan import network

Json = dict[str, Any]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    cuts: bool
    """Whether to cut; else to heal."""
    regions: tuple[str, ...] = ()
    """Two of them: the link between them; one: all of its links; none: every link."""


async def look(places: seats.Seats) -> list[Json]:
    """Every link: whether it is cut, and what it carries each way; what it cannot say is left out."""
    seat = _seat(places)
    if seat is None:
        return []
    found = {one.name: one for one in settings.of(seat).links}
    try:
        carried = {one.name: one for one in (await admin.figures(seat)).links}
    except errors.EngineFailed:
        carried = {}
    cuts = admin.cuts(seat)
    return [_described(link, carried.get(name), is_cut=name in cuts) for name, link in found.items()]


async def change(places: seats.Seats, asked: Request, journal: events.Journal) -> Json:
    """Cut or heal links; on return it is so. Raises BadInput for regions that are not there."""
    seat = _seat(places)
    if seat is None:
        raise errors.BadInput("wan: one region found, two or more expected; add one with: tenfold grow --to regions")
    links = _links(seat, asked.regions)
    cuts = admin.cuts(seat)
    wanted = cuts | links if asked.cuts else cuts - links
    await admin.cut(seat, wanted)
    for name in sorted(wanted ^ cuts):
        journal.say("wan_cut" if asked.cuts else "wan_healed", _words(name, asked.cuts), level="warning")
    return {"cut": sorted(wanted)}


def _seat(places: seats.Seats) -> engines.Seat | None:
    found = places.wanted.running("wan")
    return places.seat(found[0].name, "wan") if found else None


def _links(seat: engines.Seat, regions: tuple[str, ...]) -> frozenset[str]:
    known = list(seat.topology.regions)
    for name in regions:
        if name not in known:
            hint = nearest.hint(name, known)
            raise errors.BadInput(f"region {name}: not found; the regions are {', '.join(known)}{hint}")
    if len(regions) != len(set(regions)):
        raise errors.BadInput(f"region {regions[0]}: found twice; a link joins two regions")
    pairs = {(road.source, road.target): road.link for road in settings.of(seat).roads}
    return frozenset(link for pair, link in pairs.items() if set(regions) <= set(pair))


def _described(link: network.Link, carried: network.Carried | None, *, is_cut: bool) -> Json:
    return {
        "name": link.name,
        "is_cut": is_cut,
        "delay_milliseconds": round(link.delay_seconds * 1000, 3),
        "jitter_milliseconds": round(link.jitter_seconds * 1000, 3),
        "bandwidth_bytes": link.bandwidth_bytes,
        "directions": [msgspec.structs.asdict(one) for one in carried.directions] if carried else [],
    }


def _words(link: str, cuts: bool) -> str:
    return f"{link} is cut: nothing arrives, and nobody is told" if cuts else f"{link} is whole again"
