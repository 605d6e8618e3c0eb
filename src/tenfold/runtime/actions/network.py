"""What lies between regions: given new links while it carries what it carries."""

from tenfold import engines
from tenfold.engines.wan import admin
from tenfold.runtime.actions.stage import Stage


async def renew(stage: Stage, seat: engines.Seat) -> None:
    """The network goes by the settings of its seat; what crosses it meanwhile goes on."""
    stage.supervisor.render(seat)
    await admin.take_over(seat)
    stage.supervisor.renewed(seat)
