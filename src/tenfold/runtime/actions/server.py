"""Power for servers."""

from tenfold import errors
from tenfold.planning import steps
from tenfold.runtime.actions import puts
from tenfold.runtime.actions.stage import Stage


async def start(stage: Stage, step: steps.StartServers) -> None:
    """Every server of the step has power."""
    known = stage.seats.known
    for name in step.servers:
        spec = known.server(name)
        if spec is None:
            raise errors.BadInput(f"server {name}: not in the topology")
        await stage.supervisor.start_server(spec, stage.seats.of(name))


async def remove(stage: Stage, step: steps.RemoveServers) -> None:
    """Every server of the step is gone, with what it held."""
    await puts.bring_home(stage, step.servers)
    for name in step.servers:
        await stage.supervisor.remove_server(name)
