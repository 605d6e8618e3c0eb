"""The data in two regions: followed, moved, and lost, cut short at every moment.

The world checks itself, see `test_interruption`: two primaries never take writes, and no acknowledged write is lost
but with a region that nobody else had them from.
"""

import pytest

from support import simulated_steps, simulated_world
from support.topologies import topology
from tenfold.topology import tiers

KILLED = simulated_world.ServerState.KILLED


def placed(home: str = "near", **database: object) -> tiers.Topology:
    regions = {name: {"primary": name == home} for name in ("near", "far")}
    return topology(database={"replicas": 1, **database}, regions=regions)


ALONE = topology(database={"replicas": 1}, regions={"near": {"primary": True}})
NEAR, FAR = placed(), placed("far")
LARGER = placed(max_connections=400)
LARGER_AWAY = placed("far", max_connections=400)


@pytest.fixture(scope="module")
def near() -> simulated_world.World:
    return simulated_steps.serving(NEAR)


CHANGES = {
    "a region comes": (ALONE, NEAR),
    "a region goes": (NEAR, ALONE),
    "the home moves": (NEAR, FAR),
    "the home moves while databases get more connections": (NEAR, LARGER_AWAY),
    "databases get fewer connections": (LARGER, NEAR),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_cut_short_at_any_moment_is_finished_or_undone(name: str) -> None:
    before, after = CHANGES[name]
    world = simulated_steps.serving(before)
    for _ in simulated_steps.change(world, after):
        for goal in (after, before):
            other = world.clone()
            reach(other, goal)
            assert other.acknowledged >= world.acknowledged


@pytest.mark.parametrize("name", ["a region comes", "the home moves"])
def test_a_machine_that_stops_in_the_middle_comes_back_with_every_acknowledged_write(name: str) -> None:
    before, after = CHANGES[name]
    world = simulated_steps.serving(before)
    for _ in simulated_steps.change(world, after):
        for goal in (after, before):
            other = world.clone()
            other.down()
            reach(other, goal)
            assert other.acknowledged >= world.acknowledged


def test_a_home_that_is_lost_at_any_moment_of_its_move_is_replaced_and_follows_when_it_returns(
    near: simulated_world.World,
) -> None:
    world = near.clone()
    for _ in simulated_steps.change(world, FAR):
        for lost, goal in (("near", FAR), ("far", NEAR)):
            other = world.clone()
            for server in [one for one in other.servers.values() if one.spec.region == lost]:
                other.kill(server.spec.name)
            simulated_steps.reach(other, goal)
            for name, server in other.servers.items():
                if server.state is KILLED:
                    other.start(name)
            reach(other, goal)


def reach(world: simulated_world.World, goal: tiers.Topology) -> None:
    """Change the world, and see that it is what was asked for."""
    simulated_steps.reach(world, goal)
    world.moment()
    assert world.primary is not None
    assert world.region_of(world.primary.server) == goal.home
    others = [copy for copy in world.copies.values() if copy is not world.primary]
    assert [] == [copy.server for copy in others if not world.is_following(copy)]
    assert 2 * len(goal.regions) == len(world.copies)
    assert set(world.copies) == set(world.published)
    assert not any(copy.is_fenced for copy in world.copies.values())
    assert {goal.database.max_connections} == {copy.size[1] for copy in world.copies.values()}
