# ruff: noqa: PT012 - what is raised at the end of a transaction is raised by its `async with`
"""Writes through what befalls a real primary: cancelled callers, lost connections, fences, waits for replicas."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import anyio
import anyio.lowlevel
import asyncpg
import pytest

from support import postgres_cluster, proxy, write_database
from tenfold import bindings, errors
from tenfold.kit import clock
from tenfold.sdk.db import primary, run, settle, shield, tokens, transaction

pytestmark = pytest.mark.anyio
NETWORK = 62
PORT = 5433


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    with write_database.running(tmp_path_factory.mktemp("survive"), NETWORK, replicas=1) as made:
        yield made


@pytest.fixture
async def door(cluster: postgres_cluster.Cluster) -> AsyncIterator[proxy.Proxy]:
    """The way to the primary."""
    server = cluster.primary
    async with proxy.proxy(server.host, PORT, (server.host, server.port)) as made:
        yield made


@pytest.fixture
async def shards(cluster: postgres_cluster.Cluster, door: proxy.Proxy) -> AsyncIterator[primary.Shards]:
    await cluster.primary.script("truncate effect; truncate tenfold.commit")
    bound = write_database.through(cluster.bound, {cluster.primary.name: (door.host, door.port)})
    async with write_database.connected(bound) as made:
        yield made


@pytest.fixture
async def held(cluster: postgres_cluster.Cluster) -> AsyncIterator[None]:
    """Commits wait for a replica that does not exist."""
    await cluster.primary.configure(synchronous_standby_names="nobody")
    yield
    await cluster.primary.configure(synchronous_standby_names="")


async def names(cluster: postgres_cluster.Cluster) -> list[str]:
    found = await cluster.primary.sql("select array_agg(name order by id) from effect", database="shop")
    return found or []


async def effect(tx: transaction.Transaction, name: str) -> str:
    await tx.execute("insert into effect (name) values ($1)", name)
    return name


async def waiting_commit(cluster: postgres_cluster.Cluster) -> int | None:
    """The backend that waits for replicas."""
    found: int | None = await cluster.primary.sql(
        "select pid from pg_stat_activity where wait_event = 'SyncRep' and usename = 'app' limit 1"
    )
    return found


async def until_commit_waits(cluster: postgres_cluster.Cluster) -> int:
    pid = await clock.until(lambda: waiting_commit(cluster), seconds=10, pause_seconds=0.02)
    assert pid is not None
    return pid


@pytest.mark.parametrize("cancel", ["task", "scope"])
async def test_a_cancelled_caller_learns_of_it_after_the_commit(
    cluster: postgres_cluster.Cluster, shards: primary.Shards, held: None, cancel: str
) -> None:
    scope = anyio.CancelScope()
    ended: list[str] = []

    async def caller() -> None:
        with scope:
            try:
                await run.run(shards, effect, ("one",), options=transaction.Options(timeout=20))
                await anyio.lowlevel.checkpoint()  # where anyio delivers what it held back
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

    task = asyncio.create_task(caller())
    await until_commit_waits(cluster)
    if cancel == "task":
        task.cancel()
    else:
        scope.cancel()
    await asyncio.wait([task], timeout=0.2)
    assert not task.done(), "the COMMIT goes on"
    assert await waiting_commit(cluster) is not None, "nobody asked the server to cancel it"
    await cluster.primary.configure(synchronous_standby_names="")
    await asyncio.wait([task])

    assert ["cancelled"] == ended
    assert ["one"] == await names(cluster)


async def test_a_commit_that_came_with_a_warning_is_settled(
    cluster: postgres_cluster.Cluster, shards: primary.Shards, held: None
) -> None:
    tx = transaction.Transaction(shards, transaction.Options(timeout=20))
    await tx.start()
    await effect(tx, "one")
    committing = asyncio.create_task(tx.commit())
    pid = await until_commit_waits(cluster)
    await cluster.primary.sql("select pg_cancel_backend($1)", pid)
    await asyncio.wait([committing], timeout=0.3)
    assert not committing.done(), "it is visible now, but no replica has it: nobody may be told that it is safe"

    await cluster.primary.configure(synchronous_standby_names="")
    await committing

    assert tx.settled is not None
    assert tx.settled.is_committed


async def test_a_warned_commit_that_no_replica_gets_is_unknown(
    cluster: postgres_cluster.Cluster, shards: primary.Shards, held: None
) -> None:
    writing = asyncio.create_task(run.run(shards, effect, ("one",), options=transaction.Options(timeout=2)))
    await cluster.primary.sql("select pg_cancel_backend($1)", await until_commit_waits(cluster))

    with pytest.raises(errors.OutcomeUnknown):
        await writing


async def test_the_session_may_have_silenced_warnings(
    cluster: postgres_cluster.Cluster, shards: primary.Shards, held: None
) -> None:
    tx = transaction.Transaction(shards, transaction.Options(timeout=20))
    await tx.start()
    await tx.execute("set client_min_messages = error")
    await effect(tx, "one")
    committing = asyncio.create_task(tx.commit())
    await cluster.primary.sql("select pg_cancel_backend($1)", await until_commit_waits(cluster))
    await asyncio.wait([committing], timeout=0.2)
    await cluster.primary.configure(synchronous_standby_names="")
    await committing

    assert tx.settled is not None


async def test_a_check_waits_behind_a_transaction_that_may_still_commit(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    for is_committed in (True, False):
        tx = transaction.Transaction(shards)
        await tx.start()
        assert tx.token is not None
        until = asyncio.get_running_loop().time() + 10
        settling = asyncio.create_task(settle.settle(shards, 0, tx.token, until))
        await asyncio.wait([settling], timeout=0.2)
        assert not settling.done()
        await (tx.commit() if is_committed else tx.rollback())

        assert is_committed == (await settling).is_committed
        assert is_committed == (await settle.settle(shards, 0, tx.token, until)).is_committed, "asked twice"


async def test_a_checked_token_blocks_a_late_commit(shards: primary.Shards) -> None:
    token = tokens.fresh()
    until = asyncio.get_running_loop().time() + 10
    assert not (await settle.settle(shards, 0, token, until)).is_committed

    with pytest.raises(asyncpg.UniqueViolationError):
        await transaction.Transaction(shards, token=token).start()


async def test_a_database_that_was_not_migrated_says_what_to_do(
    cluster: postgres_cluster.Cluster,
) -> None:
    bound = cluster.bound
    elsewhere = bindings.Database(shards=bound.shards, name="postgres", user=bound.user, password=bound.password)
    async with write_database.connected(elsewhere) as unmigrated:
        with pytest.raises(errors.MisuseError, match="tenfold migrate"):
            await run.execute_once(unmigrated, "execute", "select 1")


async def test_a_connection_lost_before_commit_is_retried_by_run_alone(
    cluster: postgres_cluster.Cluster, shards: primary.Shards, door: proxy.Proxy
) -> None:
    tries = 0

    async def cut_once(tx: transaction.Transaction, name: str) -> None:
        nonlocal tries
        tries += 1
        await effect(tx, name)
        if tries == 1:
            door.cut_all()

    await run.run(shards, cut_once, ("run",))
    assert 2 == tries

    tries = 0
    with pytest.raises(errors.NotCommitted, match="nothing was written"):
        async with transaction.Transaction(shards) as tx:
            await cut_once(tx, "plain")
            await effect(tx, "after")
    assert ["run"] == await names(cluster)


async def test_a_connection_that_is_gone_when_commit_is_due_is_retried_too(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    """It dies between the last statement and COMMIT, while the function does something else."""
    tries = 0

    async def idle_at_the_end(tx: transaction.Transaction) -> int:
        nonlocal tries
        tries += 1
        await effect(tx, "once")
        if tries == 1:
            connection = tx.connection
            await cluster.primary.sql(f"select pg_terminate_backend({connection.get_server_pid()})")

            async def is_gone() -> bool:
                return connection.is_closed()

            assert await clock.until(is_gone, seconds=20, pause_seconds=0.005)
        return tries

    assert 2 == await run.run(shards, idle_at_the_end)
    assert ["once"] == await names(cluster)


async def test_an_error_of_the_apps_own_is_not_retried(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    tries = 0

    async def asks_somebody_else(tx: transaction.Transaction) -> None:
        nonlocal tries
        tries += 1
        await effect(tx, "one")
        raise ConnectionResetError("an HTTP client's")

    with pytest.raises(ConnectionResetError, match="an HTTP client's"):
        await run.run(shards, asks_somebody_else)

    assert 1 == tries
    assert [] == await names(cluster)


async def test_an_iterator_is_never_read_twice(
    cluster: postgres_cluster.Cluster, shards: primary.Shards, door: proxy.Proxy
) -> None:
    door.arm(b"last-record", to_client=0)
    records = (record for record in [("first",), ("last-record",)])

    with pytest.raises(errors.NotCommitted):
        await run.execute_once(
            shards, "copy_records_to_table", "effect", kwargs={"records": records, "columns": ["name"]}
        )
    assert [] == await names(cluster)

    door.arm(b"last-record", to_client=0)
    again = {"records": [("first",), ("last-record",)], "columns": ["name"]}
    await run.execute_once(shards, "copy_records_to_table", "effect", kwargs=again)
    assert ["first", "last-record"] == await names(cluster)


async def test_writes_wait_for_a_fenced_primary(cluster: postgres_cluster.Cluster, shards: primary.Shards) -> None:
    await run.run(shards, effect, ("before",))
    await cluster.primary.fence()

    writing = [
        asyncio.create_task(run.run(shards, effect, ("run",))),
        asyncio.create_task(transact(shards, "inside")),
    ]
    await asyncio.wait(writing, timeout=0.3)
    assert not any(one.done() for one in writing)
    await cluster.primary.unfence()
    await asyncio.gather(*writing)

    assert {"before", "run", "inside"} == set(await names(cluster))


async def test_a_node_found_read_only_is_left_before_anything_ran(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    """The probes have not noticed yet: the token's insert is what finds out."""
    for name, write in (("run", run.run(shards, effect, ("run",))), ("plain", transact(shards, "plain"))):
        await run.run(shards, effect, (f"before-{name}",))
        (connection,) = shards.shard(0).nodes[cluster.primary.name].pool.free
        await connection.execute("set session characteristics as transaction read only")

        await write

        assert connection.is_closed()
    assert ["before-run", "run", "before-plain", "plain"] == await names(cluster)


async def transact(shards: primary.Shards, name: str) -> None:
    async with transaction.Transaction(shards) as tx:
        await effect(tx, name)


async def test_no_primary_before_the_deadline_writes_nothing(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    await cluster.primary.fence()
    try:
        with pytest.raises(errors.NoPrimary):
            await run.run(shards, effect, ("one",), options=transaction.Options(timeout=0.3))
    finally:
        await cluster.primary.unfence()

    assert [] == await names(cluster)


async def test_work_is_undisturbed_and_its_error_is_kept() -> None:
    async def fails() -> None:
        await asyncio.sleep(0.05)
        raise ValueError("flawed")

    with pytest.raises(ValueError, match="flawed"):
        await shield.undisturbed(fails())
    task = asyncio.create_task(shield.undisturbed(fails()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert isinstance(caught.value.__cause__, ValueError)


async def test_writes_move_to_the_promoted_replica_after_a_fence(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    """Last: it leaves the cluster with another primary."""
    await run.run(shards, effect, ("before",))
    old = cluster.primary
    await old.fence()
    writing = [asyncio.create_task(run.run(shards, effect, (f"waiting-{number}",))) for number in range(20)]
    await asyncio.wait(writing, timeout=0.2)
    await old.stop()
    await cluster.fail_over(cluster.replicas[0], repoint=False)
    await asyncio.gather(*writing)

    assert 21 == len(await names(cluster))
    assert 21 == len(set(await names(cluster)))
    async with transaction.Transaction(shards) as tx:
        assert 2 == shards.shard(0).writable.sighting.timeline  # type: ignore[union-attr]
        assert "off" == await tx.fetchval("show default_transaction_read_only")
    assert tx.at is not None
    assert 2 == tx.at.timeline
