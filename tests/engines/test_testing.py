"""The pytest plugin for users' apps, as users meet it: pytest in their project, with either async plugin, or several
workers, or killed."""

import asyncio
import signal
from pathlib import Path

import pytest

from support import inner_pytest, project
from tenfold.kit import clock

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

EVERYDAY = (
    inner_pytest.BACKEND
    + """
import asyncio, asyncpg, os, psycopg

@pytest.fixture
async def ada(client):
    assert 201 == (await client.post("/notes", content="milk")).status_code
    return client

@pytest.mark.anyio
async def test_an_async_fixture_may_use_the_client(ada):
    assert ["from the migration", "milk"] == (await ada.get("/notes")).json()

@pytest.mark.anyio
@pytest.mark.parametrize("number", range(3))
async def test_each_test_has_a_fresh_database(client, tf, number):
    assert ["from the migration"] == (await client.get("/notes")).json()
    await client.post("/notes", content="mine")
    assert 2 == await tf.db.fetchval("select count(*) from note")

@pytest.mark.anyio
@pytest.mark.parametrize("number", range(2))
async def test_each_test_has_an_empty_cache(tf, number):
    async def count():
        return await tf.db.fetchval("select count(*) from note")
    assert None is await tf.cache.get("notes")
    assert 1 == await tf.cache.get_or_load("notes", count, tags=["notes"])
    async with tf.db.transaction() as tx:
        await tx.execute("insert into note (text) values ('mine')")
        await tx.invalidate(tags=["notes"])
    assert 2 == await tf.cache.get_or_load("notes", count, tags=["notes"])
    await tf.cache.set("notes", number)

@pytest.mark.anyio
async def test_the_lifespan_runs_and_the_environment_is_set(client, app):
    assert {"who": None, "at_start": 1, "greeting": "hello"} == (await client.get("/about")).json()
    assert 1 == app.state.at_start

@pytest.mark.anyio
async def test_a_client_keeps_secure_cookies_and_another_user_has_none(ada, new_client):
    assert "Ada" == (await ada.get("/about")).json()["who"]
    assert None is (await new_client().get("/about")).json()["who"]

def test_a_plain_test_may_have_a_database(tenfold_database):
    assert os.environ["DATABASE_URL"] == tenfold_database.url
    async def count():
        connection = await asyncpg.connect(tenfold_database.url)
        try:
            return await connection.fetchval("select count(*) from note")
        finally:
            await connection.close()
    assert 1 == asyncio.run(count())

def test_changed_migrations_make_a_new_template(tenfold_database, request):
    more = request.config.rootpath / "migrations" / "20260102000000_more.sql"
    more.write_text("-- migrate:up\\ncreate table more (id int);\\n-- migrate:down\\ndrop table more;\\n")

@pytest.mark.anyio
async def test_changed_migrations_are_there(tf):
    assert 0 == await tf.db.fetchval("select count(*) from more")

KEPT = []

def test_a_session_may_be_forgotten(tenfold_database):
    KEPT.append(psycopg.connect(tenfold_database.url))
    KEPT[0].execute("lock table note")

@pytest.mark.anyio
async def test_the_next_test_does_not_mind(client, tf):
    assert 201 == (await client.post("/notes", content="mine")).status_code
    with pytest.raises(psycopg.OperationalError):
        KEPT[0].execute("select 1")
    KEPT[0].close()

def test_wrong_a_plain_test_has_no_client(client):
    pass
"""
)


async def test_everyday_tests_under_anyio(tmp_path: Path) -> None:
    inner_pytest.make(tmp_path, EVERYDAY)
    ended = await inner_pytest.run(tmp_path)
    assert ["test_wrong_a_plain_test_has_no_client"] == ended.tests("ERROR"), ended.output
    assert 13 == len(ended.tests("PASSED")), ended.output
    assert "live on the event loop of an async test. Write `async def`" in ended.output
    assert not inner_pytest.left_behind(tmp_path)


SIMULATIONS = (
    inner_pytest.BACKEND
    + """
import asyncio
pytestmark = pytest.mark.anyio

async def count(tf, text):
    return await tf.db.reading("primary").fetchval("select count(*) from note where text = $1", text)

@pytest.mark.parametrize("committed", [True, False])
async def test_a_lost_commit_is_written_once(client, tf, simulate, committed):
    await simulate.lost_commit(committed=committed)
    assert 201 == (await client.post("/notes", content="once")).status_code
    assert 1 == await count(tf, "once")

async def test_wrong_a_lost_commit_that_never_came(client, simulate):
    await simulate.lost_commit()
    await client.get("/notes")

async def test_who_wrote_sees_it_while_others_read_the_past(client, new_client, simulate):
    await simulate.replica_lag()
    await client.post("/notes", content="new")
    assert "new" in (await client.get("/notes")).json()
    assert ["from the migration"] == (await new_client().get("/notes")).json()

async def test_a_replica_that_lags_shows_it_later(client, new_client, simulate):
    await simulate.replica_lag(0.5)
    await client.post("/notes", content="new")
    assert ["from the migration"] == (await new_client().get("/notes")).json()
    while "new" not in (await new_client().get("/notes")).json():
        await asyncio.sleep(0.05)

async def test_requests_go_on_through_a_failover(client, tf, simulate, new_client):
    written = 0
    is_over = False

    async def write():
        nonlocal written
        while not is_over:
            assert 201 == (await client.post("/notes", content="through")).status_code
            written += 1

    writer = asyncio.create_task(write())
    await simulate.failover()
    after = written
    while written < after + 3 and not writer.done():
        await asyncio.sleep(0.01)
    is_over = True
    await writer
    assert written == await count(tf, "through")

async def test_each_failover_is_to_another_server_and_the_old_one_is_dead(client, tf, simulate):
    seen = []
    for number in (1, 2):
        seen.append(await tf.db.reading("primary").fetchval("select host(inet_server_addr())"))
        await simulate.failover()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(seen[-1], 5432)
        await client.post("/notes", content="x")
        assert number == await count(tf, "x")
    assert 2 == len(set(seen))

async def test_later_tests_go_on(client, tf):
    assert 0 == await count(tf, "x")
    await client.post("/notes", content="x")
    assert 1 == await count(tf, "x")
"""
)


async def test_what_production_will_do(tmp_path: Path) -> None:
    inner_pytest.make(tmp_path, SIMULATIONS)
    ended = await inner_pytest.run(tmp_path)
    assert ["test_wrong_a_lost_commit_that_never_came"] == [name.partition("[")[0] for name in ended.tests("ERROR")], (
        ended.output
    )
    assert [] == ended.tests("FAILED"), ended.output
    assert 7 == len([name for name in ended.tests("PASSED") if "wrong" not in name]), ended.output
    assert "1 of 1 did not happen: no COMMIT came after it" in ended.output
    assert not inner_pytest.left_behind(tmp_path)


STRICT = """
import pytest, pytest_asyncio

@pytest_asyncio.fixture
async def ada(client):
    await client.post("/notes", content="milk")
    return client

@pytest.mark.asyncio
async def test_a_loop_for_each_test(ada, tf):
    assert 2 == await tf.db.fetchval("select count(*) from note")

@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("number", range(2))
async def test_a_loop_for_the_module(client, tf, number):
    await client.post("/notes", content="milk")
    assert 2 == await tf.db.fetchval("select count(*) from note")

@pytest.mark.asyncio
async def test_simulations(client, tf, simulate):
    await simulate.lost_commit()
    await client.post("/notes", content="milk")
    assert 2 == await tf.db.fetchval("select count(*) from note")

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_anyio_beside_it(client):
    await client.post("/notes", content="milk")
    assert 2 == len((await client.get("/notes")).json())
"""

AUTO = """
import pytest

@pytest.fixture
async def ada(client):
    await client.post("/notes", content="milk")
    return client

@pytest.mark.parametrize("number", range(2))
async def test_nothing_is_marked(ada, tf, number):
    assert 2 == await tf.db.fetchval("select count(*) from note")

@pytest.mark.asyncio(loop_scope="session")
async def test_a_loop_for_the_session(client, tf):
    assert 1 == await tf.db.fetchval("select count(*) from note")
"""


async def test_pytest_asyncio_in_strict_mode(tmp_path: Path) -> None:
    inner_pytest.make(tmp_path, STRICT, configuration="asyncio_default_fixture_loop_scope = function\n")
    ended = await inner_pytest.run(tmp_path, has_pytest_asyncio=True)
    assert (0, 5) == (ended.code, len(ended.tests("PASSED"))), ended.output


async def test_pytest_asyncio_in_auto_mode(tmp_path: Path) -> None:
    configuration = "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    inner_pytest.make(tmp_path, AUTO, configuration=configuration)
    ended = await inner_pytest.run(tmp_path, has_pytest_asyncio=True)
    assert (0, 3) == (ended.code, len(ended.tests("PASSED"))), ended.output


WORKERS = (
    inner_pytest.BACKEND
    + """
import os
from pathlib import Path
pytestmark = pytest.mark.anyio

@pytest.mark.parametrize("number", range(12))
async def test_the_workers_share(client, tf, tenfold_database, number, worker_id):
    await client.post("/notes", content="mine")
    assert 2 == await tf.db.fetchval("select count(*) from note")
    host, port = tenfold_database.bound.shards[0].nodes[0].host, tenfold_database.bound.shards[0].nodes[0].port
    Path(os.environ["SEEN"], f"{worker_id}-{number}").write_text(f"{host} {tenfold_database.name}")

async def test_one_of_them_may_kill_its_own(client, tf, simulate):
    await simulate.failover()
    await client.post("/notes", content="mine")
    assert 2 == await tf.db.reading("primary").fetchval("select count(*) from note")
"""
)


async def test_workers_of_one_run_share_its_postgresql(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    inner_pytest.make(tmp_path, WORKERS)
    ended = await inner_pytest.run(tmp_path, "-n", "3", SEEN=str(seen))
    assert (0, 13) == (ended.code, len(ended.tests("PASSED"))), ended.output
    notes = {path.name.partition("-")[0]: path.read_text().split() for path in seen.iterdir()}
    assert 1 == len({host for host, _ in notes.values()})
    assert {(worker, f"notes_{worker}") for worker in notes} == {(worker, name) for worker, (_, name) in notes.items()}
    assert not inner_pytest.left_behind(tmp_path)


BY_URL = (
    inner_pytest.BACKEND
    + """
import asyncpg
pytestmark = pytest.mark.anyio

@pytest.mark.parametrize("number", range(2))
async def test_an_app_that_knows_only_its_url(client, number):
    assert 0 == (await client.get("/")).json()
    await client.post("/")
    assert 1 == (await client.get("/")).json()

async def test_its_connections_lead_to_the_new_primary(client, simulate):
    await client.post("/")
    await simulate.failover()
    await client.post("/")
    assert 2 == (await client.get("/")).json()

async def test_wrong_a_lost_commit_is_its_own_affair(client, simulate):
    await simulate.lost_commit()
    await client.post("/")
"""
)

URL_APP = '''
"""An app without the SDK, made by a factory, whose address is read when it is imported."""
import os
import asyncpg
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

URL = os.environ["DATABASE_URL"]

async def write(request):
    connection = await asyncpg.connect(URL)
    try:
        async with connection.transaction():
            await connection.execute("insert into visit default values")
    finally:
        await connection.close()
    return JSONResponse(None)

async def read(request):
    connection = await asyncpg.connect(URL)
    try:
        return JSONResponse(await connection.fetchval("select count(*) from visit"))
    finally:
        await connection.close()

def create():
    return Starlette(routes=[Route("/", write, methods=["POST"]), Route("/", read)])
'''

TEMPLATE = """
import asyncio, asyncpg, os

def pytest_tenfold_template(url):
    assert os.environ["DATABASE_URL"] == url, "where alembic's env.py may look"

    async def migrate():
        connection = await asyncpg.connect(url)
        await connection.execute("create table visit (id bigint generated always as identity)")
        await connection.close()
    asyncio.run(migrate())
"""


async def test_an_app_without_the_sdk_and_without_a_topology(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "visits.py").write_text(URL_APP)
    (tmp_path / "tests" / "conftest.py").write_text(TEMPLATE)
    (tmp_path / "tests" / "test_it.py").write_text(BY_URL)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntenfold_factory = visits:create\ntenfold_directory = src\n")
    ended = await inner_pytest.run(tmp_path)
    assert ["test_wrong_a_lost_commit_is_its_own_affair"] == ended.tests("FAILED"), ended.output
    assert "ConnectionDoesNotExistError" in ended.output
    assert 3 == len(ended.tests("PASSED")), ended.output


WAITING = (
    inner_pytest.BACKEND
    + """
import time
from pathlib import Path

def test_it(tenfold_database):
    Path("started").touch()
    time.sleep(200)
"""
)


async def test_a_run_that_is_killed_leaves_nothing_running_and_the_next_cleans_up(tmp_path: Path) -> None:
    inner_pytest.make(tmp_path, WAITING)
    killed = await asyncio.create_subprocess_exec(
        *inner_pytest.command("-q"),
        cwd=tmp_path,
        env=inner_pytest.environment(),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )

    async def has_started() -> bool:
        return (tmp_path / "started").exists()

    assert await clock.until(has_started, seconds=60)
    assert inner_pytest.servers(tmp_path)
    killed.send_signal(signal.SIGKILL)
    await killed.wait()

    async def is_quiet() -> bool:
        return not inner_pytest.servers(tmp_path)

    assert await clock.until(is_quiet, seconds=10)
    assert inner_pytest.left_behind(tmp_path)
    inner_pytest.make(tmp_path, "def test_it(tenfold_database):\n    pass\n")
    ended = await inner_pytest.run(tmp_path)
    assert 0 == ended.code, ended.output
    assert not inner_pytest.left_behind(tmp_path)


async def test_the_shop_passes_its_own_tests() -> None:
    ended = await inner_pytest.run(project.ROOT / "examples" / "shop")
    assert (0, 8) == (ended.code, len(ended.tests("PASSED"))), ended.output
