"""tf.cache with a real cache server behind it: what one process loaded the others have, and losing it fails nothing."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import pytest

from support import caches, postgres_cluster, routed_reads, valkey_servers
from tenfold import request
from tenfold.kit import clock
from tenfold.sdk.cache import names

pytestmark = pytest.mark.anyio

NETWORK = 5


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """As everywhere, but for the whole module: it shares the servers."""
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[postgres_cluster.Cluster]:
    async with postgres_cluster.cluster(tmp_path_factory.mktemp("cache"), NETWORK, replicas=1) as made:
        await made.primary.script(routed_reads.schema.statements(postgres_cluster.USER))
        await made.primary.script(caches.TABLE)
        await made.until_caught_up()
        yield made


@pytest.fixture(scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[valkey_servers.Servers]:
    async with valkey_servers.started(tmp_path_factory.mktemp("servers"), network=NETWORK, primaries=1) as made:
        yield made


@pytest.fixture
async def two(
    cluster: postgres_cluster.Cluster, servers: valkey_servers.Servers
) -> AsyncIterator[tuple[caches.Process, caches.Process]]:
    async with caches.process(cluster, servers.bound) as here, caches.process(cluster, servers.bound) as there:
        yield here, there


Two = tuple[caches.Process, caches.Process]


async def test_two_processes_load_once_and_neither_serves_what_was_made_stale(two: Two) -> None:
    here, there = two
    is_over = asyncio.Event()

    def load(one: caches.Process) -> object:
        async def slow() -> str | None:
            await is_over.wait()
            return await one.load(1)

        return slow

    asked = [
        asyncio.create_task(one.cache.get_or_load("product:1", load(one), tags=["product:1"]))  # type: ignore[arg-type]
        for _ in range(50)
        for one in two
    ]
    await asyncio.sleep(0.05)
    is_over.set()
    assert {"product 1"} == set(await asyncio.gather(*asked))
    assert 1 == here.loads + there.loads

    mine = caches.visitor()
    with request.serving(mine):
        await here.rename(1, "new", "product:1")
    for one in two:
        with request.serving(request.Request(seen=mine.seen, is_known=True)):
            assert "new" == await one.cache.get_or_load("product:1", lambda one=one: one.load(1), tags=["product:1"])


async def test_what_is_damaged_or_of_another_form_is_loaded_again(two: Two, servers: valkey_servers.Servers) -> None:
    here, there = two

    @dataclasses.dataclass(frozen=True)
    class Old:
        id: int

    @dataclasses.dataclass(frozen=True)
    class New:
        id: int
        name: str

    async def old() -> Old:
        return Old(1)

    async def new() -> New:
        return New(1, "one")

    await here.cache.get_or_load("form", old, type=Old, tags=["form"])

    async def is_shared() -> bool:
        return await there.cache._shared.get("form", asyncio.get_running_loop().time() + 5) is not None

    assert await clock.until(is_shared, seconds=10, pause_seconds=0.01)
    assert New(1, "one") == await there.cache.get_or_load("form", new, type=New, tags=["form"])
    assert [1] == there.counts("unreadable")

    await servers_set(there, names.of("form")[0], b"nonsense")
    there.cache.clear()
    assert New(1, "one") == await there.cache.get_or_load("form", new, type=New, tags=["form"])


async def servers_set(one: caches.Process, name: str, value: bytes) -> None:
    await one.cache._shared._servers.call("SET", name, value)


async def test_a_server_that_dies_and_comes_back_fails_nothing(two: Two, servers: valkey_servers.Servers) -> None:
    here, _ = two

    async def all_well(first: int) -> None:
        for pid in range(first, first + 20):
            with request.serving(request.Request(deadline=asyncio.get_running_loop().time() + 20)):
                product = f"product:{pid}"
                assert f"product {pid}" == await here.cache.get_or_load(product, lambda pid=pid: here.load(pid))  # type: ignore[misc]
                await here.cache.set(f"own:{pid}", pid)

    await all_well(100)
    await servers.servers[0].kill()
    await all_well(120)
    await here.rename(100, "new", "product:100")
    await servers.servers[0].start()
    await all_well(140)

    async def is_trusted() -> bool:
        return here.cache._floors.is_trusted

    assert await clock.until(is_trusted, seconds=20, pause_seconds=0.02)
