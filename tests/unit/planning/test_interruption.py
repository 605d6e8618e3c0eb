"""A change that is cut short anywhere can be finished or undone, and at no moment is anything lost or refused.

The world is simulated and checks itself at every moment: a front door works, one primary writes, no acknowledged
write is lost, no web server stops while requests go to it, no commit waits for a replica that was taken away.
"""

import itertools
import zlib

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from support import simulated_steps, simulated_world
from support.topologies import TOPOLOGIES
from tenfold.planning import plan

NAMES = list(TOPOLOGIES)
PAIRS = list(itertools.permutations(NAMES, 2))
RUNGS = ["single", "database", "balanced", "replicated", "cached", "cdn", "stateless", "queued"]
LADDER = [pair for one in itertools.pairwise(RUNGS) for pair in (one, one[::-1])]
JUMPS = [("single", "queued"), ("queued", "single"), ("single", "replicated"), ("replicated", "single")]
SOME = [pair for pair in PAIRS if pair in LADDER + JUMPS or zlib.crc32(" ".join(pair).encode()) % 12 == 0]
"""What a short run looks at; `--torture` looks at all pairs, at every moment."""

MOST_MOMENTS = 150


@pytest.fixture(scope="module")
def worlds() -> dict[str, simulated_world.World]:
    return {name: simulated_steps.serving(topology) for name, topology in TOPOLOGIES.items()}


@pytest.mark.parametrize(("before", "after"), SOME)
def test_every_change_arrives_in_one_plan(before: str, after: str, worlds: dict[str, simulated_world.World]) -> None:
    world, topology = worlds[before].clone(), TOPOLOGIES[after]
    made = plan.make(topology, world.look(topology), simulated_steps.asked(topology))

    for step in made.steps:
        for _ in simulated_steps.perform(world, step, topology, simulated_steps.asked(topology)):
            pass

    assert () == plan.make(topology, world.look(topology), simulated_steps.asked(topology)).steps
    assert () == made.notes
    simulated_steps.assert_arrived(world, topology)


@pytest.mark.parametrize(("before", "after"), SOME)
def test_after_every_step_the_new_plan_is_the_rest_of_the_old_one(
    before: str, after: str, worlds: dict[str, simulated_world.World]
) -> None:
    world, topology = worlds[before].clone(), TOPOLOGIES[after]
    titles = [step.title for step in plan.make(topology, world.look(topology), simulated_steps.asked(topology)).steps]

    for number, step in enumerate(
        plan.make(topology, world.look(topology), simulated_steps.asked(topology)).steps, start=1
    ):
        for _ in simulated_steps.perform(world, step, topology, simulated_steps.asked(topology)):
            pass
        rest = plan.make(topology, world.look(topology), simulated_steps.asked(topology)).steps
        assert titles[number:] == [step.title for step in rest]


@pytest.mark.parametrize(("before", "after"), LADDER)
def test_a_climb_or_descent_cut_short_at_any_moment_is_finished_or_undone(
    before: str, after: str, worlds: dict[str, simulated_world.World]
) -> None:
    assert cut_short_everywhere(worlds[before].clone(), before, after) > 0


@pytest.mark.parametrize(("before", "after"), [pair for pair in SOME if pair not in LADDER])
def test_any_change_cut_short_at_some_moments_is_finished_or_undone(
    before: str, after: str, worlds: dict[str, simulated_world.World]
) -> None:
    offset = zlib.crc32(f"{before} {after}".encode()) % 17

    assert cut_short_everywhere(worlds[before].clone(), before, after, offset, 17) >= 0


@pytest.mark.torture
@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_any_change_cut_short_at_every_moment_is_finished_or_undone(
    before: str, after: str, worlds: dict[str, simulated_world.World]
) -> None:
    assert cut_short_everywhere(worlds[before].clone(), before, after) > 0


def cut_short_everywhere(world: simulated_world.World, before: str, after: str, first: int = 0, stride: int = 1) -> int:
    """Go from one topology to the other, and at every stride-th moment try both ways on. Returns how often."""
    count = 0
    for number, _ in enumerate(simulated_steps.change(world, TOPOLOGIES[after])):
        if number % stride == first:
            count += 1
            for goal in (after, before):
                other = world.clone()
                simulated_steps.reach(other, TOPOLOGIES[goal])
                simulated_steps.assert_arrived(other, TOPOLOGIES[goal])
    return count


@pytest.mark.parametrize(
    ("before", "after"), [("single", "database"), ("database", "single"), ("single", "replicated")]
)
def test_a_machine_that_stops_in_the_middle_comes_back_with_every_acknowledged_write(
    before: str, after: str, worlds: dict[str, simulated_world.World]
) -> None:
    world = worlds[before].clone()
    for _ in simulated_steps.change(world, TOPOLOGIES[after]):
        for goal in (after, before):
            other = world.clone()
            other.down()
            simulated_steps.reach(other, TOPOLOGIES[goal])
            simulated_steps.assert_arrived(other, TOPOLOGIES[goal])
            assert other.acknowledged >= world.acknowledged


QUICKLY = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate],  # making a failure smaller takes minutes here; the seed is printed
)
goals = st.sampled_from(NAMES)
journeys = st.lists(st.tuples(goals, st.integers(0, MOST_MOMENTS), st.booleans()), min_size=1, max_size=6)


@QUICKLY
@given(first=goals, journey=journeys, last=goals)
def test_changes_of_mind_at_random_moments_lose_nothing(
    first: str, journey: list[tuple[str, int, bool]], last: str
) -> None:
    world = simulated_steps.serving(TOPOLOGIES[first])

    for goal, moments, goes_down in journey:
        for _ in itertools.islice(simulated_steps.change(world, TOPOLOGIES[goal]), moments):
            pass
        if goes_down:
            world.down()
    simulated_steps.reach(world, TOPOLOGIES[last])

    simulated_steps.assert_arrived(world, TOPOLOGIES[last])


@QUICKLY
@given(data=st.data())
def test_servers_killed_during_changes_stay_off_and_nothing_is_lost(data: st.DataObject) -> None:
    world = simulated_steps.serving(TOPOLOGIES[data.draw(goals)])
    for goal, moments, _ in data.draw(journeys):
        for _ in itertools.islice(simulated_steps.change(world, TOPOLOGIES[goal]), moments):
            pass
        world.kill(data.draw(st.sampled_from(sorted(world.servers))))
    for name, server in world.servers.items():
        if server.state is simulated_world.ServerState.KILLED:
            world.start(name)
    goal = data.draw(goals)

    simulated_steps.reach(world, TOPOLOGIES[goal])

    world.has_accidents = False
    world.moment()
    simulated_steps.assert_arrived(world, TOPOLOGIES[goal])
