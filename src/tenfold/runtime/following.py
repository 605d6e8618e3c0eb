"""Waits until every process of the app goes by the bindings as they are in the file.

Called by actions before they move what the former bindings name, and before servers stop that these named. A process
looks at the file five times a second; one that is held up is waited for, not guessed about.
"""

import asyncio
from collections.abc import Iterator

from tenfold import bindings, engines, errors
from tenfold.engines.granian import admin as granian
from tenfold.engines.granian import command
from tenfold.kit import clock
from tenfold.runtime import publish, seats
from tenfold.topology import layout

PAUSE_SECONDS = 0.05


async def followed(places: seats.Seats, within_seconds: float) -> tuple[str, ...]:
    """The servers whose app goes by other bindings still when the time is over; none: all follow."""
    look = _Look(places)
    if await clock.until(look.once, seconds=within_seconds, pause_seconds=PAUSE_SECONDS):
        return ()
    return tuple(sorted(look.late))


async def ensure_followed(places: seats.Seats, within_seconds: float = 30.0) -> None:
    """Raises EngineFailed when a process does not follow in time."""
    late = await followed(places, within_seconds)
    if late:
        raise errors.EngineFailed(
            f"the app on {', '.join(late)} has not read {places.where.bindings} after {within_seconds:g} s: its event "
            "loop is held up; see: tenfold logs"
        )


class _Look:
    """Asks all processes again and again; of several on one address the kernel chooses which one answers."""

    def __init__(self, places: seats.Seats) -> None:
        self._places = places
        found = {region: publish.published(places, region) for region in places.topology.regions}
        self._digests = {region: bindings.digest(bound) for region, bound in found.items() if bound is not None}
        """By region; the app of a region that is about to go is not waited for."""
        self._following: set[tuple[str, int]] = set()
        """(server, pid) of those that said so: bindings change only under the hands of whoever waits."""
        self.late: set[str] = set()

    async def once(self) -> bool:
        found = self._told()
        waiting = [seat for seat, count in found if self._heard(seat) < count]
        await asyncio.gather(*(self._ask(seat) for seat in waiting))
        self.late = {seat.server.name for seat, count in self._told() if self._heard(seat) < count}
        return not self.late

    def _told(self) -> list[tuple[engines.Seat, int]]:
        return [(seat, count) for seat, count in _ready(self._places) if seat.server.region in self._digests]

    def _heard(self, seat: engines.Seat) -> int:
        return len([one for one in self._following if one[0] == seat.server.name])

    async def _ask(self, seat: engines.Seat) -> None:
        told = await granian.load(seat)
        if told is not None and told.get("bindings") == self._digests[seat.server.region]:
            self._following.add((seat.server.name, int(told["pid"])))


def _ready(places: seats.Seats) -> Iterator[tuple[engines.Seat, int]]:
    """The seats of web servers and workers that serve, each with the number of processes that it was started with."""
    for name, server in list(places.store.records.servers.items()):
        for one in server.processes.values():
            if server.is_alive and one.is_alive and one.was_ready and one.name in layout.APP_ENGINES:
                yield places.seat(name, one.name), command.processes(one.argv)
