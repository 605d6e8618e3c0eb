"""The whole road: from one server to a replicated service and back, under load. Nothing fails, nothing is lost."""

from pathlib import Path

import pytest

from support import project

pytestmark = pytest.mark.anyio


@pytest.mark.timeout(280)
async def test_climbing_to_replicated_and_back_fails_no_request_and_loses_no_write(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        await shop.tenfold("up", "-d")
        async with shop.load(rate=100) as load:
            await shop.tenfold("grow", "--to", "replicated", "--yes")
            assert (await shop.status())["rung"] == "replicated"
            await shop.tenfold("shrink", "--to", "single", "--yes")
        await shop.ensure_nothing_lost(load.report)

        status = await shop.status()
        assert status["rung"] == "single"
        assert [server["name"] for server in status["servers"]] == ["server-1"]
        print(f"climb and back: {load.report.total.to_dict()}, repeated {load.report.repeated}")


async def test_the_file_keeps_its_comments_and_is_what_runs(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        before = (shop.folder / "tenfold.toml").read_text()
        await shop.tenfold("up", "-d")
        await shop.tenfold("grow", "--yes")
        text = (shop.folder / "tenfold.toml").read_text()
        assert all(line in text for line in before.splitlines() if line.startswith("#"))
        assert (await shop.status())["rung"] == "database"
        assert "Nothing to do" in await shop.tenfold("plan")
