"""With `synchronous = "regions"` the whole home loses its power under load, and every acknowledged write is there."""

import json
from pathlib import Path

import pytest

from support import project
from tenfold.kit import clock

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

REGIONS = """
replicas = 1
memory = "32MiB"
synchronous = "regions"

[regions.seoul]
primary = true

[regions.virginia]

[wan]
"seoul-virginia" = { delay_ms = 20 }
"""


async def test_no_acknowledged_write_is_lost_with_the_home_and_a_planned_move_fails_nothing(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        file = shop.folder / "tenfold.toml"
        file.write_text(f"{file.read_text()}{REGIONS}")
        await shop.tenfold("up", "-d", seconds=300)
        assert ["seoul", "virginia"] == (await shop.status())["told"]["witnesses"]
        async with shop.load(rate=40) as load:
            assert await clock.until(lambda: _acknowledged(load.report, 40), seconds=60, pause_seconds=0.2)
            await shop.tenfold("region", "kill", "seoul", seconds=200)
        assert (await shop.primary()).startswith("virginia-")
        await shop.tenfold("load", "--verify", str(shop.ledger))
        assert [] == (await shop.status())["told"]["witnesses"], "nobody else is there to wait for"
        assert "regions_suspended" in [one["kind"] for one in _events(shop)]

        await shop.tenfold("region", "start", "seoul", seconds=300)
        assert ["seoul", "virginia"] == (await shop.status())["told"]["witnesses"]
        async with shop.load(rate=40) as load:
            await shop.tenfold("region", "move", "seoul", "--yes", seconds=200)
        assert not load.report.failures, load.report.failures


async def _acknowledged(report: object, count: int) -> bool:
    return int(getattr(report, "writes_acknowledged", 0)) >= count


def _events(shop: project.Project) -> list[dict[str, str]]:
    lines = (shop.folder / ".tenfold" / "events.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
