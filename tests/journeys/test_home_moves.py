"""The home of the data moves between two regions, is lost, and returns, through the commands that a user types."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support import project
from tenfold.kit import clock

pytestmark = pytest.mark.anyio

REGIONS = """
replicas = 1
memory = "32MiB"

[regions.seoul]
primary = true

[regions.virginia]
"""


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[project.Project]:
    async with project.shop(tmp_path) as made:
        file = made.folder / "tenfold.toml"
        file.write_text(f"{file.read_text()}{REGIONS}")
        await made.tenfold("up", "-d", seconds=300)
        yield made


async def test_the_home_moves_without_a_lost_write_is_lost_and_returns_by_itself(shop: project.Project) -> None:
    assert ["seoul"] == [one["name"] for one in await regions(shop) if one["is_home"]]
    async with shop.load(rate=20) as load:
        await shop.tenfold("region", "move", "virginia", "--yes", seconds=200)
        assert ["virginia"] == [one["name"] for one in await regions(shop) if one["is_home"]]
        await shop.tenfold("region", "move", "seoul", "--yes", seconds=200)
    assert not load.report.failures, load.report.failures
    await shop.tenfold("load", "--verify", str(shop.ledger))

    began = time.monotonic()
    assert "virginia is the home of the data" in await shop.tenfold("region", "kill", "seoul", seconds=200)
    print(f"\nkilled and replaced in {time.monotonic() - began:.1f} s")
    assert (await shop.primary()).startswith("virginia-")

    await shop.tenfold("region", "start", "seoul", seconds=300)
    assert await clock.until(lambda: follows(shop, "seoul"), seconds=60, pause_seconds=0.5), await regions(shop)
    assert ["virginia"] == [one["name"] for one in await regions(shop) if one["is_home"]]
    assert (shop.folder / ".tenfold" / "lost-seoul.jsonl").exists()


async def test_an_unknown_region_is_named(shop: project.Project) -> None:
    finished = await shop.try_tenfold("region", "move", "virgina", "--yes")
    assert 2 == finished.code
    assert "did you mean virginia" in finished.output


async def regions(shop: project.Project) -> list[dict[str, Any]]:
    """What `tenfold region status` says."""
    found = json.loads(await shop.tenfold("region", "status", "--json"))
    return list(found["regions"])


async def follows(shop: project.Project, region: str) -> bool:
    """Whether every copy there is a standby that streams."""
    (found,) = [one for one in await regions(shop) if one["name"] == region]
    return all(one["role"] == "standby" and one["is_streaming"] for one in found["databases"])
