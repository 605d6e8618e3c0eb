"""Carries out a plan, step by step, and goes back when a step fails. The one place that changes the system.

Nothing is remembered about steps: after a crash the plan is made again from what is there, and gives the rest.
Going back is planning for the topology that was there before.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from tenfold import errors
from tenfold.planning import plan as plans
from tenfold.planning import steps
from tenfold.runtime import events

Act = Callable[[steps.Step], Awaitable[None]]

MOST_REPEATS = 3
"""How often the same step may be planned again right after it was carried out: more means that it does not work."""


class World(Protocol):
    """What applying needs of the runtime."""

    journal: events.Journal

    async def make_plan(self) -> plans.Plan:
        """The plan from what is there now to what is wanted now."""
        ...

    def action(self, step: steps.Step) -> Act:
        """What carries out this kind of step."""
        ...


async def converge(world: World) -> int:
    """Plan, carry out the first step, and plan again, until nothing is left to do. Returns the number of steps.

    A plan is a forecast: after each step the next one is chosen from what is there then, so that a server that died
    or a primary that moved meanwhile is never met by a step made for another world. Raises StepFailed at the first
    step that fails; whoever called decides about going back.
    """
    done: list[steps.Step] = []
    while (plan := await world.make_plan()).steps:
        step = plan.steps[0]
        if done[-MOST_REPEATS:] == [step] * MOST_REPEATS:
            raise errors.StepFailed(f"{step.title}: done {MOST_REPEATS} times, and still needed; see `tenfold events`")
        await _carry_out(world, step, len(done) + 1, len(done) + len(plan.steps))
        done.append(step)
    return len(done)


async def _carry_out(world: World, step: steps.Step, number: int, count: int) -> None:
    started = time.monotonic()
    world.journal.say("step_started", f"{number}/{count} {step.title}", subject=step.kind)
    try:
        await world.action(step)(step)
    except errors.StepFailed:
        raise
    except (errors.TenfoldError, OSError) as error:
        raise errors.StepFailed(f"step {number}/{count} ({step.title}) failed: {error}") from error
    seconds = time.monotonic() - started
    world.journal.say("step_done", f"{number}/{count} {step.title}", subject=step.kind, seconds=seconds)
