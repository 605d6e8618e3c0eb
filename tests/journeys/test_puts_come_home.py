"""The cache goes away while puts wait on its servers: the database has them before the servers stop."""

import uuid
from pathlib import Path

import pytest

from support import project
from tenfold import bindings
from tenfold.sdk import valkey
from tenfold.sdk.cache import journal

pytestmark = pytest.mark.anyio


async def test_puts_that_nobody_has_flushed_are_moved_when_the_cache_servers_go(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        without = (shop.folder / "tenfold.toml").read_text()
        (shop.folder / "tenfold.toml").write_text(f"{without}\n[cache]\nservers = 3\n")
        await shop.tenfold("up", "-d", seconds=240)
        client = valkey.Client()
        await client.start(bindings.load(shop.folder / ".tenfold" / "bindings.json").cache)
        try:
            for number in range(40):  # of a write-back that no process of this release knows
                one = journal.Written(uuid.uuid4(), f"key:{number}", b"value")
                await client.call(*journal.add("of another release", one), timeout=20)
        finally:
            await client.stop()

        (shop.folder / "tenfold.toml").write_text(without)
        said = await shop.tenfold("apply", "--yes", seconds=240)
        kept = await shop.tenfold("psql", "-c", "select count(*) as kept from tenfold.journal group by name")

        assert "40 puts were moved from the cache servers to the database" in said
        assert "40" in kept
