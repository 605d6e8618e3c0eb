"""The long run: the runtime is killed in every step of every climb and descent, under load. `make torture` runs it."""

import itertools
import json
import random
from pathlib import Path

import pytest

from journeys import test_runtime_dies
from support import project

pytestmark = [pytest.mark.anyio, pytest.mark.torture, pytest.mark.timeout(3600)]

ROAD = ["single", "database", "balanced", "replicated", "cached", "stateless", "queued"]


async def _steps(shop: project.Project, rung: str) -> int:
    """How many steps the change to this rung has now."""
    said = await shop.tenfold("plan", "--to", rung, "--json")
    return len(json.loads(said[said.index("{") :])["steps"])  # notes about rungs that are skipped come before


async def _move(shop: project.Project, rung: str) -> tuple[str, ...]:
    """The command that takes the service to this rung."""
    now = ROAD.index((await shop.status())["rung"])
    return ("grow" if ROAD.index(rung) > now else "shrink", "--to", rung, "--yes")


@pytest.mark.parametrize(("lower", "upper"), list(itertools.pairwise(ROAD)))
async def test_killed_in_any_step_the_next_runtime_finishes_and_nothing_is_lost(
    tmp_path: Path, chance: random.Random, lower: str, upper: str
) -> None:
    async with project.shop(tmp_path) as shop:
        await shop.tenfold("up", "-d")
        if lower != "single":
            await shop.tenfold("grow", "--to", lower, "--yes", seconds=240)
        async with shop.load(rate=30) as load:
            number, wanted = 1, upper
            is_done = {lower: False, upper: False}
            while not all(is_done.values()):
                steps = await _steps(shop, wanted)
                change = await _move(shop, wanted)
                await test_runtime_dies.kill_in_step(shop, change, min(number, steps), chance.uniform(0.0, 0.6))
                await shop.tenfold("up", "-d")
                await test_runtime_dies.settled(shop)
                assert wanted == (await shop.status())["rung"]
                print(f"{wanted}: killed in step {min(number, steps)} of {steps}; {load.report.requests} requests")
                is_done[wanted] = is_done[wanted] or number >= steps
                if wanted == lower:
                    number += 1
                wanted = lower if wanted == upper else upper
        await shop.ensure_nothing_lost(load.report)
