# ruff: noqa: PT012 - what is raised at the end of a transaction is raised by its `async with`
"""Transactions on a real PostgreSQL: they commit once, fail cleanly, and leave connections as they found them."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from support import postgres_cluster, write_database
from tenfold import errors, request
from tenfold.sdk.db import primary, prune, run, schema, tokens, transaction

pytestmark = pytest.mark.anyio
NETWORK = 62


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    with write_database.running(tmp_path_factory.mktemp("writes"), NETWORK) as made:
        yield made


@pytest.fixture
async def shards(cluster: postgres_cluster.Cluster) -> AsyncIterator[primary.Shards]:
    await cluster.primary.script("truncate effect; truncate account; truncate tenfold.commit")
    async with write_database.connected(cluster.bound) as made:
        yield made


async def names(cluster: postgres_cluster.Cluster) -> list[str]:
    found = await cluster.primary.sql("select array_agg(name order by id) from effect", database="shop")
    return found or []


async def insert(tx: transaction.Transaction, name: str) -> int:
    return await tx.fetchval("insert into effect (name) values ($1) returning id", name)


async def test_a_transaction_commits_what_it_wrote(cluster: postgres_cluster.Cluster, shards: primary.Shards) -> None:
    async with transaction.Transaction(shards) as tx:
        await insert(tx, "one")
        assert [] == await names(cluster)

    assert ["one"] == await names(cluster)
    assert tx.token is not None
    stored = await cluster.primary.sql(
        "select is_void from tenfold.commit where token = $1", tx.token.id, database="shop"
    )
    assert stored is False


async def test_a_write_tells_the_request_its_position(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    before = await cluster.primary.lsn()

    with request.serving(request.Request()) as serving:
        await run.execute_once(shards, "execute", "insert into effect (name) values ('one')")

    after = await cluster.primary.lsn()
    assert serving.has_written
    assert before < serving.seen[0].lsn <= after
    assert (1, 1) == (serving.seen[0].epoch, serving.seen[0].timeline)


async def test_a_write_takes_three_round_trips_position_and_reset_included(shards: primary.Shards) -> None:
    for _ in range(2):  # the first opens the connection and prepares the statement
        await run.execute_once(shards, "execute", "insert into effect (name) values ($1)", ("one",))
    (connection,) = shards.shard(0).nodes["database-1"].pool.free
    sent: list[str] = []

    with connection.query_logger(lambda record: sent.append(record.query.split(";")[0])):
        async with transaction.Transaction(shards) as tx:
            await tx.execute("insert into effect (name) values ($1)", "one")

    assert ["begin", "insert into effect (name) values ($1)", "set local client_min_messages = warning"] == sent
    assert tx.at is not None


async def test_a_role_that_silences_notices_gets_its_position_too(cluster: postgres_cluster.Cluster) -> None:
    await cluster.primary.script("alter role app set client_min_messages = error")
    async with write_database.connected(cluster.bound) as silent, transaction.Transaction(silent) as tx:
        await insert(tx, "one")
    await cluster.primary.script("alter role app reset client_min_messages")

    assert tx.at is not None
    assert tx.settled is None


async def test_an_exception_rolls_back_and_comes_through(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    await run.execute_once(shards, "execute", "insert into account values ('ada', 10)")

    with pytest.raises(asyncpg.UniqueViolationError):
        async with transaction.Transaction(shards) as tx:
            await insert(tx, "one")
            await tx.execute("insert into account values ('ada', 20)")

    assert [] == await names(cluster)
    async with transaction.Transaction(shards) as tx:
        assert 10 == await tx.fetchval("select balance from account where name = 'ada'")
    assert 1 == shards.shard(0).nodes["database-1"].pool.opened


async def test_a_swallowed_failure_is_not_reported_as_a_commit(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    with pytest.raises(errors.RolledBack, match="nothing was written"):
        async with transaction.Transaction(shards) as tx:
            await insert(tx, "one")
            with pytest.raises(asyncpg.CheckViolationError):
                await tx.execute("insert into account values ('ada', -1)")

    assert [] == await names(cluster)
    assert 1 == len(shards.shard(0).nodes["database-1"].pool.free)


async def test_a_constraint_that_fails_at_commit_is_the_commits_error(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    await run.execute_once(
        shards, "execute", "create table if not exists pair (id int unique deferrable initially deferred)"
    )

    with pytest.raises(asyncpg.UniqueViolationError):
        async with transaction.Transaction(shards) as tx:
            await tx.execute("insert into pair values (1), (1)")

    assert 0 == await run.execute_once(shards, "fetchval", "select count(*) from pair")
    assert 1 == len(shards.shard(0).nodes["database-1"].pool.free)


async def test_a_savepoint_fails_alone(cluster: postgres_cluster.Cluster, shards: primary.Shards) -> None:
    async with transaction.Transaction(shards) as tx:
        await insert(tx, "one")
        with pytest.raises(asyncpg.CheckViolationError):
            async with tx.transaction():
                await insert(tx, "two")
                async with tx.transaction():
                    await tx.execute("insert into account values ('ada', -1)")
        async with tx.transaction():
            await insert(tx, "three")

    assert ["one", "three"] == await names(cluster)


async def test_the_whole_surface_of_a_connection_works(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    async with transaction.Transaction(shards) as tx:
        await tx.executemany("insert into effect (name) values ($1)", [("a",), ("b",)])
        await tx.copy_records_to_table("effect", records=[("c",)], columns=["name"])
        assert [("d",), ("e",)] == [
            tuple(row)
            for row in await tx.fetchmany("insert into effect (name) values ($1) returning name", [("d",), ("e",)])
        ]
        prepared = await tx.prepare("select count(*) from effect")
        assert 5 == await prepared.fetchval()
        assert ["a", "b", "c", "d", "e"] == [row[0] async for row in tx.cursor("select name from effect order by id")]
        assert "a" == (await tx.fetchrow("select name from effect order by id"))["name"]
        assert 5 == len(await tx.fetch("select * from effect"))
        copied: list[bytes] = []

        async def keep(data: bytes) -> None:
            copied.append(data)

        await tx.copy_from_query("select name from effect order by id", output=keep)
        assert b"a\nb\nc\nd\ne\n" == b"".join(copied)

    with pytest.raises(errors.MisuseError, match="ended found"):
        await tx.fetch("select 1")


async def test_the_next_user_finds_the_session_as_it_was(shards: primary.Shards) -> None:
    async with transaction.Transaction(shards) as tx:
        await tx.execute("set statement_timeout = '77s'")
        await tx.execute("select pg_advisory_lock(77)")

    async with transaction.Transaction(shards) as tx:
        assert "0" == await tx.fetchval("show statement_timeout")
        assert 0 == await tx.fetchval("select count(*) from pg_locks where locktype = 'advisory'")


async def test_isolation_is_what_was_asked_for(shards: primary.Shards) -> None:
    async with transaction.Transaction(shards, transaction.Options(isolation="repeatable_read")) as tx:
        assert "repeatable read" == await tx.fetchval("show transaction_isolation")

    options = transaction.Options(isolation="serializable", readonly=True, deferrable=True)
    async with transaction.Transaction(shards, options) as tx:
        assert tx.token is None
        assert "on" == await tx.fetchval("show transaction_read_only")


async def test_serialization_failures_are_retried_until_all_are_counted(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    await run.execute_once(shards, "execute", "insert into account values ('ada', 0)")
    tries = 0

    async def add(tx: transaction.Transaction) -> None:
        nonlocal tries
        tries += 1
        balance = await tx.fetchval("select balance from account where name = 'ada'")
        await tx.execute("update account set balance = $1 where name = 'ada'", balance + 1)

    options = transaction.Options(isolation="serializable", timeout=20)
    await asyncio.gather(*(run.run(shards, add, options=options) for _ in range(12)))

    assert 12 == await cluster.primary.sql("select balance from account", database="shop")
    assert tries > 12


async def test_a_write_beside_an_open_transaction_of_the_task_is_refused(shards: primary.Shards) -> None:
    async with transaction.Transaction(shards) as tx:
        assert tx is transaction.current()
        with pytest.raises(errors.InsideTransaction, match=r"await tx\.execute"):
            await run.execute_once(shards, "execute", "delete from effect")
        with pytest.raises(errors.InsideTransaction):
            await run.run(shards, insert, ("one",))
        with pytest.raises(errors.InsideTransaction):
            async with transaction.Transaction(shards):
                pass
        await asyncio.create_task(run.execute_once(shards, "execute", "insert into effect (name) values ('other')"))

    assert transaction.current() is None


async def test_a_statement_is_ended_at_the_deadline(cluster: postgres_cluster.Cluster, shards: primary.Shards) -> None:
    with pytest.raises(errors.DeadlineExceeded, match="nothing is written"):
        async with transaction.Transaction(shards, transaction.Options(timeout=0.3)) as tx:
            await insert(tx, "one")
            await tx.execute("select pg_sleep(30)")
    with pytest.raises(TimeoutError):
        async with transaction.Transaction(shards, transaction.Options(timeout=20)) as tx:
            await insert(tx, "one")
            await tx.execute("select pg_sleep(30)", timeout=0.1)

    assert [] == await names(cluster)


async def test_a_cancelled_body_writes_nothing(cluster: postgres_cluster.Cluster, shards: primary.Shards) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), transaction.Transaction(shards) as tx:
            await insert(tx, "one")
            await tx.execute("select pg_sleep(30)")

    assert [] == await names(cluster)
    await run.execute_once(shards, "execute", "insert into effect (name) values ('two')")
    assert ["two"] == await names(cluster)


async def test_what_refuses_transactions_runs_without_one(shards: primary.Shards) -> None:
    await run.execute_once(shards, "execute", "vacuum effect")
    await run.execute_once(shards, "execute", "create index concurrently if not exists effect_name on effect (name)")


async def test_a_script_that_commits_by_itself_is_recognised(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    await run.execute_once(shards, "execute", "insert into effect (name) values ('one'); commit; select 1")

    assert ["one"] == await names(cluster)


async def test_after_commit_runs_only_after_a_commit(shards: primary.Shards, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[object] = []

    async def note(at: object) -> None:
        seen.append(at)

    async def fail(at: object) -> None:
        raise ValueError("flawed")

    async with transaction.Transaction(shards) as tx:
        tx.after_commit(fail)
        tx.after_commit(note)
        assert [] == seen
    with pytest.raises(RuntimeError):
        async with transaction.Transaction(shards) as failed:
            failed.after_commit(note)
            raise RuntimeError

    assert [tx.at] == seen
    assert "an after-commit callback failed" in caplog.text


async def test_a_write_after_the_response_is_warned_about_once(
    shards: primary.Shards, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), request.serving(request.Request(has_responded=True, deadline=0.0)):
        for _ in range(3):
            await run.execute_once(shards, "execute", "insert into effect (name) values ('late')")

    (warned,) = [record for record in caplog.records if "its position cannot reach" in record.message]
    assert "in test_a_write_after_the_response" in warned.message, "it names whose write it was"


async def test_old_tokens_are_pruned_and_young_ones_kept(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    day = 86400
    old, young, slow_clock, key = (
        tokens.oldest_of(time.time() - 2 * day),
        tokens.fresh().id,
        tokens.oldest_of(1),
        tokens.FIRST_WITH_KEY,
    )
    rows = ((old, 2 * day), (young, 0), (slow_clock, 0), (key, 2 * day))
    for token, age in rows:
        await cluster.primary.sql(
            "insert into tenfold.commit (token, created_at) values ($1, now() - $2 * interval '1 second')",
            token, age, database="shop",
        )  # fmt: skip

    lease = await shards.primary(0, asyncio.get_running_loop().time() + 5)
    await prune.prune(lease, day)
    await lease.release()

    left = await cluster.primary.sql("select array_agg(token order by token) from tenfold.commit", database="shop")
    assert [slow_clock, young] == left


async def test_migrating_twice_changes_nothing(cluster: postgres_cluster.Cluster) -> None:
    await asyncio.gather(*(cluster.primary.script(schema.statements("app")) for _ in range(3)))

    count = await cluster.primary.sql("select count(*) from tenfold.version", database="shop")
    assert schema.VERSION == count
    assert "" == await cluster.primary.sql("select tenfold.timeline_history()", database="shop")
