"""A queue in two regions: messages go on while a region comes, while the home moves and comes back, and without it."""

import json
from pathlib import Path

import pytest

from support import project
from tenfold.kit import clock

pytestmark = [pytest.mark.anyio, pytest.mark.torture, pytest.mark.timeout(900)]

ONE = """
replicas = 1
memory = "32MiB"

[queue]
servers = 1
storage = "64MiB"

[workers]
"""

TWO = """
[regions.seoul]
primary = true

[regions.virginia]

[wan]
"seoul-virginia" = { delay_ms = 10 }
"""


async def test_every_message_has_its_effect_wherever_the_home_is(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        file = shop.folder / "tenfold.toml"
        alone = file.read_text() + ONE
        file.write_text(alone)
        await shop.tenfold("up", "-d", seconds=300)
        async with shop.load(rate=15) as load:
            file.write_text(alone + TWO)
            await shop.tenfold("apply", "--yes", seconds=300)
            await until_copied(shop, "virginia-queue-1", "seoul")
            await shop.tenfold("region", "move", "virginia", "--yes", seconds=300)
            assert ("nats", ["virginia-queue-1"]) == told(shop)
            await shop.tenfold("region", "move", "seoul", "--yes", seconds=300)
            assert ("nats", ["queue-1"]) == told(shop)
        await shop.ensure_nothing_lost(load.report)
        await shop.ensure_messages_had_their_effect_once()

        await shop.tenfold("region", "kill", "seoul", seconds=300)
        assert ("nats", ["virginia-queue-1"]) == told(shop)
        await shop.ensure_messages_had_their_effect_once()

        await shop.tenfold("region", "start", "seoul", seconds=300)
        await until_copied(shop, "queue-1", "virginia")
        await shop.tenfold("region", "move", "seoul", "--yes", seconds=300)
        file.write_text(alone)
        async with shop.load(rate=15) as load:
            await shop.tenfold("apply", "--yes", seconds=300)
        await shop.ensure_nothing_lost(load.report)
        await shop.ensure_messages_had_their_effect_once()


def told(shop: project.Project) -> tuple[str, list[str]]:
    """What carries messages, as the app in the first region is told."""
    bound = json.loads((shop.folder / ".tenfold" / "bindings.json").read_text())["queue"]
    return bound["transport"], [one["name"] for one in bound["nodes"]]


async def until_copied(shop: project.Project, server: str, region: str) -> None:
    """This server keeps a copy of the region's messages: what a process at home looks after, every few seconds."""
    assert await clock.until(lambda: shop.copies_messages(server, region), seconds=120, pause_seconds=1)
