"""Carries out a plan, step by step, and goes back when a step fails. The one place that changes the system.

Nothing is remembered about steps: after a crash the plan is made again from what is there, and gives the rest.
Going back is planning for the topology that was there before.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from tenfold import errors
from tenfold.planning import plan as plans
from tenfold.planning import steps
from tenfold.runtime import events

Act = Callable[[steps.Step], Awaitable[None]]

MOST_ROUNDS = 6
"""Plans made in a row: what a plan could not foresee (a server that died meanwhile) is in the next one."""


class World(Protocol):
    """What applying needs of the runtime."""

    journal: events.Journal

    async def make_plan(self) -> plans.Plan:
        """The plan from what is there now to what is wanted now."""
        ...

    def action(self, step: steps.Step) -> Act:
        """What carries out this kind of step."""
        ...


async def converge(world: World, before_step: Callable[[steps.Step], None] | None = None) -> int:
    """Plan and carry out until nothing is left to do. Returns the number of steps.

    Raises StepFailed at the first step that fails; whoever called decides about going back.
    """
    done = 0
    for _ in range(MOST_ROUNDS):
        plan = await world.make_plan()
        if plan.is_empty:
            return done
        for number, step in enumerate(plan.steps, start=1):
            if before_step is not None:
                before_step(step)
            await _carry_out(world, step, number, len(plan.steps))
            done += 1
    rest = "; ".join(step.title for step in (await world.make_plan()).steps)
    if not rest:
        return done
    raise errors.StepFailed(f"after {MOST_ROUNDS} plans in a row there is still to do: {rest}; see `tenfold events`")


async def _carry_out(world: World, step: steps.Step, number: int, count: int) -> None:
    started = time.monotonic()
    world.journal.say("step_started", f"{number}/{count} {step.title}", subject=step.kind)
    try:
        await world.action(step)(step)
    except errors.StepFailed:
        raise
    except errors.TenfoldError as error:
        raise errors.StepFailed(f"step {number}/{count} ({step.title}) failed: {error}") from error
    seconds = time.monotonic() - started
    world.journal.say("step_done", f"{number}/{count} {step.title}", subject=step.kind, seconds=seconds)


def summary(plan: plans.Plan) -> Mapping[str, int]:
    """How many steps of each risk a plan has."""
    counts: dict[str, int] = {}
    for step in plan.steps:
        counts[step.risk] = counts.get(step.risk, 0) + 1
    return counts
