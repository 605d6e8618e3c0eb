"""The edges: given new settings while they run."""

from tenfold import engines
from tenfold.engines.haproxy import settings as haproxy
from tenfold.runtime.actions import balancer
from tenfold.runtime.actions.stage import Stage


async def renew(stage: Stage, seat: engines.Seat) -> None:
    """The edge runs with the settings of its seat: changed while it runs, or else restarted while nobody asks it."""
    async with balancer.without(stage, (haproxy.EDGES, seat.server.name)):
        await stage.restart(seat)
