"""The edges: given new settings while they run."""

from tenfold import engines
from tenfold.engines.haproxy import settings as haproxy
from tenfold.engines.varnish import admin, command
from tenfold.runtime.actions import balancer
from tenfold.runtime.actions.stage import Stage


async def renew(stage: Stage, seat: engines.Seat) -> None:
    """The edge runs with the settings of its seat.

    What its files say, it takes over while it runs, and keeps what it holds. What it was started with (its memory)
    needs a restart: no balancer gives it a request meanwhile, and it begins with nothing kept.
    """
    record = stage.supervisor.store.server(seat.server.name).processes[seat.process.name]
    if tuple(record.argv) == command.command(seat).argv:
        stage.supervisor.render(seat)
        await admin.configure(seat)
        stage.supervisor.renewed(seat)
    else:
        async with balancer.without(stage, (haproxy.EDGES, seat.server.name)):
            await stage.restart(seat)
