"""Two regions' databases: one follows the other, through links that can be cut; the home moves, and is lost.

The tests share two small regions, and leave the home where they found it.
"""

import time
from collections.abc import AsyncIterator

import pytest

from support import token_writer, two_regions
from support.two_regions import FAR, HOME
from tenfold.engines import database
from tenfold.engines.postgres import epochs
from tenfold.runtime import crossing

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """As everywhere, for fixtures that outlive a test."""
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture(scope="module")
async def regions(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[two_regions.Regions]:
    """Both regions run, the far one follows the home."""
    async with two_regions.regions(tmp_path_factory.mktemp("regions")) as made:
        home = await made.start(HOME)
        await made.migrate(home[0])
        started = time.monotonic()
        await made.start(FAR)
        print(f"\nfrom nothing to a standby leader and its replica: {time.monotonic() - started:.1f} s")
        yield made


def _inodes(regions: two_regions.Regions, region: str) -> list[int]:
    """What a copy that is made anew has other ones of."""
    folders = [database.data_directory(seat) for seat in regions.databases(region)]
    return [(folder / "PG_VERSION").stat().st_ino for folder in folders]


async def test_a_planned_move_loses_nothing_and_rebuilds_nothing(regions: two_regions.Regions) -> None:
    before = _inodes(regions, HOME) + _inodes(regions, FAR)
    async with token_writer.writing(regions.bound(HOME)) as writer:
        moved = await crossing.move(regions.side(HOME), regions.side(FAR), regions.run)
        await crossing.settle(regions.side(HOME))
        print(f"\nmoved: {moved}; the longest write {writer.longest_seconds:.2f} s")
        writer.longest_seconds = 0.0
        back = await crossing.move(regions.side(FAR), regions.side(HOME), regions.run)
        await crossing.settle(regions.side(FAR))
        print(f"\nmoved back: {back}; the longest write {writer.longest_seconds:.2f} s")
    async with token_writer.connected(regions.bound(HOME)) as db:
        writer.db = db
        assert set() == await writer.lost()
    assert before == _inodes(regions, HOME) + _inodes(regions, FAR)
    assert [3] * 4 == [await epochs.number(seat) for seat in regions.databases(HOME) + regions.databases(FAR)]
