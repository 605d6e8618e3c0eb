"""Cache, queue and worker servers change, die and come back, under load. `make torture` runs it."""

from pathlib import Path

import pytest

from support import project
from tenfold.kit import clock

pytestmark = [pytest.mark.anyio, pytest.mark.torture, pytest.mark.timeout(900)]

SMALL = """
[cache]
servers = 1

[sessions]
store = "cache"

[queue]
servers = 1

[workers]
servers = 1
"""


async def test_cache_queue_and_workers_change_and_die_and_nothing_is_lost(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        text = (shop.folder / "tenfold.toml").read_text()
        (shop.folder / "tenfold.toml").write_text(text + SMALL)
        await shop.tenfold("up", "-d")
        async with shop.load(rate=30) as load:
            shop.edit(r"^\[cache\]\nservers = 1$", '[cache]\nservers = 3\nmemory = "32MiB"')
            shop.edit(r"^\[queue\]\nservers = 1$", "[queue]\nservers = 3")
            shop.edit(r"^\[workers\]\nservers = 1$", "[workers]\nservers = 2")
            await shop.tenfold("apply", "--yes", seconds=240)
            before = shop.alive()
            shop.edit(r'^memory = "32MiB"$', 'memory = "48MiB"\neviction = "lfu"')
            await shop.tenfold("apply", "--yes")
            assert {one["cache"]["most_bytes"] for one in (await shop.status())["servers"] if one["cache"]} == {
                48 * 2**20
            }
            assert before == shop.alive(), "memory and eviction change without a restart"
            for name in ("cache-1", "queue-2", "worker-1"):
                await shop.tenfold("server", "kill", name)
                assert "server_killed" in {one["code"] for one in (await shop.status())["conditions"]}
                await shop.tenfold("server", "start", name)
            assert await clock.until(lambda: _is_well(shop), seconds=60, pause_seconds=0.5)
            shop.edit(r"^\[queue\]\nservers = 3$", "[queue]\nservers = 1")
            await shop.tenfold("apply", "--yes", seconds=240)
        await shop.ensure_nothing_lost(load.report)
        told = (await shop.status())["told"]
        assert ([], "", ["queue-1"]) == (told["former_stores"], told["former_transport"], told["queues"])


async def _is_well(shop: project.Project) -> bool:
    return not (await shop.status())["conditions"]
