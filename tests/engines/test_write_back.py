"""Write-back with a real database and real cache servers: every put is flushed exactly once, whoever dies."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support import cache_process, postgres_cluster, valkey_servers, write_database
from tenfold import bindings, errors
from tenfold.kit import backoff, clock
from tenfold.sdk import counters, db, valkey
from tenfold.sdk.cache import flushing, journal, moving, write_back

pytestmark = pytest.mark.anyio

NETWORK = 4


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    with write_database.running(tmp_path_factory.mktemp("database"), network=NETWORK) as made:
        asyncio.run(made.primary.script(f"{cache_process.TABLE} alter table bought owner to {postgres_cluster.USER};"))
        yield made


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[valkey_servers.Servers]:
    with valkey_servers.running(tmp_path_factory.mktemp("cache"), network=NETWORK, subnet=31, primaries=3) as made:
        yield made


@pytest.fixture(autouse=True)
async def clean(database: postgres_cluster.Cluster) -> None:
    await database.primary.script("truncate bought, tenfold.journal, tenfold.inbox, tenfold.dead_letter")


class Here:
    """One process's write-backs, in this process."""

    def __init__(self, way: db.Database, client: valkey.Client) -> None:
        self.db = way
        self.client = client
        self.all = write_back.WriteBacks(way, client)


@asynccontextmanager
async def started(database: postgres_cluster.Cluster, cache: bindings.Cache | None = None) -> AsyncIterator[Here]:
    way, client = db.Database(), valkey.Client()
    await way.start(database.bound)
    await client.start(cache or bindings.Cache())
    here = Here(way, client)
    here.all.start()
    if cache is not None:
        await client.call("PING", timeout=20)
    try:
        yield here
    finally:
        await here.all.stop()
        await client.stop()
        await way.stop()


async def flushed(database: postgres_cluster.Cluster) -> Counter[int]:
    rows: Any = await database.primary.sql(
        "select coalesce(json_agg(number), '[]')::text from bought", database=postgres_cluster.DATABASE
    )
    return Counter(int(word) for word in rows.strip("[]").replace(",", " ").split())


async def until_flushed(database: postgres_cluster.Cluster, numbers: set[int], seconds: float = 60.0) -> None:
    async def look() -> bool:
        return set(await flushed(database)) >= numbers

    assert await clock.until(look, seconds=seconds), numbers - set(await flushed(database))


def counted(name: str) -> int:
    return counters.reading().get(f"cache.write_back_{name}", 0)


@pytest.mark.parametrize("durable", ["disk", "replica", "without servers"])
async def test_every_put_is_flushed_once_in_batches(
    database: postgres_cluster.Cluster, servers: valkey_servers.Servers, durable: Any
) -> None:
    sizes: list[int] = []

    async def flush(tx: Any, puts: Any) -> None:
        sizes.append(len(puts))
        await cache_process.flush(tx, puts)

    is_shared = durable != "without servers"
    async with started(database, servers.bound if is_shared else None) as here:
        level = durable if is_shared else "disk"
        bought = here.all.make("bought", flush=flush, most=50, seconds=0.2, durable=level)
        before = counted("in_database")

        await asyncio.gather(*(bought.put(str(number), 1) for number in range(300)))

        assert await bought.drain()
        assert {number: 1 for number in range(300)} == await flushed(database)
        assert max(sizes) <= 50
        assert (0 if is_shared else 300) == counted("in_database") - before


async def test_a_put_that_cannot_be_flushed_holds_up_no_other_and_is_laid_aside(
    database: postgres_cluster.Cluster, servers: valkey_servers.Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushing, "PAUSE", backoff.Backoff(0.01, 0.02))
    monkeypatch.setattr(flushing, "TRIES", 3)

    async def flush(tx: Any, puts: Any) -> None:
        if any(one.key == "13" for one in puts):
            raise ValueError("unlucky")
        await cache_process.flush(tx, puts)

    for cache in (servers.bound, None):
        async with started(database, cache) as here:
            bought = here.all.make("poisoned", flush=flush, most=40, seconds=0.1, durable="replica")
            await asyncio.gather(*(bought.put(str(number), 1) for number in range(40)))
            assert await bought.drain()
        assert {number: 1 for number in range(40) if number != 13} == await flushed(database)
        letter = await database.primary.sql(
            "select concat_ws(' ', group_name, subject, key, attempts, reason) from tenfold.dead_letter",
            database=postgres_cluster.DATABASE,
        )
        assert "write_back:poisoned write_back.poisoned 13 3 ValueError: unlucky" == letter
        await database.primary.script("truncate bought, tenfold.dead_letter")


async def test_while_nothing_can_be_flushed_everything_is_kept(
    database: postgres_cluster.Cluster, servers: valkey_servers.Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushing, "PAUSE", backoff.Backoff(0.01, 0.02))
    is_broken, tried = True, 0

    async def flush(tx: Any, puts: Any) -> None:
        nonlocal tried
        if is_broken:
            tried += 1
            raise RuntimeError("a flaw of the release")
        await cache_process.flush(tx, puts)

    async with started(database, servers.bound) as here:
        bought = here.all.make("broken", flush=flush, most=100, seconds=0.05, durable="replica")
        await asyncio.gather(*(bought.put(str(number), 1) for number in range(200)))
        assert not await bought.drain(seconds=0.5)
        assert 0 < tried < 200
        is_broken = False
        assert await bought.drain()
        assert {number: 1 for number in range(200)} == await flushed(database)


async def test_when_the_servers_refuse_or_are_gone_the_database_keeps_the_puts(
    database: postgres_cluster.Cluster, tmp_path: Path
) -> None:
    async with (
        valkey_servers.started(tmp_path, network=NETWORK, subnet=32) as servers,
        started(database, servers.bound) as here,
    ):
        bought = here.all.make("bought", flush=cache_process.flush, seconds=0.2, durable="disk")
        before = counted("in_database")
        await servers.servers[0].ask("CONFIG", "SET", "maxmemory", 1)
        await asyncio.gather(*(bought.put(str(number), 1) for number in range(100)))
        assert 100 == counted("in_database") - before

        await servers.servers[0].ask("CONFIG", "SET", "maxmemory", 64 * 1024**2)
        for lane in bought._lanes:
            lane._mistrusted_until = 0.0
        await asyncio.gather(*(bought.put(str(number), 1) for number in range(100, 200)))
        assert 100 == counted("in_database") - before

        copied = here.all.make("copied", flush=cache_process.flush, seconds=0.2)  # one server is no two copies
        await copied.put("300", 1)
        assert 101 == counted("in_database") - before

        await servers.kill()
        await asyncio.gather(*(bought.put(str(number), 1) for number in range(200, 300)))
        await servers.restart()
        assert await bought.drain()
        assert await copied.drain()
        assert {number: 1 for number in range(301)} == await flushed(database)


async def test_what_the_servers_hold_is_moved_into_the_database_before_they_stop(
    database: postgres_cluster.Cluster, servers: valkey_servers.Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def flush(tx: Any, puts: Any) -> None:
        raise errors.StoreUnavailable("not now")

    async with started(database, servers.bound) as here:
        bought = here.all.make("bought", flush=flush, seconds=0.2, durable="replica")
        await asyncio.gather(*(bought.put(str(number), 1) for number in range(700)))
        lend, moved = here.client.dedicated, 0

        @asynccontextmanager
        async def lend_late(key: str, *, timeout: float) -> AsyncIterator[Any]:
            """While a put is about to be sent, everything else has left the servers."""
            nonlocal moved
            async with lend(key, timeout=timeout) as own:
                here.client.update(bindings.Cache())
                moved = await moving.move(database.bound, servers.bound)
                yield own

        monkeypatch.setattr(here.client, "dedicated", lend_late)
        await bought.put("700", 1)
        assert 700 == moved

    async with started(database) as here:
        assert await here.all.make("bought", flush=cache_process.flush, seconds=0.2).drain()
        assert {number: 1 for number in range(701)} == await flushed(database)
    assert 1 == await moving.move(database.bound, servers.bound)  # the late one, which is in both places
    assert 0 == await moving.move(database.bound, servers.bound)


async def test_a_process_that_stops_leaves_the_flushing_to_another_at_once(
    database: postgres_cluster.Cluster, servers: valkey_servers.Servers
) -> None:
    async with started(database, servers.bound) as here:
        first = here.all.make("left", flush=cache_process.flush, seconds=0.05)
        await first.put("1", 1)
        await until_flushed(database, {1})
        async with started(database, servers.bound) as other:
            second = other.all.make("left", flush=cache_process.flush, seconds=0.05)
            await here.all.stop()
            began = asyncio.get_running_loop().time()
            await second.put("2", 1)
            await until_flushed(database, {2})
            assert asyncio.get_running_loop().time() - began < flushing.LEASE_SECONDS * 0.7


async def test_what_is_put_wrongly_is_said(database: postgres_cluster.Cluster) -> None:
    async with started(database) as here:
        bought = here.all.make("bought", flush=cache_process.flush, type=int)
        with pytest.raises(errors.TooLarge, match="a key of 0 bytes"):
            await bought.put("", 1)
        with pytest.raises(errors.TooLarge):
            await here.all.make("big", flush=cache_process.flush).put("a", b"x" * 2 * 1024**2)
        with pytest.raises(errors.NotEncodable):
            await here.all.make("strange", flush=cache_process.flush).put("a", object())
        async with here.db.transaction():
            with pytest.raises(errors.InsideTransaction, match="rollback would not undo it"):
                await bought.put("1", 1)
        with pytest.raises(errors.MisuseError, match="declared twice"):
            here.all.make("bought", flush=cache_process.flush)
        with pytest.raises(errors.MisuseError, match="lower-case"):
            here.all.make("Bought Things", flush=cache_process.flush)
    with pytest.raises(errors.NotStarted):
        await bought.put("1", 1)


async def test_every_put_is_flushed_once_though_processes_and_a_primary_are_killed(
    database: postgres_cluster.Cluster, servers: valkey_servers.Servers, tmp_path: Path, chance: random.Random
) -> None:
    """Whoever puts also flushes: so the flusher dies with the web process, and its lease moves. Some die right between
    the commit of a flush and taking it out of the servers."""
    bound = bindings.Bindings(service=bindings.Service(name="shop"), database=database.bound, cache=servers.bound)
    acknowledged: set[int] = set()
    lives: list[cache_process.Other] = []
    listening: list[asyncio.Task[None]] = []
    killed: set[str] = set()

    async def listen(other: cache_process.Other) -> None:
        while (said := await other.line()) not in ("", "done"):
            acknowledged.add(int(said))

    async with AsyncExitStack() as stack:

        async def begin_life() -> None:
            number = len(listening)
            folder = tmp_path / str(number)
            folder.mkdir()
            durable, death = chance.choice(["disk", "replica"]), "0.3" if number % 2 else "0"
            role = ("put", str(number * 10_000), "10000", durable, death)
            lives.append(await stack.enter_async_context(cache_process.started(folder, bound, *role)))
            listening.append(asyncio.create_task(listen(lives[-1])))

        await begin_life()
        while len(acknowledged) < 2000:
            await begin_life()
            wanted = len(acknowledged) + chance.randrange(100, 400)

            async def is_more(wanted: int = wanted) -> bool:
                return len(acknowledged) >= wanted or all(one.done() for one in listening)

            assert await clock.until(is_more, seconds=60, pause_seconds=0.005)
            lives.pop(chance.randrange(len(lives))).kill()
            if len(acknowledged) > 500 and not killed:
                victim = await servers.primary_of(journal.stream("bought", chance.randrange(journal.LANES)))
                killed.add(victim.name)
                await victim.kill()
        for one in lives:
            one.kill()
        await asyncio.wait_for(asyncio.gather(*listening), 60)
        await servers.restart(*(servers.server(name) for name in killed))
        await servers.until_whole()

    assert killed
    async with started(database, servers.bound) as here:
        assert await here.all.make("bought", flush=cache_process.flush).drain()
    found = await flushed(database)
    assert set() == acknowledged - set(found)
    assert {} == {number: times for number, times in found.items() if times != 1}
