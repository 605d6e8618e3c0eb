"""The ledger of real runs: complete however the run ends, and compared with a real PostgreSQL."""

import asyncio
import itertools
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from support import postgres_cluster
from support.bad_server import BadServer, Drop, Seen, answer
from tenfold import bindings, errors, traffic
from tenfold.traffic import Plan, User, Write, journey, ledger, verify

pytestmark = pytest.mark.anyio

NETWORK = 67
CHECKS = {"order": "select reference, count(*) from shop_order where reference = any($1::uuid[]) group by 1"}
Keep = Callable[[int], int]
"""How often the server keeps its nth order, of 0, 1 and 2."""


@journey
async def order(user: User) -> None:
    write = Write("order")
    await user.post("/orders", json={"reference": write.reference}, write=write)
    user.sees(write, (await user.get("/orders")).json())


@pytest.fixture
async def server() -> AsyncIterator[BadServer]:
    async with BadServer("127.67.2.1").serving() as serving:
        yield serving


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for the module, whose PostgreSQL it owns."""
    return "asyncio"


@pytest.fixture(scope="module")
async def database(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[bindings.Database]:
    async with postgres_cluster.cluster(tmp_path_factory.mktemp("pg"), NETWORK, replicas=1) as cluster:
        await cluster.primary.script(
            f"create table shop_order (reference uuid not null); grant all on shop_order to {postgres_cluster.USER}"
        )
        replica, primary = cluster.replicas[0], cluster.primary
        yield cluster.bound_to(replica, primary)  # the primary last: it must be looked for


@pytest.fixture
async def connection(database: bindings.Database) -> AsyncIterator[verify.Connection]:
    node = database.shards[0].nodes[-1]
    connection = await asyncpg.connect(
        host=node.host, port=node.port, user=database.user, password=database.password, database=database.name
    )
    await connection.execute("truncate shop_order")
    yield connection
    await connection.close()


def keeping(server: BadServer, connection: verify.Connection, keep: Keep) -> set[str]:
    """Let the server keep its orders in PostgreSQL, as often as `keep` says; it acknowledges all of them.

    Returns the references that are not kept exactly once; it fills while the server runs.
    """
    lock, orders, wrong = asyncio.Lock(), itertools.count(), set[str]()

    async def rule(seen: Seen) -> bytes | None:
        if seen.method == "POST":
            async with lock:
                times = keep(next(orders))
                for _ in range(times):
                    await connection.execute("insert into shop_order values ($1)", seen.reference)
            if times != 1:
                wrong.add(seen.reference)
        return None

    server.rule = rule
    return wrong


async def load(server: BadServer, path: Path, **options: float) -> traffic.Report:
    async with traffic.Load(
        server.url, Plan([order]), rate=options.get("rate", 200), seconds=0.3, ledger_path=path, seed=1
    ) as running:
        await running.wait()
    return running.report


async def test_a_server_that_keeps_its_word_is_found_clean(
    server: BadServer, connection: verify.Connection, tmp_path: Path
) -> None:
    keeping(server, connection, lambda _: 1)
    report = await load(server, tmp_path / "run.ledger")

    verdict = await verify.verify(tmp_path / "run.ledger", connection, CHECKS)

    assert verdict.is_clean
    assert verdict.is_complete
    assert report.writes_acknowledged == verdict.kinds[0].acknowledged == verdict.kinds[0].found > 20
    assert (report.requests, report.own_reads) == (verdict.requests, verdict.own_reads)


async def test_acknowledged_writes_that_are_not_in_the_database_are_named(
    server: BadServer, connection: verify.Connection, tmp_path: Path
) -> None:
    dropped = keeping(server, connection, lambda nth: 0 if nth % 5 == 1 else 1)
    await load(server, tmp_path / "run.ledger")

    verdict = await verify.verify(tmp_path / "run.ledger", connection, CHECKS)

    assert dropped
    assert dropped == set(verdict.kinds[0].lost)
    assert (len(dropped), 0) == (verdict.lost, verdict.doubled)
    assert not verdict.is_clean


async def test_writes_that_are_there_twice_are_named(
    server: BadServer, connection: verify.Connection, tmp_path: Path
) -> None:
    doubled = keeping(server, connection, lambda nth: 2 if nth % 5 == 1 else 1)
    await load(server, tmp_path / "run.ledger")

    verdict = await verify.verify(tmp_path / "run.ledger", connection, CHECKS)

    assert doubled
    assert doubled == set(verdict.kinds[0].doubled)
    assert (0, len(doubled)) == (verdict.lost, verdict.doubled)
    assert not verdict.is_clean


async def test_a_write_whose_answer_was_lost_may_be_there_and_is_not_lost_when_it_is_not(
    server: BadServer, connection: verify.Connection, tmp_path: Path
) -> None:
    async def keep_half_and_cut(seen: Seen) -> bytes | None:
        if seen.method == "POST":
            if len(server.requests) % 2:
                await connection.execute("insert into shop_order values ($1)", seen.reference)
            raise Drop(b"HTTP/1.1 2")
        return None

    server.rule = keep_half_and_cut
    report = await load(server, tmp_path / "run.ledger", rate=60)

    verdict = await verify.verify(tmp_path / "run.ledger", connection, CHECKS)

    assert report.failed == verdict.failed == verdict.kinds[0].unanswered > 10
    assert 0 < verdict.kinds[0].found < verdict.kinds[0].unanswered
    assert verdict.is_clean


async def test_a_sessions_missing_own_write_is_a_violation_even_when_the_database_has_it(
    server: BadServer, connection: verify.Connection, tmp_path: Path
) -> None:
    keeping(server, connection, lambda _: 1)
    honest, reads = server.rule, itertools.count(1)

    async def lie(seen: Seen) -> bytes | None:
        if seen.method == "GET" and next(reads) % 5 == 0:
            return answer(200, [], "x-tenfold-position: 0.1.1.9F\r\n")
        return await honest(seen)

    server.rule = lie
    await load(server, tmp_path / "run.ledger")

    verdict = await verify.verify(tmp_path / "run.ledger", connection, CHECKS)

    assert (0, 0) == (verdict.lost, verdict.doubled)
    assert {("0.1.1.A0", "0.1.1.9F")} == {(one.written_at, one.read_at) for one in verdict.stale}
    assert not verdict.is_clean


async def test_the_primary_is_found_behind_a_replica_that_is_named_first(
    server: BadServer, connection: verify.Connection, database: bindings.Database, tmp_path: Path
) -> None:
    keeping(server, connection, lambda _: 1)
    await load(server, tmp_path / "run.ledger")
    bound = bindings.Bindings(service=bindings.Service(name="shop"), database=database)

    assert (await verify.verify_service(tmp_path / "run.ledger", bound, CHECKS)).is_clean
    async with verify.primary(database, database.shards[0]) as found:
        assert not await found.fetchval("select pg_is_in_recovery()")
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await found.execute("insert into shop_order values (gen_random_uuid())")


async def test_without_a_primary_the_error_names_the_nodes(
    database: bindings.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "PRIMARY_SECONDS", 0.3)
    shard = bindings.Shard(nodes=(database.shards[0].nodes[0],))

    with pytest.raises(errors.NoPrimary, match=r"no primary among database-2 \(127.67.5.2:5432\)"):
        async with verify.primary(database, shard):
            pass


@pytest.mark.parametrize("query", ["select nothing", "select 1", "select 1, 2 where $1 = 3", "selec"])
async def test_a_check_that_cannot_be_asked_is_bad_input(
    server: BadServer, connection: verify.Connection, tmp_path: Path, query: str
) -> None:
    await load(server, tmp_path / "run.ledger")

    with pytest.raises(errors.BadInput, match="uuid"):
        await verify.verify(tmp_path / "run.ledger", connection, {"order": query})


async def test_many_references_are_asked_in_parts(
    server: BadServer, connection: verify.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "AT_A_TIME", 7)
    keeping(server, connection, lambda _: 1)
    await load(server, tmp_path / "run.ledger")

    assert (await verify.verify(tmp_path / "run.ledger", connection, CHECKS)).is_clean


async def test_every_request_is_one_line_and_the_last_line_closes_the_ledger(server: BadServer, tmp_path: Path) -> None:
    report = await load(server, tmp_path / "run.ledger")

    reader = ledger.Reader(tmp_path / "run.ledger")
    records = list(reader.records())
    requests = [one for one in records if isinstance(one, ledger.Request)]
    assert 60 == report.requests == len(requests)
    assert reader.end is not None
    assert "finished" == reader.end.how
    assert all(one.sent >= one.intended - 0.002 for one in requests)
    assert len({one.trace for one in requests}) == 60
    assert {seen.headers["traceparent"].split("-")[1] for seen in server.requests} == {one.trace for one in requests}


async def test_a_stopped_run_keeps_what_was_on_its_way_as_unanswered(server: BadServer, tmp_path: Path) -> None:
    async def hang(_: Seen) -> bytes | None:
        await asyncio.sleep(30)
        return None

    server.rule = hang
    async with traffic.Load(
        server.url, Plan([order]), rate=100, users=3, ledger_path=tmp_path / "run.ledger"
    ) as running:
        await asyncio.sleep(0.3)
        running.stop()

    evidence = verify.gather(tmp_path / "run.ledger")
    assert 3 == len(evidence.sent("order"))
    assert evidence.is_complete
    assert 0 == running.report.failed == evidence.failed
    assert running.report.interrupted > 10


async def test_a_cancelled_run_leaves_a_complete_ledger(server: BadServer, tmp_path: Path) -> None:
    async def drill() -> None:
        async with traffic.Load(server.url, Plan([order]), rate=200, ledger_path=tmp_path / "run.ledger"):
            await asyncio.sleep(30)

    task = asyncio.create_task(drill())
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    reader = ledger.Reader(tmp_path / "run.ledger")
    assert len(list(reader.records())) > 20
    assert reader.end is not None
    assert "interrupted" == reader.end.how


async def test_a_ledger_is_never_overwritten(server: BadServer, tmp_path: Path) -> None:
    path = tmp_path / "run.ledger"
    path.write_text("evidence")

    with pytest.raises(errors.BadInput, match="never overwritten"):
        await load(server, path)

    assert "evidence" == path.read_text()
    with pytest.raises(errors.BadInput, match="cannot be made"):
        await load(server, tmp_path / "missing" / "run.ledger")


@pytest.fixture
def _small_files() -> Iterator[None]:
    """No file of this process may grow beyond 4 KiB: a write then fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("_small_files")
async def test_a_full_disk_ends_the_run_with_an_error_and_a_readable_ledger(server: BadServer, tmp_path: Path) -> None:
    with pytest.raises(errors.RuntimeFailure, match="cannot be written"):
        async with traffic.Load(
            server.url, Plan([order]), rate=200, seconds=20, ledger_path=tmp_path / "run.ledger"
        ) as running:
            await asyncio.wait_for(running.wait(), 10)

    reader = ledger.Reader(tmp_path / "run.ledger")
    assert len(list(reader.records())) > 3
    assert reader.is_torn
