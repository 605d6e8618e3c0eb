"""What the simulated world's databases do in more than one region: they follow the home's, and the home moves.

Called by `simulated_steps`, whose `Stage` they get.
"""

from collections.abc import Iterator

from support.simulated_sizes import Stage
from support.simulated_world import READY, STARTING, Copy
from tenfold.planning import steps


def follow_home(stage: Stage, step: steps.FollowHome) -> Iterator[None]:
    """Copies of the primary, each in the hands of its region's Patroni, which promotes nobody."""
    primary = stage.world.primary
    assert primary is not None
    for name in step.servers:
        stage.world.copies.pop(name, None)
        stage.set(name, "patroni", STARTING)
        yield
    for name in step.servers:
        stage.world.copies[name] = Copy(name, is_standby=True, is_patronis=True, size=primary.size)
        stage.set(name, "patroni", READY)
        yield


def move_home(stage: Stage, step: steps.MoveHome) -> Iterator[None]:
    """Writes are held, the others get everything, and from then on Patroni elects in the other region."""
    world = stage.world
    target = {one.server for one in world.copies.values() if world.servers[one.server].spec.region == step.target}
    assert target <= set(world.published), "the app would not find the new primary"
    for copy in world.primaries:
        assert world.servers[copy.server].spec.region == step.source
        copy.is_fenced = True
        yield
        for other in world.copies.values():
            other.writes = copy.writes if world.is_following(other) else other.writes
        copy.is_standby = True
    world.home = step.target
    yield
    for copy in world.copies.values():
        copy.is_fenced = False
