"""What the edges do, for `tenfold cdn`: counted by the balancers, by edge and path; and what each edge holds.

Asked by the control API. `summed` is pure; the rest only looks.
"""

import asyncio
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tenfold import errors
from tenfold.engines.haproxy import admin as haproxy
from tenfold.engines.haproxy import counts
from tenfold.engines.haproxy import settings as haproxy_settings
from tenfold.engines.varnish import admin as varnish
from tenfold.runtime import seats
from tenfold.runtime.actions import balancer

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Figures:
    """What was asked for through edges. Bytes are those of whole answers, heads included."""

    requests: int = 0
    hits: int = 0
    """Answered with what was kept, without asking a web server first."""
    sent_bytes: int = 0
    fetched_bytes: int = 0
    saved_bytes: int = 0
    """What hits have sent, less what was fetched besides the answers that were passed on: to renew, say."""

    @property
    def hit_ratio(self) -> float | None:
        """From 0 to 1; None: nothing was asked for."""
        return self.hits / self.requests if self.requests else None

    def __add__(self, other: "Figures") -> "Figures":
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return Figures(*(one + two for one, two in pairs))

    def as_json(self) -> Json:
        """As `tenfold cdn --json` prints them."""
        ratio = self.hit_ratio
        return {**asdict(self), "hit_ratio": None if ratio is None else round(ratio, 4)}


def summed(found: Iterable[counts.Count]) -> dict[tuple[str, str], Figures]:
    """By edge and path, from the counters of all balancers."""
    total = counts.total(found)
    places = {(edge, path) for edge, path, _ in total}
    return {place: _figures(*(total.get((*place, one), (0, 0)) for one in OUTCOMES)) for place in places}


OUTCOMES = (counts.HIT, counts.FORWARDED, counts.FETCHED)


def _figures(hit: tuple[int, int], forwarded: tuple[int, int], fetched: tuple[int, int]) -> Figures:
    renewing = max(0, fetched[1] - forwarded[1])
    return Figures(
        requests=hit[0] + forwarded[0],
        hits=hit[0],
        sent_bytes=hit[1] + forwarded[1],
        fetched_bytes=fetched[1],
        saved_bytes=max(0, hit[1] - renewing),
    )


async def look(places: seats.Seats) -> Json:
    """What `tenfold cdn --json` prints; a balancer that does not answer is left out, with what it has counted."""
    asked = await asyncio.gather(*(haproxy.edge_counts(one) for one in balancer.living(places)), return_exceptions=True)
    by_place = summed(itertools.chain.from_iterable(one for one in asked if isinstance(one, tuple)))
    names = [one.name for one in places.known.running("varnish")]
    missed = sum((one for place, one in by_place.items() if place[0] == haproxy_settings.ORIGIN), Figures())
    edges = [
        _edge(places, name, {path: one for (edge, path), one in by_place.items() if edge == name}) for name in names
    ]
    total = sum((one for (edge, _), one in by_place.items() if edge in names), Figures())
    return {"version": 1, "edges": edges, "total": total.as_json(), "without_edge": missed.requests}


def _edge(places: seats.Seats, name: str, by_path: dict[str, Figures]) -> Json:
    cdn = places.topology.cdn
    paths: Sequence[str] = sorted({*(cdn.counted_paths if cdn else ()), *by_path} - {""})
    record = places.store.records.servers.get(name)
    process = record.processes.get("varnish") if record else None
    holds = _holds(places, name) if process is not None and process.is_alive else None
    return {
        "name": name,
        "is_running": process is not None and process.is_alive,
        "holds": None if holds is None else asdict(holds),
        "paths": [{"path": path, **by_path.get(path, Figures()).as_json()} for path in (*paths, "")],
        "total": sum(by_path.values(), Figures()).as_json(),
    }


@dataclass(frozen=True, slots=True)
class Holds:
    """What an edge keeps now."""

    objects: int
    used_bytes: int
    most_bytes: int
    evicted: int


def _holds(places: seats.Seats, name: str) -> Holds | None:
    try:
        found = varnish.figures(places.seat(name, "varnish"))
    except (errors.TenfoldError, OSError):
        return None
    return Holds(found.objects, found.used_bytes, found.most_bytes, found.evicted) if found else None
