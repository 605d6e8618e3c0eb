"""The entries that all processes share, on real servers: what is kept, what is refused, and who may load."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from support import valkey_servers
from tenfold import position
from tenfold.kit import clock
from tenfold.sdk import counters, valkey
from tenfold.sdk.cache import entries, leases, names, shared

pytestmark = pytest.mark.anyio

NETWORK = 4


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[valkey_servers.Servers]:
    with valkey_servers.running(tmp_path_factory.mktemp("cache"), network=NETWORK, subnet=11) as made:
        yield made


@asynccontextmanager
async def opened(servers: valkey_servers.Servers) -> AsyncIterator[tuple[shared.Shared, valkey.Client]]:
    client = valkey.Client()
    await client.start(servers.bound)
    cache = shared.Shared(client)
    cache.start()
    try:
        assert await clock.until(whole(client), seconds=20, pause_seconds=0.01)
        yield cache, client
    finally:
        cache.stop()
        await client.stop()


def whole(client: valkey.Client):
    async def look() -> bool:
        return client.is_whole

    return look


def entry(packed: bytes, lsn: int = 100, *, timeline: int = 1, seconds: float = 60.0) -> entries.Entry:
    now = time.time()
    at = position.Position(0, 1, timeline, lsn) if lsn else None
    return entries.Entry(packed, at, (1, 2), now, now + seconds, now + seconds)


def soon(seconds: float = 10.0) -> float:
    return asyncio.get_running_loop().time() + seconds


def anything(_: entries.Entry) -> bool:
    return True


def counted(name: str) -> int:
    return counters.reading().get(name, 0)


async def test_an_entry_is_kept_until_it_dies_and_no_longer(servers: valkey_servers.Servers) -> None:
    async with opened(servers) as (cache, client):
        made = entry(b"value")
        assert await cache.set("product:1", made, None)

        assert made == await cache.get("product:1", soon())
        assert 59_000 < await client.call("PTTL", names.of("product:1")[0]) <= 60_000
        assert not await cache.set("product:2", entry(b"late", seconds=-1), None)
        assert not await cache.set("product:2", entry(b"x" * (shared.MOST_BYTES + 1)), None)
        assert await cache.get("product:2", soon()) is None


async def test_an_older_value_never_takes_the_place_of_a_newer_one(servers: valkey_servers.Servers) -> None:
    async with opened(servers) as (cache, _):
        assert await cache.set("stamped", entry(b"new", 200), None)

        assert not await cache.set("stamped", entry(b"older", 199), None)
        assert not await cache.set("stamped", entry(b"of unknown age", 0), None)
        assert b"new" == (await cache.get("stamped", soon())).packed
        assert await cache.set("stamped", entry(b"as new", 200), None)
        assert await cache.set("stamped", entry(b"of the next timeline", 150, timeline=2), None)
        assert not await cache.set("stamped", entry(b"of the one before", 190), None)
        assert b"of the next timeline" == (await cache.get("stamped", soon())).packed


async def test_what_is_damaged_is_a_miss_and_is_counted_and_replaced(servers: valkey_servers.Servers) -> None:
    async with opened(servers) as (cache, client):
        before = counted("cache.shared_damaged")
        for damage in (b"garbage", b"f" * 200, names.stamp(None).encode() + entries.encode(entry(b"x"))[:-1] + b"?"):
            await client.call("SET", names.of("damaged")[0], damage, "PX", 60_000)

            lease = await cache.find("damaged", soon(), anything)

            assert isinstance(lease, leases.Lease)
            assert await cache.set("damaged", entry(b"whole"), lease)
            assert b"whole" == (await cache.get("damaged", soon())).packed
        assert before + 3 == counted("cache.shared_damaged")


async def test_keys_of_every_shape_have_one_slot_with_their_lease(servers: valkey_servers.Servers) -> None:
    async with opened(servers) as (cache, _):
        for key in ("a", "{a}b", "a}b", "}", "{}", "", "über{x", "a b\n", "x" * 4000):
            lease = await cache.find(key, soon(), anything)
            assert isinstance(lease, leases.Lease), key
            assert await cache.set(key, entry(key.encode()), lease)

            assert key.encode() == (await cache.find(key, soon(), anything)).packed


async def test_one_of_many_gets_the_lease_and_the_others_what_it_loaded(servers: valkey_servers.Servers) -> None:
    async with opened(servers) as (one, _), opened(servers) as (other, _):
        lease = await one.find("cold", soon(), anything)
        waiting = [asyncio.create_task(cache.find("cold", soon(), anything)) for cache in (one, other) * 5]
        await asyncio.sleep(leases.LIFE_SECONDS * 1.3)  # longer than a lease that nobody keeps alive

        assert not any(task.done() for task in waiting)
        made, began = entry(b"loaded"), time.monotonic()
        assert await one.set("cold", made, lease)
        assert [made] * 10 == await asyncio.gather(*waiting)
        assert time.monotonic() - began < leases.LIFE_SECONDS / 2


async def test_a_lease_that_is_given_back_is_the_next_ones_at_once(servers: valkey_servers.Servers) -> None:
    async with opened(servers) as (one, _), opened(servers) as (other, _):
        lease = await one.find("failed", soon(), anything)
        waiting = asyncio.create_task(other.find("failed", soon(), anything))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await one.give_back(lease)

        assert isinstance(await waiting, leases.Lease)
        assert time.monotonic() - began < leases.LIFE_SECONDS / 2


async def test_a_delete_voids_the_lease_so_that_what_is_being_loaded_is_not_kept(
    servers: valkey_servers.Servers,
) -> None:
    async with opened(servers) as (one, _), opened(servers) as (other, _):
        lease = await one.find("voided", soon(), anything)
        waiting = asyncio.create_task(other.find("voided", soon(), anything))
        await asyncio.sleep(0.1)
        await other.delete(["voided"])
        second = await waiting

        assert isinstance(second, leases.Lease)
        assert not await one.set("voided", entry(b"read before"), lease)
        assert await other.set("voided", entry(b"read after"), second)
        assert b"read after" == (await one.get("voided", soon())).packed


async def test_a_lease_whose_loader_is_gone_ends_by_itself(servers: valkey_servers.Servers) -> None:
    async with opened(servers) as (one, _), opened(servers) as (other, _):
        lease = await one.find("forgotten", soon(), anything)
        assert isinstance(lease, leases.Lease)
        del lease

        assert isinstance(await other.find("forgotten", soon(), anything), leases.Lease)


async def test_an_entry_that_is_not_usable_gives_the_lease_or_the_one_that_came_instead(
    servers: valkey_servers.Servers,
) -> None:
    async with opened(servers) as (one, _), opened(servers) as (other, _):
        old, new = entry(b"old", 100), entry(b"new", 200)
        assert await one.set("usable", old, None)

        lease = await one.find("usable", soon(), lambda found: found.stamp.lsn > 100)
        waiting = asyncio.create_task(other.find("usable", soon(), lambda found: found.stamp.lsn > 100))
        await asyncio.sleep(0.05)
        assert old == await other.find("usable", soon(), anything)
        assert await other.lease("usable") is None
        assert await one.set("usable", new, lease)

        assert new == await waiting


async def test_without_an_answer_it_is_a_miss_and_costs_nothing_from_then_on(tmp_path) -> None:
    async with (
        valkey_servers.started(tmp_path, network=NETWORK, subnet=12) as servers,
        opened(servers) as (cache, client),
    ):
        await cache.set("gone", entry(b"value"), None)
        await servers.kill()

        assert await cache.find("gone", soon(), anything) is None
        before, away = time.perf_counter(), counted("cache.shared_away")
        for _ in range(1000):
            assert await cache.find("gone", soon(), anything) is None
        assert time.perf_counter() - before < 1.0
        assert away + 1000 == counted("cache.shared_away")
        assert await cache.lease("gone") is None
        assert not await cache.set("gone", entry(b"value"), None)
        await cache.delete(["gone"])

        await servers.restart()
        assert await clock.until(whole(client), seconds=20, pause_seconds=0.01)
        assert await cache.set("gone", entry(b"again"), None)
