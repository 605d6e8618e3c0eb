"""The whole road: from one server to all tiers there are, and back, under load. Nothing fails, nothing is lost."""

import json
from pathlib import Path

import pytest

from support import project

pytestmark = pytest.mark.anyio


@pytest.mark.timeout(400)
async def test_climbing_to_queued_and_back_fails_no_request_and_loses_no_write(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        await shop.tenfold("up", "-d")
        async with shop.load(rate=100) as load:
            await shop.tenfold("grow", "--to", "queued", "--skip", "regions", "--yes", seconds=200)
            there = await shop.status()
            assert "queued" == there["rung"]
            told = {key: len(there["told"][key]) for key in ("edges", "caches", "queues")}
            assert {"edges": 2, "caches": 6, "queues": 3} == told
            assert 0 < json.loads(await shop.tenfold("cdn", "--json"))["total"]["requests"]
            assert ("cache", "nats", "workers") == _uses(there)
            assert [] == there["conditions"], there["conditions"]
            await shop.tenfold("shrink", "--to", "single", "--yes", seconds=200)
        await shop.ensure_nothing_lost(load.report)

        status = await shop.status()
        assert "single" == status["rung"]
        assert ["server-1"] == [server["name"] for server in status["servers"]]
        assert ("database", "postgres", "web") == _uses(status)
        print(f"climb to queued and back: {load.report.total.to_dict()}, repeated {load.report.repeated}")


async def test_the_file_keeps_its_comments_and_is_what_runs(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        before = (shop.folder / "tenfold.toml").read_text()
        await shop.tenfold("up", "-d")
        await shop.tenfold("grow", "--yes")
        text = (shop.folder / "tenfold.toml").read_text()
        assert all(line in text for line in before.splitlines() if line.startswith("#"))
        assert (await shop.status())["rung"] == "database"
        assert "Nothing to do" in await shop.tenfold("plan")


def _uses(status: dict[str, object]) -> tuple[object, ...]:
    told = status["told"]
    assert isinstance(told, dict)
    assert ([], "") == (told["former_stores"], told["former_transport"]), json.dumps(told)
    return tuple(told[key] for key in ("store", "transport", "handled_by"))
