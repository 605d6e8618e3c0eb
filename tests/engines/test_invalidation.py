"""`tx.invalidate` over real databases: recorded with the transaction, told to every process, delivered after a crash."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from support import postgres_cluster, processes_with_floors, routed_reads
from support.processes_with_floors import Process
from tenfold import errors, position, request
from tenfold.kit import clock
from tenfold.sdk.cache import delivery, entries, table
from tenfold.sdk.cache.parts import Verdict

pytestmark = pytest.mark.anyio

NETWORK = 65


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """As everywhere, but for the whole module: it shares one cluster."""
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[postgres_cluster.Cluster]:
    async with postgres_cluster.cluster(tmp_path_factory.mktemp("invalidation"), NETWORK, replicas=1) as made:
        await made.primary.script(routed_reads.schema.statements(postgres_cluster.USER))
        await made.primary.script(routed_reads.TABLES)
        await made.until_caught_up()
        yield made


@pytest.fixture
async def processes(cluster: postgres_cluster.Cluster) -> AsyncIterator[list[Process]]:
    async with processes_with_floors.running(cluster, 2) as made:
        yield made


def entry(stamp: position.Position | None, *slots: int) -> entries.Entry:
    return entries.Entry(b"", stamp, slots, 0.0, 1e12, 1e12)


async def loaded(process: Process, key: str, *tags: str) -> entries.Entry:
    """An entry as a load of this moment makes it, by somebody who has written nothing."""
    until = asyncio.get_running_loop().time() + 5
    stamp = await process.floors.stamp(request.Request(), until)
    return entry(stamp, *process.floors.slots_of(key, tags))


async def test_what_is_invalidated_is_stale_at_once_here_and_soon_elsewhere(processes: list[Process]) -> None:
    here, there = processes
    old, other = await loaded(here, "a", "product:1"), await loaded(here, "b", "product:2")
    assert Verdict.FRESH == here.floors.judge(old, None) == there.floors.judge(old, None)

    async with here.db.transaction() as tx:
        await tx.invalidate(tags=["product:1"])
        assert Verdict.FRESH == here.floors.judge(old, None)

    async def is_stale_there() -> bool:
        return there.floors.judge(old, None) is Verdict.STALE

    async def is_fresh_again() -> bool:
        return there.floors.judge(await loaded(there, "a", "product:1"), tx.at) is Verdict.FRESH

    assert Verdict.STALE == here.floors.judge(old, None)
    assert await clock.until(is_stale_there, seconds=10, pause_seconds=0.001)
    assert Verdict.FRESH == here.floors.judge(other, None) == there.floors.judge(other, None)
    assert tx.at is not None
    assert await there.floors.reach(tx.at, asyncio.get_running_loop().time() + 10)
    assert await clock.until(is_fresh_again, seconds=10, pause_seconds=0.001)
