"""A region's databases that follow another region's, through links that can be cut."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support import databases, two_regions
from support.two_regions import FAR, HOME
from tenfold.engines.patroni import admin
from tenfold.engines.postgres import admin as postgres
from tenfold.kit import clock

pytestmark = pytest.mark.anyio


@pytest.fixture
async def regions(tmp_path: Path) -> AsyncIterator[two_regions.Regions]:
    async with two_regions.regions(tmp_path) as made:
        yield made


async def test_a_region_from_nothing_follows_the_home_region(regions: two_regions.Regions) -> None:
    home = await regions.start(HOME)
    await postgres.create_roles_and_database(home[0])
    started = time.monotonic()
    far = await regions.start(FAR)
    print(f"\nfrom nothing to a standby leader and its replica: {time.monotonic() - started:.1f} s")
    async with databases.app_connection(home[0]) as connection:
        await connection.execute("create table kept (id int)")
    async with databases.app_connection(far[1]) as connection:

        async def has_it():
            return await connection.fetchval("select to_regclass('kept') is not null")

        assert await clock.until(has_it, seconds=10)
    print(await admin.members(far[0]), await admin.members(home[0]))
