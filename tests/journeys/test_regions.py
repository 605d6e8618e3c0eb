"""One region becomes two and one again, live: what runs stays as it is, and both front doors serve."""

from pathlib import Path

import pytest

from support import project
from tenfold import traffic
from tenfold.traffic import journeys

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

TWO = """
[regions.seoul]
primary = true

[regions.virginia]
listen = "FAR"

[wan]
"seoul-virginia" = { delay_ms = 20 }
"""


async def test_a_second_region_comes_serves_and_goes_and_the_first_notices_nothing(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        door = f"127.0.0.1:{project.free_port()}"
        file = shop.folder / "tenfold.toml"
        alone = file.read_text()
        await shop.tenfold("up", "-d")
        before = shop.alive()
        async with shop.load(rate=40) as near:
            file.write_text(alone + TWO.replace("FAR", door))
            await shop.tenfold("apply", "--yes")
            assert before.items() <= shop.alive().items(), "what runs stays as it is"
            far = await load_at(shop, door)
            await survives_a_cut(shop)
            file.write_text(alone)
            await shop.tenfold("apply", "--yes")
        assert before == shop.alive()
        await shop.ensure_nothing_lost(near.report)
        assert not far.failures, far.failures
        assert far.writes_acknowledged > 0
        await shop.tenfold("load", "--verify", str(shop.folder / "far.ledger"))


async def load_at(shop: project.Project, door: str) -> traffic.Report:
    """The shop's journeys at the far front door, for a while; the ledger is `far.ledger`."""
    plan = journeys.load("load.py", shop.folder)
    ledger = shop.folder / "far.ledger"
    async with traffic.Load(f"http://{door}", plan, rate=60, seconds=6, ledger_path=ledger, service="shop") as load:
        await load.wait()
    return load.report


async def survives_a_cut(shop: project.Project) -> None:
    """What is cut says so, and is whole again after it was healed."""
    await shop.tenfold("wan", "cut", "seoul", "virginia")
    assert [True] == [link["is_cut"] for link in (await shop.status())["wan"]]
    await shop.tenfold("wan", "heal")
    assert [False] == [link["is_cut"] for link in (await shop.status())["wan"]]
