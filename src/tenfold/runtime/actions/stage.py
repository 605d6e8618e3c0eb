"""What every action works with: the supervisor, the observer, the seats, and a place to say what happens."""

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

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

    async def start(self, placed: Iterable[engines.Seat], *, as_before: Iterable[str] = ()) -> None:
        """Start processes at the same time and wait until all are ready; the first failure stops the others' wait.

        `as_before`: servers whose processes start with what they were started with last, not with what is wanted now.
        Raises EngineFailed. Processes that became ready meanwhile keep running: the plan made next sees them.
        """
        kept = set(as_before)
        await self.together(self.supervisor.start_process(seat, as_before=seat.server.name in kept) for seat in placed)

    async def together(self, work: Iterable[Coroutine[Any, Any, None]]) -> None:
        """Do these at the same time. The first failure cancels the others and is raised."""
        try:
            async with asyncio.TaskGroup() as group:
                for one in work:
                    group.create_task(one)
        except* (errors.TenfoldError, OSError) as failures:
            raise _first(failures) from None

    async def restart(self, seat: engines.Seat) -> None:
        """Stop a process politely and start it with the settings of its seat. Raises EngineFailed."""
        await self.supervisor.stop_process(seat.server.name, seat.process.name)
        await self.supervisor.start_process(seat)


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    one = failures.exceptions[0]
    return _first(one) if isinstance(one, BaseExceptionGroup) else one
