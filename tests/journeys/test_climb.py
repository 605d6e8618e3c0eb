"""The whole road: from one server to all tiers there are, in two regions, and back, under load.

Nothing fails, nothing is lost or done twice, and nobody is logged out.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from support import project
from tenfold.kit import clock

pytestmark = pytest.mark.anyio

CLIMB_SECONDS = 420.0

ROADS = [
    pytest.param(("--skip", "regions"), id="in one region"),
    pytest.param((), id="to two regions", marks=pytest.mark.torture),
]
"""The whole ladder ends with sixty processes: at this rate it wants two cores for itself."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("skipping", ROADS)
async def test_climbing_the_ladder_and_back_fails_no_request_and_loses_no_write(
    skipping: tuple[str, ...], tmp_path: Path
) -> None:
    async with project.shop(tmp_path) as shop:
        await shop.tenfold("up", "-d")
        async with shop.load(rate=100) as load:
            climbed = await shop.tenfold("grow", "--to", "queued", *skipping, "--yes", seconds=CLIMB_SECONDS)
            await _ensure_all_is_there(shop, has_regions=not skipping)
            descended = await shop.tenfold("shrink", "--to", "single", "--yes", seconds=CLIMB_SECONDS)
        print("\n".join(line for line in (climbed + descended).splitlines() if line.startswith("now on rung")))
        print(f"climb to queued and back: {load.report.to_dict()}")
        await shop.ensure_nothing_lost(load.report)
        await shop.ensure_messages_had_their_effect_once()

        status = await shop.status()
        assert "single" == status["rung"]
        assert ["server-1"] == [server["name"] for server in status["servers"]]
        assert ("database", "postgres", "web") == _uses(status)


async def test_the_file_keeps_its_comments_and_is_what_runs(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        before = (shop.folder / "tenfold.toml").read_text()
        await shop.tenfold("up", "-d")
        await shop.tenfold("grow", "--yes")
        text = (shop.folder / "tenfold.toml").read_text()
        assert all(line in text for line in before.splitlines() if line.startswith("#"))
        assert (await shop.status())["rung"] == "database"
        assert "Nothing to do" in await shop.tenfold("plan")


async def _ensure_all_is_there(shop: project.Project, *, has_regions: bool) -> None:
    """Every tier; in two regions the clients of each are answered the addresses of their own."""
    there = await shop.status()
    assert "queued" == there["rung"]
    told = {key: len(there["told"][key]) for key in ("edges", "caches", "queues")}
    assert {"edges": 2, "caches": 6, "queues": 3} == told
    assert ("database" if has_regions else "cache", "nats", "workers") == _uses(there)
    assert 0 < json.loads(await shop.tenfold("cdn", "--json"))["total"]["requests"]
    for region in ("seoul", "virginia") if has_regions else ():
        answered = json.loads(await shop.tenfold("dns", "--from", region, "--json"))["servers"]
        assert [[region]] * 4 == [one["sent_to"] for one in answered], answered
    assert await clock.until(lambda: _is_well(shop), seconds=60, pause_seconds=1), (await shop.status())["conditions"]


async def _is_well(shop: project.Project) -> bool:
    return not (await shop.status())["conditions"]


def _uses(status: dict[str, Any]) -> tuple[object, ...]:
    told = status["told"]
    assert ([], "") == (told["former_stores"], told["former_transport"]), json.dumps(told)
    return tuple(told[key] for key in ("store", "transport", "handled_by"))
