"""Applying on a simulated service: interrupted, refused, without effect; and going back.

The world checks itself at every moment (see support/simulated_world).
"""

import itertools

import pytest

from support import simulated_steps, simulated_world
from support.topologies import TOPOLOGIES
from tenfold import errors
from tenfold.planning import plan as plans
from tenfold.planning import steps
from tenfold.runtime import apply, events
from tenfold.topology import tiers

pytestmark = pytest.mark.anyio

RUNGS = ("single", "database", "balanced", "replicated")
CHANGES = list(itertools.permutations(RUNGS, 2))


class DiedError(Exception):
    """The runtime died."""


class Simulated:
    """What `apply.converge` needs, over a simulated world. Dies after the n-th step when told so."""

    def __init__(self, world: simulated_world.World, topology: tiers.Topology) -> None:
        self.world = world
        self.topology = topology
        self.journal = events.Journal(None)
        self.dies_after = 0
        self.refused: type[steps.Step] | None = None
        self.done = 0

    async def make_plan(self) -> plans.Plan:
        return plans.make(self.topology, self.world.look(self.topology))

    def action(self, step: steps.Step) -> apply.Act:
        return self.refuse if type(step) is self.refused else self.perform

    async def perform(self, step: steps.Step) -> None:
        for _ in simulated_steps.perform(self.world, step, self.topology):
            pass
        self.done += 1
        if self.done == self.dies_after:
            raise DiedError

    async def refuse(self, step: steps.Step) -> None:
        raise errors.EngineFailed(f"{step.kind} is not possible")


@pytest.fixture(scope="module")
def worlds() -> dict[str, simulated_world.World]:
    return {name: simulated_steps.serving(TOPOLOGIES[name]) for name in RUNGS}


@pytest.mark.parametrize(("before", "after"), CHANGES)
async def test_an_apply_that_dies_after_any_step_is_finished_by_the_next_one(
    before: str, after: str, worlds: dict[str, simulated_world.World]
) -> None:
    count = await apply.converge(Simulated(worlds[before].clone(), TOPOLOGIES[after]))

    assert count > 0
    for number in range(1, count + 1):
        one = Simulated(worlds[before].clone(), TOPOLOGIES[after])
        one.dies_after = number
        with pytest.raises(DiedError):
            await apply.converge(one)
        assert count - number == await apply.converge(one)
        simulated_steps.assert_arrived(one.world, one.topology)


@pytest.mark.parametrize(("before", "after"), CHANGES)
async def test_whichever_step_is_refused_the_former_topology_is_reached_again(
    before: str, after: str, worlds: dict[str, simulated_world.World]
) -> None:
    kinds = {type(step) for step in (await Simulated(worlds[before].clone(), TOPOLOGIES[after]).make_plan()).steps}

    for kind in kinds:
        one = Simulated(worlds[before].clone(), TOPOLOGIES[after])
        one.refused = kind
        with pytest.raises(errors.StepFailed, match="is not possible"):
            await apply.converge(one)
        back = Simulated(one.world, TOPOLOGIES[before])
        await apply.converge(back)
        simulated_steps.assert_arrived(back.world, back.topology)


async def test_a_step_that_never_takes_effect_ends_after_a_few_tries(
    worlds: dict[str, simulated_world.World],
) -> None:
    class Idle(Simulated):
        async def perform(self, step: steps.Step) -> None:
            self.done += 1

    one = Idle(worlds["single"].clone(), TOPOLOGIES["replicated"])

    with pytest.raises(errors.StepFailed, match="and still needed"):
        await apply.converge(one)
    assert apply.MOST_REPEATS == one.done


async def test_nothing_to_do_is_no_step(worlds: dict[str, simulated_world.World]) -> None:
    one = Simulated(worlds["single"].clone(), TOPOLOGIES["single"])

    assert 0 == await apply.converge(one)
    assert [] == list(one.journal.recent)


async def test_every_step_is_announced_before_and_noted_after(worlds: dict[str, simulated_world.World]) -> None:
    one = Simulated(worlds["single"].clone(), TOPOLOGIES["database"])
    titles = [step.title for step in (await one.make_plan()).steps]

    await apply.converge(one)

    said = [(event.kind, event.text) for event in one.journal.recent]
    numbered = [f"{number}/{len(titles)} {title}" for number, title in enumerate(titles, start=1)]
    assert [(kind, text) for text in numbered for kind in ("step_started", "step_done")] == said


async def test_a_step_that_fails_says_which_and_why(
    worlds: dict[str, simulated_world.World],
) -> None:
    class Full(Simulated):
        async def perform(self, step: steps.Step) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(errors.StepFailed, match=r"step 1/\d+ \(start servers database-1\).*No space left"):
        await apply.converge(Full(worlds["single"].clone(), TOPOLOGIES["database"]))
