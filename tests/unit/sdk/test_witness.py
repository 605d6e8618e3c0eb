"""Commits that wait for another region: released together, told apart, bounded, and refused when that is hopeless."""

import asyncio
from typing import Any

import pytest

from tenfold import bindings, errors, position
from tenfold.sdk.db import connect, nodes, pool, witness
from tenfold.sdk.db.witness import Held

pytestmark = pytest.mark.anyio

BRANCH = (1, 1)
SOON = 0.01


def at(lsn: int, timeline: int = 1) -> position.Position:
    return position.Position(0, 1, timeline, lsn)


def later(seconds: float = 30.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def nobody(timeout: float) -> Any:
    raise AssertionError("nothing is connected here")


def made() -> witness.Witness:
    """A witness for a primary in seoul, followed by virginia."""
    shard = nodes.Shard(0, epoch=1, poke=lambda: None)
    for name, region in (("database-1", "seoul"), ("virginia-database-1", "virginia")):
        where = bindings.DatabaseNode(name=name, host="127.0.0.1", region=region)
        shard.nodes[name] = nodes.Node(where, 0, pool.Pool(nobody, 4))
    shard.saw(shard.nodes["database-1"], nodes.Sighting(later(0), True, True, timeline=1, lsn=100))
    return witness.Witness(shard, connect.Connector(), ("seoul", "virginia"))


async def begun(*waits: Any) -> list[asyncio.Task[Held]]:
    tasks = [asyncio.ensure_future(one) for one in waits]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_a_commit_counts_when_another_region_has_flushed_it_and_not_before() -> None:
    one = made()
    first, second = await begun(one.until_held(at(100), later()), one.until_held(at(200), later()))

    one.saw(BRANCH, flushed=200, held=99)
    await asyncio.sleep(0)
    assert [False, False] == [first.done(), second.done()]
    one.saw(BRANCH, flushed=200, held=150)

    assert Held.YES == await first
    assert not second.done()
    one.saw(BRANCH, flushed=200, held=200)
    assert Held.YES == await second
    assert Held.YES == await one.until_held(at(200), later(0)), "what is known needs no question"


async def test_a_wait_ends_at_its_deadline() -> None:
    one = made()
    one.saw(BRANCH, flushed=100, held=50)

    assert Held.NOT_IN_TIME == await one.until_held(at(100), later(SOON))


async def test_what_another_primary_has_must_be_settled_there() -> None:
    one = made()
    one.saw(BRANCH, flushed=100, held=50)
    (waiting,) = await begun(one.until_held(at(100), later()))

    one.saw((1, 2), flushed=500, held=500)

    assert Held.MOVED == await waiting
    (waiting,) = await begun(one.until_held(at(100, timeline=3), later()))
    one.saw((1, 2), flushed=600, held=600)
    await asyncio.sleep(0)
    assert not waiting.done(), "of a newer timeline than the one that was looked at"
    one.saw((1, 3), flushed=100, held=100)
    assert Held.YES == await waiting


@pytest.mark.parametrize(("is_dismissed", "expected"), [(True, Held.MOVED), (False, Held.NOT_IN_TIME)])
async def test_whoever_waits_when_it_ends_is_told_nothing_that_is_not_proven(
    is_dismissed: bool, expected: Held
) -> None:
    one = made()
    running = asyncio.ensure_future(one.run())
    (waiting,) = await begun(one.until_held(at(100), later()))

    one.is_dismissed = is_dismissed
    running.cancel()

    assert expected == await waiting


class Primary:
    """In the place of a connection: answers that everybody has everything, and counts the questions."""

    def __init__(self) -> None:
        self.questions = 0
        self.names: list[str] = []
        self.at_once = 0

    async def fetchrow(self, _: str, names: list[str], timeout: float) -> dict[str, int]:
        self.questions += 1
        self.at_once += 1
        assert 1 == self.at_once
        await asyncio.sleep(0)
        self.at_once -= 1
        self.names = names
        return {"flushed": 1000, "held": 1000}

    def is_closed(self) -> bool:
        return False

    def terminate(self) -> None:
        pass


async def test_all_commits_that_wait_share_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    one, primary = made(), Primary()

    async def connected(_: nodes.Node) -> Primary:
        return primary

    monkeypatch.setattr(one, "_connected", connected)
    waits = await begun(*(one.until_held(at(lsn), later()) for lsn in range(901, 1001)))
    running = asyncio.ensure_future(one.run())

    assert {Held.YES} == set(await asyncio.gather(*waits))
    running.cancel()
    assert 1 == primary.questions
    assert ["virginia-database-1"] == primary.names, "the primary's own region does not count"


def test_a_region_is_hopeless_when_it_does_not_move_although_there_is_more() -> None:
    progress = witness.Progress(good_at=0.0)
    progress.saw(1.0, flushed=100, held=100)
    progress.saw(100.0, flushed=100, held=100)
    assert progress.can_follow, "nothing was written meanwhile"

    progress.saw(101.0, flushed=200, held=100)
    progress.saw(104.9, flushed=300, held=100)
    assert progress.can_follow
    progress.saw(105.1, flushed=300, held=100)
    assert progress.is_hopeless
    progress.saw(106.0, flushed=400, held=120)
    assert progress.can_follow, "it is behind, and comes nearer"

    progress.saw(107.0, flushed=400, held=None)
    assert not progress.can_follow, "it may be back in a moment"
    assert not progress.is_hopeless
    progress.saw(111.1, flushed=400, held=None)
    assert progress.is_hopeless


async def test_writes_are_refused_while_no_other_region_follows_and_wait_for_one_that_may_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = made()
    one.saw(BRANCH, flushed=100, held=None)
    one.ensure_hope()
    (waiting,) = await begun(one.ensure_followed(later()))
    one.saw(BRANCH, flushed=100, held=100)
    await waiting

    monkeypatch.setattr(witness, "PATIENCE_SECONDS", -1.0)
    one.saw(BRANCH, flushed=200, held=None)
    for refused in (one.ensure_followed(later()), one.ensure_followed(later(0))):
        with pytest.raises(errors.NoOtherRegion, match=r'virginia does not follow seoul.*synchronous = "regions"'):
            await refused
    with pytest.raises(errors.NoOtherRegion):
        one.ensure_hope()
