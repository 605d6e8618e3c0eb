"""What the simulated world's databases do in more than one region: they follow the home's, and the home moves.

Called by `simulated_steps`, whose `Stage` they get.
"""

from collections.abc import Iterator

from support import simulated_patroni
from support.simulated_sizes import Stage, share
from support.simulated_world import READY, STARTING, Copy, World
from tenfold.planning import steps


def follow_home(stage: Stage, step: steps.FollowHome) -> Iterator[None]:
    """Copies of the primary, or what is there, rewound: each in the hands of its region's Patroni, promoting nobody."""
    world, primary = stage.world, stage.world.primary
    assert primary is not None
    running = [name for name in step.servers if world.runs(name, "patroni")]
    assert not running or world.following.get(step.region), f"{running} run, and follow nobody"
    world.following[step.region] = step.home
    yield
    for name in step.servers:
        stage.set(name, "patroni", STARTING)
        yield
    for name in step.servers:
        copy = world.copies.get(name) or Copy(name, is_patronis=True, logged=primary.logged)
        copy.is_standby, copy.is_fenced = True, False
        copy.timeline, copy.epoch, copy.writes = primary.timeline, primary.epoch, primary.writes
        share(stage, name)
        simulated_patroni.start(world, copy)
        world.copies[name] = copy
        stage.set(name, "patroni", READY)
        yield


def move_home(stage: Stage, step: steps.MoveHome) -> Iterator[None]:
    """Writes are held, the others get everything, and from then on Patroni elects in the other region."""
    world = stage.world
    target = world.members(step.target)
    assert {one.server for one in target} <= set(world.published), "the app would not find the new primary"
    if not any(copy in world.primaries for copy in target):
        if step.is_lost:
            _take_the_loss(world, step)
        elif world.following.get(step.target):
            yield from _give_up(stage, step)
        leader = max((one for one in target if world.is_up(one)), key=lambda one: one.writes)
        leader.is_fenced = True
        yield
        world.epoch += 1
        world.following.pop(step.target, None)
        yield
    while not any(copy in world.primaries for copy in target):
        yield
    for copy in target:
        copy.is_fenced = False
    yield
    for copy in world.members(step.source):
        copy.is_fenced = False


def _give_up(stage: Stage, step: steps.MoveHome) -> Iterator[None]:
    """What the source ever acknowledged is in the target, and nobody in the source writes any more."""
    world = stage.world
    if not any(world.runs(copy.server, "patroni") for copy in world.members(step.source)):
        assert world.following.get(step.target), f"{step.target} elects, and {step.source} might do so too"
        for copy in world.members(step.source):
            stage.set(copy.server, "patroni", READY)
            simulated_patroni.start(world, copy)
        yield
    if not world.following.get(step.source):
        primary = world.primary
        assert primary is not None, f"{step.source} has nobody to give the home up"
        assert world.region_of(primary.server) == step.source
        primary.is_fenced = True
        yield
        world.following[step.source] = step.target
        yield
    assert any(world.is_up(copy) and copy.writes == world.acknowledged for copy in world.members(step.target))


def _take_the_loss(world: World, step: steps.MoveHome) -> None:
    alive = [one.server for one in world.members(step.source) if world.servers[one.server].has_power]
    assert not alive, f"{alive} may be primaries"
    for copy in world.members(step.source):
        copy.epoch = -1
    world.acknowledged = max(copy.writes for copy in world.members(step.target) if world.is_up(copy))
