"""The migration runner on a real PostgreSQL with the real dbmate."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import asyncpg
import pytest

from support import postgres_cluster
from tenfold import errors
from tenfold.runtime import migrate

NETWORK = 10

TABLE = "-- migrate:up\ncreate table {name} (id int);\n-- migrate:down\ndrop table {name};\n"


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One event loop for the module: its tests share one PostgreSQL."""
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[postgres_cluster.Cluster]:
    async with postgres_cluster.cluster(tmp_path_factory.mktemp("pg"), NETWORK, replicas=0) as made:
        yield made


@pytest.fixture
async def app(cluster: postgres_cluster.Cluster) -> migrate.Address:
    """A database of this test's own."""
    name = f"t{uuid.uuid4().hex}"
    await cluster.primary.script(f"create database {name} owner {postgres_cluster.USER}", "postgres")
    return address(cluster, name)


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    folder.mkdir()
    return folder


def address(cluster: postgres_cluster.Cluster, name: str) -> migrate.Address:
    return migrate.Address(cluster.primary.host, postgres_cluster.USER, postgres_cluster.PASSWORD, name)


async def value(app: migrate.Address, query: str) -> object:
    connection = await asyncpg.connect(
        host=app.host, user=app.user, password=app.password, database=app.database, timeout=5
    )
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


@pytest.mark.anyio
async def test_files_run_once_and_in_the_order_of_their_names(app: migrate.Address, migrations: Path) -> None:
    (migrations / "002_second.sql").write_text("-- migrate:up\nalter table first add name text;\n-- migrate:down\n")
    (migrations / "001_first.sql").write_text(TABLE.format(name="first"))
    (migrations / "README.md").write_text("not a migration")

    assert ("001_first.sql", "002_second.sql") == await migrate.pending(app, migrations)
    assert ("001_first.sql", "002_second.sql") == await migrate.run(app, migrations)
    assert () == await migrate.pending(app, migrations)
    assert () == await migrate.run(app, migrations)

    (migrations / "003_third.sql").write_text(TABLE.format(name="third"))
    assert ("003_third.sql",) == await migrate.run(app, migrations)
    assert app.user == await value(app, "select tableowner from pg_tables where tablename = 'third'")


@pytest.mark.anyio
async def test_a_missing_folder_has_no_migrations(app: migrate.Address, tmp_path: Path) -> None:
    assert () == await migrate.pending(app, tmp_path / "nothing")
    assert () == await migrate.run(app, tmp_path / "nothing")


@pytest.mark.anyio
async def test_a_failing_file_leaves_nothing_of_itself_and_stops_those_after_it(
    app: migrate.Address, migrations: Path
) -> None:
    (migrations / "001_good.sql").write_text(TABLE.format(name="good"))
    (migrations / "002_bad.sql").write_text(
        "-- migrate:up\ncreate table half (id int);\ninsert into nowhere values (1);\n-- migrate:down\n"
    )
    (migrations / "003_later.sql").write_text(TABLE.format(name="later"))

    with pytest.raises(errors.StepFailed) as failure:
        await migrate.run(app, migrations)

    message = str(failure.value)
    assert message.startswith(f"{migrations}/002_bad.sql: ")
    assert 'relation "nowhere" does not exist' in message
    assert "nothing of this file was done, and 1 after it did not run" in message
    assert "correct the file, and try again" in message
    assert app.password not in message
    assert ["good"] == await value(
        app, "select array_agg(tablename::text) from pg_tables where tablename in ('good', 'half', 'later')"
    )
    assert ("002_bad.sql", "003_later.sql") == await migrate.pending(app, migrations)

    (migrations / "002_bad.sql").write_text(TABLE.format(name="half"))
    assert ("002_bad.sql", "003_later.sql") == await migrate.run(app, migrations)


@pytest.mark.anyio
async def test_a_file_outside_a_transaction_is_not_said_to_be_undone(app: migrate.Address, migrations: Path) -> None:
    (migrations / "001_loose.sql").write_text("-- migrate:up transaction:false\nselect 1/0;\n-- migrate:down\n")
    with pytest.raises(errors.StepFailed, match="outside a transaction, so look at what it has done"):
        await migrate.run(app, migrations)


@pytest.mark.anyio
async def test_two_runs_at_the_same_time_wait_for_each_other(app: migrate.Address, migrations: Path) -> None:
    (migrations / "001_slow.sql").write_text(
        "-- migrate:up\nselect pg_sleep(0.5); create table slow (id int);\n-- migrate:down\n"
    )
    results = await asyncio.gather(*(migrate.run(app, migrations) for _ in range(4)))
    assert [("001_slow.sql",)] * 4 == results
    assert 1 == await value(app, "select count(*) from schema_migrations")


@pytest.mark.anyio
async def test_the_password_is_never_in_a_command_line(app: migrate.Address, migrations: Path) -> None:
    (migrations / "001_slow.sql").write_text("-- migrate:up\nselect pg_sleep(0.5);\n-- migrate:down\n")
    seen: set[str] = set()
    async with anyio.create_task_group() as group:

        async def look() -> None:
            while True:
                seen.update(await anyio.to_thread.run_sync(command_lines))
                await anyio.sleep(0.05)

        group.start_soon(look)
        await migrate.run(app, migrations)
        group.cancel_scope.cancel()
    assert any("dbmate" in line and str(migrations) in line for line in seen)
    assert not [line for line in seen if app.password in line]


@pytest.mark.anyio
async def test_settings_in_a_dotenv_file_change_nothing(app: migrate.Address, migrations: Path) -> None:
    (migrations / "001_first.sql").write_text(TABLE.format(name="first"))
    (migrations / ".env").write_text("DBMATE_MIGRATIONS_TABLE=elsewhere\nDBMATE_MIGRATIONS_DIR=/nowhere\n")
    assert ("001_first.sql",) == await migrate.run(app, migrations)
    assert 1 == await value(app, "select count(*) from schema_migrations")


@pytest.mark.anyio
async def test_two_files_with_one_version_are_refused(app: migrate.Address, migrations: Path) -> None:
    (migrations / "001_one.sql").write_text(TABLE.format(name="one"))
    (migrations / "001_two.sql").write_text(TABLE.format(name="two"))
    with pytest.raises(errors.BadInput, match="several files found with version 001"):
        await migrate.run(app, migrations)


@pytest.mark.anyio
async def test_a_database_that_does_not_answer_is_an_engine_that_failed(migrations: Path) -> None:
    (migrations / "001_one.sql").write_text(TABLE.format(name="one"))
    nowhere = migrate.Address(f"127.{NETWORK}.9.9", "app", "secret", "shop")
    with pytest.raises(errors.EngineFailed, match=f"127.{NETWORK}.9.9:5432"):
        await migrate.run(nowhere, migrations)


@pytest.mark.anyio
async def test_tenfolds_own_tables_are_made_twice_without_harm_and_the_app_may_use_them(
    cluster: postgres_cluster.Cluster, app: migrate.Address
) -> None:
    superuser = migrate.Address(app.host, "postgres", "", app.database)
    await migrate.prepare(superuser, app.user)
    await migrate.prepare(superuser, app.user)
    assert 0 == await value(app, "select count(*) from tenfold.commit")


def command_lines() -> set[str]:
    lines = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return lines
