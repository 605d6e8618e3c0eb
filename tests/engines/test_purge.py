"""What a transaction purges is gone from every edge, for certain and in time; who wrote never sees anything older."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from support import edge_service, edges, postgres_cluster, seats, write_database
from tenfold import Tenfold, Transaction, bindings, cli, errors
from tenfold.kit import clock
from tenfold.runtime import paths
from tenfold.sdk import counters
from tenfold.sdk.cdn import delivery, purges
from tenfold.topology import layout

pytestmark = pytest.mark.anyio

NETWORK = 15


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[seats.Site]:
    with edge_service.machines(tmp_path_factory.mktemp("edges"), NETWORK) as made:
        yield made


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    with write_database.running(tmp_path_factory.mktemp("purges"), NETWORK, replicas=1) as made:
        asyncio.run(made.primary.script("insert into account select 'thing-' || n, 1000 from generate_series(1, 20) n"))
        yield made


@pytest.fixture
async def served(machines: seats.Site, cluster: postgres_cluster.Cluster) -> AsyncIterator[edge_service.Served]:
    await cluster.primary.sql("delete from tenfold.purge", database=postgres_cluster.DATABASE)
    await cluster.until_caught_up()
    async with edge_service.serving(machines, cluster) as made:
        await made.tf.cdn.purge(everything=True)
        await until_settled(cluster)
        yield made


@pytest.fixture
async def visitor(served: edge_service.Served) -> AsyncIterator[edge_service.Visitor]:
    async with served.visitor() as made:
        yield made


@pytest.fixture
async def stranger(served: edge_service.Served) -> AsyncIterator[edge_service.Visitor]:
    async with served.visitor() as made:
        yield made


@pytest.fixture
async def slow_replica(cluster: postgres_cluster.Cluster) -> AsyncIterator[None]:
    await cluster.replicas[0].delay_replay(40)
    yield
    await cluster.replicas[0].delay_replay(0)


async def unsettled(cluster: postgres_cluster.Cluster) -> int:
    query = "select count(*) from tenfold.purge where settled_at is null"
    return int(await cluster.primary.sql(query, database=postgres_cluster.DATABASE))


async def until_settled(cluster: postgres_cluster.Cluster, seconds: float = 30.0) -> None:
    async def look() -> bool:
        return not await unsettled(cluster)

    assert await clock.until(look, seconds=seconds, pause_seconds=0.05)


async def purge_by(tf: Tenfold, *tags: str, **more: bool) -> None:
    async with tf.db.transaction() as tx:
        await tx.purge(tags=tags, **more)


async def left(served: edge_service.Served, name: str) -> int:
    query = f"select balance from account where name = '{name}'"
    return int(await served.cluster.primary.sql(query, database=postgres_cluster.DATABASE))


async def test_a_purge_is_with_its_transaction_or_not_at_all(
    served: edge_service.Served, stranger: edge_service.Visitor
) -> None:
    assert 1000 == await stranger.stock("thing-1") == await stranger.stock("thing-1")
    change = "update account set balance = 7 where name = 'thing-1'"

    async def fail(tx: Transaction) -> None:
        await tx.purge(tags=["stock:thing-1"])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await served.tf.db.run(fail)
    await served.cluster.primary.script(change)
    await served.cluster.until_caught_up()
    assert 1000 == await stranger.stock("thing-1") == await stranger.stock("thing-1"), "nobody has purged it"
    await purge_by(served.tf, "stock:thing-1")
    assert 7 == await stranger.stock("thing-1") == await stranger.stock("thing-1")


async def test_a_page_is_purged_by_its_url_and_with_everything(
    served: edge_service.Served, stranger: edge_service.Visitor
) -> None:
    for count, said in enumerate(({"urls": ["/stock/thing-2"]}, {"everything": True}), start=1):
        before = await stranger.stock("thing-2"), await stranger.stock("thing-2")
        await served.cluster.primary.script("update account set balance = balance - 1 where name = 'thing-2'")
        await served.cluster.until_caught_up()
        await served.tf.cdn.purge(**said)  # type: ignore[arg-type]
        assert (1000 - count,) * 2 == (await stranger.stock("thing-2"), await stranger.stock("thing-2")), before


async def test_who_wrote_sees_it_though_an_edge_has_fetched_from_a_replica_that_lags(
    served: edge_service.Served,
    visitor: edge_service.Visitor,
    stranger: edge_service.Visitor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The purge at the commit is not enough: what an edge fetches then may be older. So who wrote passes the edges by
    until a second one has followed the slowest replica."""
    monkeypatch.setattr(delivery, "SETTLE_SECONDS", 0.1)
    replica = served.cluster.replicas[0]
    assert 1000 == await stranger.stock("thing-3") == await stranger.stock("thing-3")
    await replica.pause_replay()
    try:
        assert 999 == await visitor.take("thing-3")
        assert 1000 == await stranger.stock("thing-3") == await stranger.stock("thing-3"), "a stranger may see the old"
        for _ in range(20):
            assert 999 == await visitor.stock("thing-3")
            assert visitor.is_bypassing
            await asyncio.sleep(0.05)  # long enough to be settled, did it not wait for the replica
        assert 1 == await unsettled(served.cluster)
    finally:
        await replica.sql("select pg_wal_replay_resume()")
    await until_settled(served.cluster)
    assert 999 == await stranger.stock("thing-3") == await stranger.stock("thing-3"), "the second purge"

    async def is_over() -> bool:
        assert 999 == await visitor.stock("thing-3")
        return not visitor.is_bypassing

    assert await clock.until(is_over, seconds=20, pause_seconds=0.2), "it uses the edges again"
    assert not [name for name in visitor.cookies if name.startswith("shop-edge")]


async def test_no_writer_ever_gets_an_older_copy(served: edge_service.Served, slow_replica: None) -> None:
    """Many at once, on few pages, through edges that anybody fills at any moment from a replica that lags a little."""
    names = [f"thing-{number}" for number in (4, 5)]
    stop = asyncio.Event()
    seen = 0

    async def wander(one: edge_service.Visitor) -> None:
        while not stop.is_set():
            for name in names:
                await one.stock(name)

    async def write(one: edge_service.Visitor, name: str) -> None:
        nonlocal seen
        for _ in range(8):
            mine = await one.take(name)
            for _ in range(3):
                assert await one.stock(name) <= mine, "older than what this session wrote"
                seen += 1

    async with AsyncExitStack() as stack:
        people = [await stack.enter_async_context(served.visitor()) for _ in range(6)]
        strangers = [asyncio.create_task(wander(one)) for one in people[:2]]
        try:
            async with asyncio.timeout(60):
                await asyncio.gather(*(write(one, names[number % 2]) for number, one in enumerate(people[2:])))
        finally:
            stop.set()
            await asyncio.gather(*strangers)
    assert 96 == seen
    await until_settled(served.cluster)
    async with served.visitor() as one:
        for name in names:
            wanted = await left(served, name)
            assert [wanted] * 2 == [await one.stock(name), await one.stock(name)], "and at the end every edge has it"


async def test_an_edge_that_hangs_holds_up_no_commit_and_is_told_when_it_answers_again(
    served: edge_service.Served, stranger: edge_service.Visitor, visitor: edge_service.Visitor
) -> None:
    assert 1000 == await stranger.stock("thing-6") == await stranger.stock("thing-6")
    machine = served.site.powered["edge-2"]
    await machine.run(["sh", "-c", "kill -STOP -1"], env={}, directory=served.site.folder, timeout_seconds=10)
    try:
        before = counters.reading().get("cdn.purges_unacknowledged", 0)
        began = asyncio.get_running_loop().time()
        for count in range(1, 11):
            assert 1000 - count == await visitor.take("thing-6")
        assert asyncio.get_running_loop().time() - began < 8, "commits wait for it a moment at most, and then no more"

        async def is_counted() -> bool:
            return counters.reading().get("cdn.purges_unacknowledged", 0) > before

        assert await clock.until(is_counted, seconds=20)
        assert await unsettled(served.cluster)
        assert 990 == await visitor.stock("thing-6")
        assert visitor.is_bypassing
    finally:
        seats_of = served.site.powered["edge-2"]
        await seats_of.run(["sh", "-c", "kill -CONT -1"], env={}, directory=served.site.folder, timeout_seconds=10)
    await until_settled(served.cluster)
    assert [990] * 4 == [await stranger.stock("thing-6") for _ in range(4)]


async def test_what_a_process_that_died_has_not_told_another_one_tells(
    served: edge_service.Served, stranger: edge_service.Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 1000 == await stranger.stock("thing-7") == await stranger.stock("thing-7")

    async def die(*_: object) -> None:
        """The process ends right behind its COMMIT."""

    with monkeypatch.context() as dead:
        dead.setattr(delivery.Delivery, "committed", die)
        await purge_by(served.tf, "stock:thing-7")
    await served.cluster.primary.script("update account set balance = 1 where name = 'thing-7'")
    await served.cluster.until_caught_up()
    assert 1 == await unsettled(served.cluster)
    async with served.another():
        await until_settled(served.cluster)
    assert 1 == await stranger.stock("thing-7") == await stranger.stock("thing-7")


async def test_an_edge_that_is_owed_too_much_forgets_everything_instead(
    served: edge_service.Served, stranger: edge_service.Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "MOST_OWED", 3)
    assert 1000 == await stranger.stock("thing-8") == await stranger.stock("thing-8")
    await served.cluster.primary.script("update account set balance = 1 where name = 'thing-8'")
    await served.cluster.primary.script(
        "insert into tenfold.purge (id, tags, owed) select gen_random_uuid(), array['other:' || n], null "
        "from generate_series(1, 10) n"
    )
    await until_settled(served.cluster)
    assert 1 == await stranger.stock("thing-8") == await stranger.stock("thing-8")


async def test_a_wrong_key_is_no_acknowledgement(served: edge_service.Served) -> None:
    before = counters.reading().get("cdn.purges_unacknowledged", 0)
    other = edge_service.tenfold(served.cluster, served.seats, key="another")
    async with other:
        await purge_by(other, "stock:thing-9")
        assert 1 == await unsettled(served.cluster)
        assert {"found", "200"} <= set(" ".join(other.cdn._edges.troubles.values()).split())
    assert counters.reading()["cdn.purges_unacknowledged"] > before
    await until_settled(served.cluster)  # by the one whose key is right


async def test_a_person_purges_and_hears_who_has_forgotten(
    served: edge_service.Served, stranger: edge_service.Visitor, tmp_path: Path
) -> None:
    where = paths.Paths(tmp_path / "tenfold.toml")
    where.topology.write_text('[service]\nname = "shop"\napp = "web:app"\n')
    where.bindings.parent.mkdir()

    async def said(*words: str, key: str = edges.KEY, are_there: bool = True) -> Result:
        nodes = [
            bindings.EdgeNode(name=seat.server.name, host=seat.address, port=layout.PURGE_PORT) for seat in served.seats
        ]
        told = bindings.Bindings(
            service=bindings.Service(name="shop"),
            database=served.cluster.bound,
            cdn=bindings.Cdn(nodes=tuple(nodes) if are_there else (), key=key),
        )
        where.bindings.write_bytes(bindings.dump(told))
        arguments = ["--file", str(where.topology), "cdn", "purge", *words]
        return await asyncio.to_thread(CliRunner().invoke, cli.group, arguments)

    assert 1000 == await stranger.stock("thing-10") == await stranger.stock("thing-10")
    await served.cluster.primary.script("update account set balance = 1 where name = 'thing-10'")
    await served.cluster.until_caught_up()
    done = await said("--tag", "stock:thing-10", "--url", "/a")
    assert (0, "edge-1 has forgotten: tag stock:thing-10, url /a") == (done.exit_code, done.output.splitlines()[0])
    assert 1 == await stranger.stock("thing-10") == await stranger.stock("thing-10")
    refused = await said("--all", "--soft", key="another")
    assert "edge-2 has not acknowledged yet (status 403" in refused.output
    assert isinstance(refused.exception, errors.RuntimeFailure)
    await until_settled(served.cluster)  # told again by the service, whose key is right
    for words, are_there, reason in (
        ((), True, "nothing to forget"),
        (("--tag", "two words"), True, "visible ASCII"),
        (("--all",), False, "there are no edges"),
    ):
        wrong = (await said(*words, are_there=are_there)).exception
        assert isinstance(wrong, errors.BadInput)
        assert reason in str(wrong)


async def test_garbage_is_refused_before_anything_is_written(served: edge_service.Served) -> None:
    wrong: list[dict[str, object]] = [
        {"tags": ["two words"]},
        {"tags": ["a,b"]},
        {"tags": "product:1"},
        {"tags": [""]},
        {"tags": ["é"]},
        {"tags": ["x" * 257]},
        {"urls": ["products/1"]},
        {"urls": ["/" + "x" * 5000]},
        {"tags": ["x"] * 20_000},
    ]
    for said in wrong:
        with pytest.raises(errors.MisuseError):
            await served.tf.cdn.purge(**said)  # type: ignore[arg-type]
    with pytest.raises(errors.InsideTransaction):
        async with served.tf.db.transaction():
            await served.tf.cdn.purge(tags=["a"])
    assert 0 == await unsettled(served.cluster)


async def test_without_edges_nothing_is_recorded(cluster: postgres_cluster.Cluster) -> None:
    async def purge(tx: Transaction) -> None:
        await tx.purge(tags=["stock:thing-1"], urls=["/"], everything=True)

    heard: list[purges.Purge] = []
    async with edge_service.tenfold(cluster, []) as tf:
        await tf.db.run(purge)
        await tf.cdn.purge(tags=["a"])
        tf.cdn.watch(heard.append)  # as tests do
        await tf.db.run(purge)
        await tf.cdn.purge(tags=["a"], soft=True)
        tf.cdn.watch(None)
    assert [("stock:thing-1",), ("a",)] == [one.tags for one in heard]
    assert 0 == await unsettled(cluster)
