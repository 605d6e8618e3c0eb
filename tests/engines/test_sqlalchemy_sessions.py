"""SQLAlchemy sessions on `tf.db`, on a real primary with a replica: what they commit, read, refuse and give back."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event, exc, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from support import orm, postgres_cluster, proxy, write_database
from tenfold import Tenfold, errors, request
from tenfold.kit import clock
from tenfold.sqlalchemy import Sessions

pytestmark = pytest.mark.anyio

NETWORK = 75
WHERE = select(func.host(func.inet_server_addr()))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    made = postgres_cluster.Cluster(tmp_path_factory.mktemp("orm"), NETWORK)
    try:
        asyncio.run(made.start(1))
        asyncio.run(orm.prepare(made))
        yield made
    finally:
        asyncio.run(made.stop())


@pytest.fixture
async def started(cluster: postgres_cluster.Cluster) -> AsyncIterator[tuple[Tenfold, Sessions]]:
    await cluster.primary.script("truncate effect; truncate account; truncate tenfold.commit")
    await cluster.until_caught_up()
    async with orm.started(cluster.bound) as made:
        yield made
        assert 0 == busy(made[1]), "every connection came back"


@pytest.fixture
def tf(started: tuple[Tenfold, Sessions]) -> Tenfold:
    return started[0]


@pytest.fixture
def sessions(started: tuple[Tenfold, Sessions]) -> Sessions:
    return started[1]


def busy(sessions: Sessions) -> int:
    """Connections in somebody's hands."""
    return sum(node.pool.busy for node in sessions._database.shards.shard(0).nodes.values())


async def tokens(cluster: postgres_cluster.Cluster) -> int:
    return int(await cluster.primary.sql("select count(*) from tenfold.commit", database="shop"))


async def test_run_commits_and_what_it_returns_can_be_used(
    cluster: postgres_cluster.Cluster, sessions: Sessions
) -> None:
    async def make(session: AsyncSession, name: str) -> orm.Effect:
        made = orm.Effect(name=name)
        session.add(made)
        return made

    made = await sessions.run(make, "one")

    assert "one" == made.name
    assert made.id > 0
    assert ["one"] == await orm.names(cluster.primary)
    assert 1 == await tokens(cluster)


async def test_a_decorated_function_is_called_without_its_session(
    cluster: postgres_cluster.Cluster, sessions: Sessions
) -> None:
    add = sessions.retrying(orm.add)

    assert "one" == await add("one")
    assert ["one"] == await orm.names(cluster.primary)


async def test_two_that_conflict_both_happen(cluster: postgres_cluster.Cluster, sessions: Sessions) -> None:
    await cluster.primary.script("insert into account values ('ada', 0)")
    tries = 0

    async def increase(session: AsyncSession) -> None:
        nonlocal tries
        tries += 1
        account = await session.get_one(orm.Account, "ada")
        account.balance += 1
        await asyncio.sleep(0.01)

    serializable = sessions.options(isolation="serializable", timeout=20)
    await asyncio.gather(*(serializable.run(increase) for _ in range(4)))

    assert 4 == await cluster.primary.sql("select balance from account", database="shop")
    assert tries > 4


async def test_what_conflicts_until_the_deadline_is_raised_as_sqlalchemy_raises_it(sessions: Sessions) -> None:
    async def conflict(session: AsyncSession) -> None:
        await session.execute(text("do $$ begin raise exception 'again' using errcode = '40001'; end $$"))

    with pytest.raises(exc.DBAPIError, match="again"):
        await sessions.options(timeout=0.3).run(conflict)


async def test_a_session_that_was_rolled_back_goes_on(cluster: postgres_cluster.Cluster, sessions: Sessions) -> None:
    async def find_or_make(session: AsyncSession) -> str:
        session.add_all([orm.Effect(name="undone"), orm.Account(name="ada", balance=-1)])
        try:
            await session.flush()
        except exc.IntegrityError:
            await session.rollback()
            await orm.add(session, "instead")
        return "done"

    assert "done" == await sessions.run(find_or_make)
    assert ["instead"] == await orm.names(cluster.primary)
    assert 1 == await tokens(cluster), "it commits under its token still"


async def test_a_part_that_may_fail_is_a_savepoint(cluster: postgres_cluster.Cluster, sessions: Sessions) -> None:
    async def mostly(session: AsyncSession) -> None:
        await orm.add(session, "kept")
        with pytest.raises(exc.IntegrityError):
            async with session.begin_nested():
                session.add(orm.Account(name="ada", balance=-1))

    await sessions.run(mostly)
    assert ["kept"] == await orm.names(cluster.primary)


async def test_a_function_that_commits_is_told_not_to(cluster: postgres_cluster.Cluster, sessions: Sessions) -> None:
    async def commits(session: AsyncSession) -> None:
        await orm.add(session, "one")
        await session.commit()

    with pytest.raises(errors.MisuseError, match=r"remove `await session.commit\(\)`"):
        await sessions.run(commits)
    assert [] == await orm.names(cluster.primary)


async def test_an_error_of_the_apps_own_undoes_everything_and_is_not_repeated(
    cluster: postgres_cluster.Cluster, sessions: Sessions
) -> None:
    tries = 0

    async def fails(session: AsyncSession) -> None:
        nonlocal tries
        tries += 1
        await orm.add(session, "one")
        raise ConnectionResetError("an HTTP client's")

    with pytest.raises(ConnectionResetError):
        await sessions.run(fails)
    assert 1 == tries
    assert [] == await orm.names(cluster.primary)
    await sessions.run(orm.add, "after")


async def test_events_after_the_commit_come_after_the_commit(
    cluster: postgres_cluster.Cluster, sessions: Sessions
) -> None:
    seen: list[bool] = []

    async def adds(session: AsyncSession) -> None:
        event.listen(session.sync_session, "after_commit", lambda _: seen.append(tx_is_over()))
        await orm.add(session, "one")

    def tx_is_over() -> bool:
        return not any(node.pool.busy for node in sessions._database.shards.shard(0).nodes.values())

    await sessions.run(adds)
    assert [True] == seen


async def test_a_repeat_of_a_request_with_a_key_gets_the_first_answer(
    cluster: postgres_cluster.Cluster, sessions: Sessions
) -> None:
    for _ in range(2):
        key = request.IdempotencyKey(scope="POST /effects", key="k", fingerprint=b"f")
        with request.serving(request.Request(idempotency=key)):
            assert "one" == await sessions.run(orm.add, "one")

    assert ["one"] == await orm.names(cluster.primary)


async def test_a_plain_session_commits_under_a_token(cluster: postgres_cluster.Cluster, sessions: Sessions) -> None:
    async with sessions() as session, session.begin():
        await orm.add(session, "one")
    async with sessions() as session:
        await orm.add(session, "two")
        await session.commit()
        await orm.add(session, "undone")

    assert ["one", "two"] == await orm.names(cluster.primary)
    assert 2 == await tokens(cluster)


async def test_a_write_of_another_kind_inside_a_session_is_refused(tf: Tenfold, sessions: Sessions) -> None:
    async with sessions() as session:
        await orm.add(session, "one")
        with pytest.raises(errors.InsideTransaction):
            await tf.db.execute("insert into effect (name) values ('two')")


async def test_a_connection_lost_before_the_commit_is_not_committed_and_run_repeats(
    cluster: postgres_cluster.Cluster,
) -> None:
    await cluster.primary.script("truncate effect")
    server = cluster.primary
    async with proxy.proxy(server.host, 5433, (server.host, server.port)) as door:
        bound = write_database.through(cluster.bound, {server.name: (door.host, door.port)})
        async with orm.started(bound) as (_, sessions):
            tries = 0

            async def cut_once(session: AsyncSession, name: str) -> None:
                nonlocal tries
                tries += 1
                await orm.add(session, name)
                if tries == 1:
                    door.cut_all()
                await orm.add(session, f"{name} too")

            await sessions.run(cut_once, "run")
            assert 2 == tries

            tries = 0
            async with sessions() as session:
                with pytest.raises(errors.NotCommitted, match="nothing was written"):
                    await cut_once(session, "plain")
            async with sessions() as session:
                await orm.add(session, "after")
                await session.commit()
            assert 0 == busy(sessions)
    assert ["run", "run too", "after"] == await orm.names(cluster.primary)


async def test_a_read_only_session_is_never_behind_its_own_writes(
    cluster: postgres_cluster.Cluster, sessions: Sessions
) -> None:
    replica = cluster.replicas[0]
    await replica.pause_replay()
    try:
        with request.serving(request.Request(is_known=True)):
            await sessions.run(orm.add, "mine")
            async with sessions.reading() as session:
                assert "mine" == await session.scalar(select(orm.Effect.name))
        with request.serving(request.Request(is_known=True)):
            async with sessions() as session:
                await orm.add(session, "by hand")
                await session.commit()
            async with sessions.reading("session") as session:
                assert 2 == await session.scalar(select(func.count()).select_from(orm.Effect))
        async with sessions.reading("eventual") as session:
            assert replica.host == await session.scalar(WHERE)
            assert 0 == await session.scalar(select(func.count()).select_from(orm.Effect)), "the check can fail"
    finally:
        await replica.resume_replay()


async def test_all_statements_of_a_request_read_from_one_copy(
    cluster: postgres_cluster.Cluster, tf: Tenfold, sessions: Sessions
) -> None:
    with request.serving(request.Request(is_known=True)):
        async with sessions.reading() as session:
            first = await session.scalar(WHERE)
        async with sessions.reading() as session:
            assert first == await session.scalar(WHERE)
        assert first == await tf.db.fetchval("select host(inet_server_addr())")


async def test_a_read_only_session_refuses_to_write_on_every_copy(sessions: Sessions) -> None:
    for level in ("primary", "eventual"):
        async with sessions.reading(level) as session:
            session.add(orm.Effect(name="no"))
            with pytest.raises(errors.MisuseError, match=r"sessions.run"):
                await session.flush()


async def test_json_is_translated_for_the_models_and_for_nobody_else(
    cluster: postgres_cluster.Cluster, tf: Tenfold, sessions: Sessions
) -> None:
    async def make(session: AsyncSession) -> Any:
        session.add(orm.Account(name="ada", balance=1, notes={"likes": ["tea"]}))
        await session.flush()
        return await session.scalar(select(orm.Account.notes))

    with tf.db.session():
        assert {"likes": ["tea"]} == await sessions.run(make), "on the very first connection"
        async with sessions.reading("primary") as session:
            assert {"likes": ["tea"]} == (await session.get_one(orm.Account, "ada")).notes
        assert '{"likes": ["tea"]}' == await tf.db.fetchval("select notes from account")


async def test_a_migration_under_a_prepared_statement_costs_one_try(
    cluster: postgres_cluster.Cluster, sessions: Sessions
) -> None:
    async def read(session: AsyncSession) -> Any:
        return (await session.execute(text("select * from account"))).all()

    await cluster.primary.script("insert into account values ('ada', 1)")
    assert [("ada", 1, None)] == await sessions.run(read)
    await cluster.primary.script("alter table account add column born date")
    try:
        assert [("ada", 1, None, None)] == await sessions.run(read)
    finally:
        await cluster.primary.script("alter table account drop column born")


async def test_a_statement_is_prepared_once_on_a_connection(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    prepare = asyncpg.Connection.prepare

    async def count(self: Any, query: str, **options: Any) -> Any:
        asked.append(query)
        return await prepare(self, query, **options)

    await sessions.run(orm.add, "first")
    monkeypatch.setattr(asyncpg.Connection, "prepare", count)
    for _ in range(5):
        await sessions.run(orm.add, "again")

    assert [] == asked


async def test_rows_can_be_streamed(cluster: postgres_cluster.Cluster, sessions: Sessions) -> None:
    await cluster.primary.script("insert into effect (name) select 'e' || i from generate_series(1, 2000) as i")
    async with sessions.reading("primary") as session:
        rows = await session.stream(select(orm.Effect.name))
        assert 2000 == len([row async for row in rows])


async def test_many_rows_go_in_one_statement_and_by_executemany(
    cluster: postgres_cluster.Cluster, sessions: Sessions
) -> None:
    async def both(session: AsyncSession) -> None:
        session.add_all([orm.Account(name=str(number), balance=number) for number in range(50)])
        await session.flush()
        changes = [{"name": str(number), "balance": 1} for number in range(50)]
        await session.execute(update(orm.Account), changes)

    await sessions.run(both)
    assert 50 == await cluster.primary.sql("select sum(balance) from account", database="shop")


async def test_a_cancelled_session_gives_its_connection_back(
    cluster: postgres_cluster.Cluster, sessions: Sessions
) -> None:
    async def sleeps(session: AsyncSession) -> None:
        await orm.add(session, "one")
        await session.execute(text("select pg_sleep(60)"))

    async def by_hand() -> None:
        async with sessions() as session:
            await sleeps(session)

    async def only_reads() -> None:
        async with sessions.reading("eventual") as session:
            await session.execute(text("select pg_sleep(60)"))

    for work in (sessions.run(sleeps), by_hand(), only_reads()):
        task = asyncio.create_task(work)  # type: ignore[arg-type]
        assert await clock.until(lambda: asleep(cluster), seconds=10, pause_seconds=0.02)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert 0 == busy(sessions)
    await sessions.run(orm.add, "after")
    assert ["after"] == await orm.names(cluster.primary)


async def asleep(cluster: postgres_cluster.Cluster) -> bool:
    query = "select count(*) from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'"
    counts = [await server.sql(query) for server in cluster.servers]
    return bool(sum(counts))


async def test_a_session_that_nobody_closed_is_closed_by_the_garbage_collector(sessions: Sessions) -> None:
    session = sessions()
    await orm.add(session, "one")
    await session.connection()
    assert 1 == busy(sessions)
    with pytest.warns(exc.SAWarning, match="garbage collector"):  # noqa: PT031 - the warning comes from the collection
        del session
        gc.collect()
        await asyncio.sleep(0)

    assert 0 == busy(sessions)
    await sessions.run(orm.add, "after")


async def test_a_statement_that_still_runs_at_the_deadline_is_cut(sessions: Sessions) -> None:
    async def sleeps(session: AsyncSession) -> None:
        await session.execute(text("select pg_sleep(60)"))

    with pytest.raises(errors.DeadlineExceeded):
        await sessions.options(timeout=0.3).run(sleeps)


async def test_autocommit_and_a_pool_of_sqlalchemys_own_are_refused(tf: Tenfold, sessions: Sessions) -> None:
    with pytest.raises(errors.MisuseError, match="pool_size"):
        Sessions(tf, engine={"pool_size": 5})
    with pytest.raises(errors.MisuseError, match=r"tf.db.connect"):
        Sessions(tf, engine={"isolation_level": "AUTOCOMMIT"})
    async with sessions.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        with pytest.raises(errors.MisuseError, match=r"tf.db.connect"):
            await connection.execute(text("select 1"))


async def test_sessions_may_be_made_after_the_start_with_an_init_and_a_class_of_the_apps_own(tf: Tenfold) -> None:
    class Mine(AsyncSession):
        """An app's own."""

    made = []

    async def init(connection: Any) -> None:
        made.append(connection)

    arguments = {"server_settings": {"application_name": "mine"}}
    repeatable = {"isolation_level": "REPEATABLE READ"}
    late = Sessions(tf, init=init, connect_args=arguments, class_=Mine, engine=repeatable)

    async def ask(session: AsyncSession) -> list[Any]:
        assert isinstance(session, Mine)
        return [await session.scalar(text(f"show {name}")) for name in ("application_name", "transaction_isolation")]

    assert ["mine", "repeatable read"] == await late.run(ask)
    assert made


async def test_a_session_invalidates_what_is_cached_with_its_commit_or_not_at_all(
    tf: Tenfold, sessions: Sessions, cluster: postgres_cluster.Cluster
) -> None:
    count = "select count(*) from tenfold.invalidation"

    async def change(session: AsyncSession, name: str) -> None:
        session.add(orm.Effect(name=name))
        await (await sessions.transaction_of(session)).invalidate(tags=["effects"])

    before = await cluster.primary.sql(count, database="shop")
    await sessions.run(change, "run")
    async with sessions() as session:
        await change(session, "committed")
        await session.commit()
        await change(session, "rolled back")
        await session.rollback()

    assert before + 2 == await cluster.primary.sql(count, database="shop")
    async with sessions.reading() as session:
        with pytest.raises(errors.MisuseError, match="only reads"):
            await sessions.transaction_of(session)
