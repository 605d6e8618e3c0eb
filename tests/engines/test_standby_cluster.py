"""Two regions' databases: one follows the other, through links that can be cut; the home moves, and is lost.

The tests share two small regions, and leave the home where they found it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import pytest

from support import token_writer, two_regions
from support.two_regions import FAR, HOME
from tenfold import engines, errors
from tenfold.engines import database
from tenfold.engines.patroni import admin
from tenfold.engines.patroni import regions as in_patroni
from tenfold.engines.postgres import admin as in_postgres
from tenfold.engines.postgres import epochs
from tenfold.kit import clock
from tenfold.runtime import crossing
from tenfold.sdk.db import database as database_of_sdk

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


async def test_a_move_that_loses_its_link_is_undone(
    regions: two_regions.Regions, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow = in_patroni.follow

    async def cut_before(seat: engines.Seat, home: str) -> None:
        regions.cut()
        await follow(seat, home)

    monkeypatch.setattr(in_patroni, "follow", cut_before)
    monkeypatch.setattr(crossing, "COMPLETE_SECONDS", 5.0)
    async with token_writer.writing(regions.bound(HOME)) as writer:
        with pytest.raises(errors.EngineFailed, match="has its primary again"):
            await crossing.move(regions.side(HOME), regions.side(FAR), regions.run)
    print(f"\na move undone: the longest write {writer.longest_seconds:.2f} s")
    regions.heal()
    async with token_writer.connected(regions.bound(HOME)) as db:
        writer.db = db
        assert set() == await writer.lost()
    await crossing.settle(regions.side(FAR))
    assert HOME == await epochs.home(regions.databases(HOME)[0])


class KilledError(BaseException):
    """In the place of SIGKILL: nothing of ours runs after it."""


STAGES = {
    "hold": (in_postgres, "fence"),
    "demote": (in_patroni, "follow"),
    "promote": (in_patroni, "lead"),
    "begin": (epochs, "begin"),
}


@pytest.mark.parametrize(
    "stage", ["demote", "promote", *(pytest.param(one, marks=pytest.mark.torture) for one in ("hold", "begin"))]
)
async def test_a_move_that_was_killed_is_ended_by_the_next_one(
    regions: two_regions.Regions, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name = STAGES[stage]
    act = getattr(module, name)

    async def act_and_die(*args: object, **named: object) -> None:
        await act(*args, **named)
        raise KilledError

    async def without_undo(_: object, work: Awaitable[object]) -> object:
        return await work

    async with token_writer.writing(regions.bound(HOME)) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, act_and_die)
            patch.setattr(crossing, "_or_take_back", without_undo)
            with pytest.raises(KilledError):
                await crossing.move(regions.side(HOME), regions.side(FAR), regions.run)
        await crossing.move(regions.side(HOME), regions.side(FAR), regions.run)
        await crossing.settle(regions.side(HOME))
        await crossing.move(regions.side(FAR), regions.side(HOME), regions.run)
        await crossing.settle(regions.side(FAR))
    async with token_writer.connected(regions.bound(HOME)) as db:
        writer.db = db
        assert set() == await writer.lost()


async def test_while_the_link_is_cut_the_home_goes_on_and_the_other_region_reads(regions: two_regions.Regions) -> None:
    async with token_writer.writing(regions.bound(HOME)) as writer, _far(regions) as far:
        assert await clock.until(lambda: far.fetchval("select max(number) from ledger"), seconds=10)
        regions.cut()
        written = len(writer.acknowledged)

        async def goes_on() -> bool:
            assert all("standby" in one.role or one.role == "replica" for one in await admin.members(far_leader))
            return len(writer.acknowledged) > written + 20 and time.monotonic() > began + 3

        far_leader, began = regions.databases(FAR)[0], time.monotonic()
        assert await clock.until(goes_on, seconds=30)
        assert 0 < await far.fetchval("select max(number) from ledger")
        with pytest.raises(errors.NoPrimary):
            await far.options(timeout=1).execute("insert into ledger values (-1)")
        regions.heal()
        newest = max(writer.acknowledged.values())

        async def has_caught_up() -> bool:
            return (await far.fetchval("select max(number) from ledger")) >= newest

        assert await clock.until(has_caught_up, seconds=30)
    assert writer.longest_seconds < 3
    await _follows(regions)


async def test_a_lost_home_is_replaced_returns_as_a_follower_and_says_what_was_lost(
    regions: two_regions.Regions,
) -> None:
    await _follows(regions)
    async with token_writer.writing(regions.bound(HOME)) as writer:
        regions.cut()
        written = len(writer.acknowledged)
        assert await clock.until(lambda: _has(writer, written + 10), seconds=30)
        await regions.kill(HOME)
        regions.heal()
        began = time.monotonic()
        epoch = await crossing.promote(regions.side(FAR))
        print(f"\npromoted after the loss: {time.monotonic() - began:.2f} s, epoch {epoch}")
    async with token_writer.connected(regions.bound(FAR)) as db:
        writer.db = db
        lost = await writer.lost()
    assert len(lost) >= 10

    before = _inodes(regions, HOME)
    home = regions.databases(HOME)
    await regions.site.start(regions.coordination(HOME))
    await in_patroni.remember_to_follow(home[0], FAR)
    for seat in home:
        await regions.site.power(seat)
    listed = await crossing.ask_for_lost(regions.side(HOME), regions.side(FAR), regions.run)
    assert lost == {one.token for one in listed}
    began = time.monotonic()
    await asyncio.gather(*(regions.site.launch(seat) for seat in home))
    await crossing.settle(regions.side(HOME))
    print(f"\nfrom its return to following: {time.monotonic() - began:.2f} s")
    assert before == _inodes(regions, HOME), "it was copied, not rewound"
    assert listed == await crossing.ask_for_lost(regions.side(HOME), regions.side(FAR), regions.run)
    assert {epoch} == {await epochs.number(seat) for seat in home}
    await crossing.move(regions.side(FAR), regions.side(HOME), regions.run)
    await crossing.settle(regions.side(FAR))


async def _follows(regions: two_regions.Regions) -> None:
    """The far region streams and has all that the home has written by now."""
    (primary,) = [seat for seat in regions.databases(HOME) if await admin.is_leader(seat)]
    await crossing.ensure_near(primary, regions.side(FAR))
    await crossing.settle(regions.side(FAR))


async def _has(writer: token_writer.Writer, count: int) -> bool:
    return len(writer.acknowledged) >= count


@asynccontextmanager
async def _far(regions: two_regions.Regions) -> AsyncIterator[database_of_sdk.Database]:
    """`tf.db` of an app in the far region."""
    async with token_writer.connected(regions.bound(FAR), FAR) as db:
        yield db
