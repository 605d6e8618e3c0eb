"""Power for servers."""

from tenfold import errors
from tenfold.planning import steps
from tenfold.runtime.actions import puts, region
from tenfold.runtime.actions.stage import Stage


async def start(stage: Stage, step: steps.StartServers) -> None:
    """Every server of the step has power."""
    known = stage.seats.known
    specs = [known.server(name) for name in step.servers]
    missing = [name for name, spec in zip(step.servers, specs, strict=True) if spec is None]
    if missing:
        raise errors.BadInput(f"server {', '.join(missing)}: not in the topology")
    starting = (stage.supervisor.start_server(spec, stage.seats.of(spec.name)) for spec in specs if spec is not None)
    await stage.together(starting)


async def remove(stage: Stage, step: steps.RemoveServers) -> None:
    """Every server of the step is gone, with what it held."""
    await puts.bring_home(stage, step.servers)
    await region.keep_nothing_for(stage, step.servers)
    for name in step.servers:
        await stage.supervisor.remove_server(name)
