"""What a transaction purges is gone from the edges of another region too: how far it is delays nobody here, and what an
edge there did not hear while the way was cut it hears afterwards."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support import edge_service, far_region, postgres_cluster, seats, write_database
from tenfold.kit import clock
from tenfold.sdk import counters
from tenfold.sdk.cdn import delivery

pytestmark = pytest.mark.anyio

NETWORK = 252

DELAY_SECONDS = 0.3
"""One way: longer than a commit waits."""


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[seats.Site]:
    with edge_service.machines(tmp_path_factory.mktemp("edges"), NETWORK) as made:
        yield made


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    with write_database.running(tmp_path_factory.mktemp("regions"), NETWORK, replicas=1) as made:
        asyncio.run(made.primary.script("insert into account select 'thing-' || n, 1000 from generate_series(1, 9) n"))
        yield made


@pytest.fixture
async def served(
    machines: seats.Site, cluster: postgres_cluster.Cluster, tmp_path: Path
) -> AsyncIterator[edge_service.Served]:
    await cluster.until_caught_up()
    far = machines.seat("edge-2", "varnish")
    async with (
        far_region.joined(tmp_path / "wan", NETWORK, far.address, cluster.replicas[0].host) as link,
        edge_service.serving(machines, cluster, link) as made,
    ):
        yield made
        await until_settled(made)


async def unsettled(served: edge_service.Served) -> int:
    query = "select count(*) from tenfold.purge where settled_at is null"
    return int(await served.cluster.primary.sql(query, database=postgres_cluster.DATABASE))


async def until_settled(served: edge_service.Served) -> None:
    async def look() -> bool:
        return not await unsettled(served)

    assert await clock.until(look, seconds=40, pause_seconds=0.05)


async def kept(served: edge_service.Served, name: str) -> list[int]:
    """What strangers get from the near edge and from the far one, each filled when it was empty."""
    async with served.visitor() as one:
        return [await one.stock(name), await one.stock(name)]


async def change(served: edge_service.Served, name: str, left: int) -> float:
    """One transaction and its purge; the seconds that its end took."""
    loop = asyncio.get_running_loop()
    async with served.tf.db.transaction() as tx:
        await tx.execute("update account set balance = $1 where name = $2", left, name)
        await tx.purge(tags=[f"stock:{name}"])
        began = loop.time()
    return loop.time() - began


async def becomes(served: edge_service.Served, name: str, expected: list[int]) -> None:
    async def look() -> bool:
        return expected == await kept(served, name)

    assert await clock.until(look, seconds=40, pause_seconds=0.05), (expected, await kept(served, name))


async def test_a_purge_reaches_the_edges_of_every_region_and_waits_for_those_at_home_alone(
    served: edge_service.Served,
) -> None:
    assert served.link is not None
    assert [1000, 1000] == await kept(served, "thing-1")
    assert await change(served, "thing-1", 7) < 30
    await until_settled(served)
    assert [7, 7] == await kept(served, "thing-1")

    await served.link.become(delay_seconds=DELAY_SECONDS)
    late = counters.reading().get("cdn.purges_late", 0)
    took = [await change(served, "thing-1", left) for left in range(8, 13)]
    await becomes(served, "thing-1", [12, 12])
    assert min(took) < delivery.TELL_SECONDS, "the near edge's acknowledgement is enough"
    assert counters.reading().get("cdn.purges_late", 0) - late < len(took)


async def test_near_edges_are_told_again_without_waiting_for_far_replicas_and_far_ones_when_theirs_have_followed(
    served: edge_service.Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(delivery, "PASS_SECONDS", 60.0)
    assert [1000, 1000] == await kept(served, "thing-2")
    replica = served.cluster.replicas[0]
    await replica.pause_replay()
    try:
        told = counters.reading().get("cdn.purges_acknowledged", 0)
        await change(served, "thing-2", 7)

        async def is_told_again() -> bool:
            return counters.reading()["cdn.purges_acknowledged"] - told == 3  # both, and the near one again

        assert await clock.until(is_told_again, seconds=20, pause_seconds=0.01)
        await asyncio.sleep(0.3)  # long enough for all of it, did it not wait for the far replica
        assert await is_told_again()
        assert 1 == await unsettled(served)
    finally:
        await replica.resume_replay()
    await until_settled(served)
    assert 6 == counters.reading()["cdn.purges_acknowledged"] - told, "each of the two three times"
    assert [7, 7] == await kept(served, "thing-2")


async def test_a_far_edge_that_was_cut_off_hears_afterwards_what_it_has_missed(
    served: edge_service.Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert served.link is not None
    monkeypatch.setattr(delivery, "PASS_SECONDS", 1.0)
    names = [f"thing-{number}" for number in range(3, 7)]
    for name in names:
        assert [1000, 1000] == await kept(served, name)
    await served.link.cut()
    try:
        for name in names:
            await change(served, name, 7)
        for name in names:
            assert [7, 1000] == await kept(served, name), "here at once; there it is not known yet"

        async def is_owed() -> bool:
            query = "select count(*) from tenfold.purge where settled_at is null and cardinality(owed) = 1"
            return len(names) == await served.cluster.primary.sql(query, database=postgres_cluster.DATABASE)

        assert await clock.until(is_owed, seconds=60, pause_seconds=0.1), "to the far edge alone"
        monkeypatch.setattr(delivery, "MOST_OWED", len(names) - 1)  # so many that it forgets everything instead
    finally:
        await served.link.cut(is_cut=False)
    for name in names:
        await becomes(served, name, [7, 7])
    await until_settled(served)
