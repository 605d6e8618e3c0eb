"""The home of the data moves between two regions, is lost, and returns, through the commands that a user types."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from support import project
from tenfold import bindings
from tenfold.kit import clock

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

REGIONS = """
replicas = 1
memory = "32MiB"

[queue]
servers = 1
storage = "64MiB"

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
    assert ["queue-1"] == queues(shop)

    began = time.monotonic()
    assert "virginia is the home of the data" in await shop.tenfold("region", "kill", "seoul", seconds=200)
    print(f"\nkilled and replaced in {time.monotonic() - began:.1f} s")
    assert (await shop.primary()).startswith("virginia-")
    assert ["virginia-queue-1"] == queues(shop)
    await shop.ensure_messages_had_their_effect_once()

    await shop.tenfold("region", "start", "seoul", seconds=300)
    assert await clock.until(lambda: follows(shop, "seoul"), seconds=60, pause_seconds=0.5), await regions(shop)
    assert ["virginia"] == [one["name"] for one in await regions(shop) if one["is_home"]]
    assert (shop.folder / ".tenfold" / "lost-seoul.jsonl").exists()
    assert await clock.until(lambda: shop.copies_messages("queue-1", "virginia"), seconds=60, pause_seconds=1)


@pytest.mark.timeout(500)
async def test_a_region_is_resized_with_the_home_and_leaves_nothing_behind(shop: project.Project) -> None:
    finished = await shop.try_tenfold("region", "move", "virgina", "--yes")
    assert 2 == finished.code
    assert "did you mean virginia" in finished.output

    done = await shop.tenfold("resize", "database.memory=48MiB", "database.max_connections=240", "--yes", seconds=250)
    nodes = [server["database"] for server in (await shop.status())["servers"] if server["database"]]
    assert [(48 * 2**20, 240)] * 4 == [(node["memory_bytes"], node["max_connections"]) for node in nodes]
    assert done.index("replica on virginia-database-2") < done.index("replica on database-2"), (
        "followers have more first"
    )

    assert ["region_virginia"] == [slot for slot in await slots(shop) if slot.startswith("region")]
    file = shop.folder / "tenfold.toml"
    file.write_text(file.read_text().replace("[regions.virginia]", ""))
    await shop.tenfold("apply", "--yes", seconds=200)

    async def keeps_nothing() -> bool:
        return not [slot for slot in await slots(shop) if slot.startswith("region")]

    assert await clock.until(keeps_nothing, seconds=20, pause_seconds=0.2), await slots(shop)


async def slots(shop: project.Project) -> list[str]:
    """Whom the primary keeps its log for."""
    primary = await shop.primary()
    (address,) = [one["address"] for one in (await shop.status())["servers"] if one["name"] == primary]
    secrets = json.loads((shop.folder / ".tenfold" / "secrets.json").read_text())
    password = secrets["superuser"]
    connection = await asyncpg.connect(host=address, user="postgres", password=password, database="postgres", ssl=False)
    try:
        return [row["slot_name"] for row in await connection.fetch("select slot_name from pg_replication_slots")]
    finally:
        connection.terminate()


async def regions(shop: project.Project) -> list[dict[str, Any]]:
    """What `tenfold region status` says."""
    found = json.loads(await shop.tenfold("region", "status", "--json"))
    return list(found["regions"])


async def follows(shop: project.Project, region: str) -> bool:
    """Whether every copy there is a standby that streams."""
    (found,) = [one for one in await regions(shop) if one["name"] == region]
    return all(one["role"] == "standby" and one["is_streaming"] for one in found["databases"])


def queues(shop: project.Project) -> list[str]:
    """The queue servers that the app is told to publish to."""
    bound = bindings.load(shop.folder / ".tenfold" / "bindings.json").queue
    return [one.name for one in bound.nodes] if (bound.transport, bound.former) == ("nats", "") else []
