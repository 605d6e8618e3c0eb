"""etcd: three servers that ask for passwords, agree while one is dead, and delete only what is unchanged."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support import databases, seats
from tenfold import engines, errors
from tenfold.engines import coordination, etcd
from tenfold.engines.etcd import admin
from tenfold.kit import clock

pytestmark = pytest.mark.anyio

ENGINES = {"etcd": etcd.ENGINE}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[seats.Site]:
    async with seats.site(tmp_path, seats.topology(replicas=1), ENGINES) as made:
        yield made


async def put(seat: engines.Seat, key: str, value: str) -> coordination.Entry:
    async with coordination.opened(seat) as store:
        await store.log_in()
        await store.call("kv/put", {"key": coordination.encode(key), "value": coordination.encode(value)})
        entry = await store.entry(key)
    assert entry is not None
    return entry


async def value(seat: engines.Seat, key: str) -> str | None:
    async with coordination.opened(seat) as store:
        await store.log_in()
        entry = await store.entry(key)
    return entry.value if entry else None


async def test_it_asks_everyone_for_the_password_and_turning_that_on_again_changes_nothing(site: seats.Site) -> None:
    members = await databases.coordination(site)
    assert await admin.is_protected(members[0])
    await asyncio.gather(*(admin.enable_auth(seat) for seat in members))
    assert await admin.is_protected(members[1])
    wrong = dataclasses.replace(members[0], secrets=dataclasses.replace(members[0].secrets, etcd="wrong"))
    async with coordination.opened(wrong) as store:
        with pytest.raises(coordination.Refused):
            await store.log_in()
    async with coordination.opened(members[0]) as store:
        with pytest.raises(coordination.Refused):
            await store.call("kv/put", {"key": coordination.encode("/a"), "value": coordination.encode("b")})


async def test_a_store_that_asks_for_no_password_is_seen_as_such(site: seats.Site) -> None:
    site.engine_of = {"etcd": dataclasses.replace(etcd.ENGINE, on_ready=_nothing)}
    members = await databases.coordination(site)
    assert not await admin.is_protected(members[0])


async def _nothing(seat: engines.Seat) -> None:
    """Leave it open."""


async def test_with_one_server_dead_it_goes_on_and_the_dead_one_catches_up(site: seats.Site) -> None:
    first, *rest = await databases.coordination(site)
    await put(first, "/a", "1")
    await site.cut(first.server.name)

    async def is_written() -> bool:
        """While the others elect a leader, they refuse."""
        try:
            await put(rest[0], "/a", "2")
        except errors.EngineFailed:
            return False
        return True

    assert await clock.until(is_written, seconds=10, pause_seconds=0.1)
    await site.start(first)
    await site.cut(rest[0].server.name)
    assert await clock.until(lambda: _is(first, "/a", "2"), seconds=10)
    await site.cut(rest[1].server.name)
    assert not (await etcd.ENGINE.probe(first)).is_ready, "one of three is no majority"
    with pytest.raises(errors.EngineFailed):
        await value(first, "/a")


async def _is(seat: engines.Seat, key: str, wanted: str) -> bool:
    try:
        return await value(seat, key) == wanted
    except errors.EngineFailed:
        return False


async def test_a_key_is_deleted_only_while_it_is_what_was_seen(site: seats.Site) -> None:
    seat, *_ = await databases.coordination(site)
    seen = await put(seat, "/service/leader", "database-1")
    again = await put(seat, "/service/leader", "database-1")
    async with coordination.opened(seat) as store:
        await store.log_in()
        assert not await store.delete_unchanged(seen), "written anew since, though with the same value"
        assert not await store.delete_unchanged(dataclasses.replace(again, value="database-2"))
        assert "database-1" == await value(seat, "/service/leader")
        assert await store.delete_unchanged(again)
        assert await store.entry("/service/leader") is None
        assert not await store.delete_unchanged(again)


async def test_everything_below_a_prefix_goes_and_its_neighbours_stay(site: seats.Site) -> None:
    seat, *_ = await databases.coordination(site)
    for key in ("/service/shop-home/leader", "/service/shop-home/config", "/service/shop-homes/leader"):
        await put(seat, key, "x")
    async with coordination.opened(seat) as store:
        await store.log_in()
        await store.delete_below("/service/shop-home/")
    assert await value(seat, "/service/shop-home/config") is None
    assert "x" == await value(seat, "/service/shop-homes/leader")
