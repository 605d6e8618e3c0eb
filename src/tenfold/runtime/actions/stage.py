"""What every action works with: the supervisor, the observer, the seats, and a place to say what happens."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from tenfold import engines, errors
from tenfold.runtime import events, observe, seats, supervise


@dataclass(frozen=True, slots=True)
class Stage:
    """The stage of one plan."""

    supervisor: supervise.Supervisor
    observer: observe.Observer
    seats: seats.Seats
    journal: events.Journal

    def seat(self, server: str, process: str) -> engines.Seat:
        """The seat of a process."""
        return self.seats.seat(server, process)

    async def start(self, placed: Iterable[engines.Seat]) -> None:
        """Start processes at the same time and wait until all are ready; the first failure stops the others' wait.

        Raises EngineFailed. Processes that became ready meanwhile keep running: the plan made next sees them.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for seat in placed:
                    group.create_task(self.supervisor.start_process(seat))
        except* errors.EngineFailed as failures:
            raise failures.exceptions[0] from None
