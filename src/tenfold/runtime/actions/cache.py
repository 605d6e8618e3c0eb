"""The cache servers: made one cluster, and given new settings while they run."""

from tenfold import engines
from tenfold.engines.valkey import admin, render
from tenfold.planning import steps
from tenfold.runtime.actions.stage import Stage


async def form(stage: Stage, step: steps.FormCache) -> None:
    """The servers of the step are one whole cache."""
    seats = [stage.seat(name, "valkey") for name in step.servers]
    await admin.form(seats, begins_anew=step.begins_anew)


async def renew(stage: Stage, seat: engines.Seat) -> None:
    """The server runs with the settings of its seat: changed while it runs, or else restarted."""
    file = seat.config / render.FILE
    if file.exists() and await admin.take_over(seat, file.read_text()):
        stage.supervisor.renewed(seat)
    else:
        await stage.restart(seat)
        others = [stage.seat(one.name, "valkey") for one in stage.seats.wanted.of(seat.server.region).running("valkey")]
        await admin.form(others, begins_anew=False)  # whole again, before the next one stops
