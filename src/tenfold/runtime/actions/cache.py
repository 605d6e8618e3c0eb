"""The cache servers: made one cluster, and given new settings while they run."""

from tenfold.engines.valkey import admin
from tenfold.planning import steps
from tenfold.runtime.actions.stage import Stage


async def form(stage: Stage, step: steps.FormCache) -> None:
    """The servers of the step are one whole cache."""
    seats = [stage.seat(name, "valkey") for name in step.servers]
    await admin.form(seats, begins_anew=step.begins_anew)
