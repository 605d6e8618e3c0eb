"""A PostgreSQL that belongs to one process: kept between runs, never two on one folder, gone with its owner."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from support import processes, project
from tenfold import errors
from tenfold.kit import clock, enclosure, process, tether
from tenfold.runtime import lone_database, migrate, shared_database
from tenfold.topology import tiers

pytestmark = pytest.mark.anyio

TOPOLOGY = tiers.Topology(service=tiers.Service(name="shop", app="shop.web:app"))

OWNER = """
import asyncio, sys
from pathlib import Path
from tenfold.runtime import lone_database
from tenfold.topology import tiers

async def main():
    topology = tiers.Topology(service=tiers.Service(name="shop", app="shop.web:app"))
    started = await lone_database.start(Path(sys.argv[1]), topology, durable=False)
    print("started", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "database"


@asynccontextmanager
async def connected(where: migrate.Address) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    connection = await asyncpg.connect(
        host=where.host, port=where.port, user=where.user, password=where.password, database=where.database, ssl=False
    )
    try:
        yield connection
    finally:
        await connection.close()


async def test_it_is_made_migrated_and_kept(folder: Path) -> None:
    async with lone_database.running(folder, TOPOLOGY, durable=False) as first:
        files = await first.migrate(project.ROOT / "examples" / "shop" / "migrations")
        assert ("20260101000000_shop.sql", "20260101000100_products.sql") == files
        async with connected(first.app()) as app:
            await app.execute("update shop_product set stock = 7")
            await app.execute("insert into tenfold.commit (token) values (gen_random_uuid())")
        assert (first.node,) == first.bound.shards[0].nodes
    assert not first.is_alive
    async with lone_database.running(folder, TOPOLOGY, durable=False) as again, connected(again.app()) as app:
        assert first.node == again.node
        assert 7 == await app.fetchval("select min(stock) from shop_product")


async def test_a_second_one_on_the_folder_is_refused_and_names_the_process(folder: Path) -> None:
    async with lone_database.running(folder, TOPOLOGY, durable=False) as first:
        with pytest.raises(errors.AlreadyRunning, match=f"PostgreSQL of process {os.getpid()} runs here"):
            await lone_database.start(folder, TOPOLOGY, durable=False)
        assert first.is_alive


async def test_two_folders_have_two_addresses(tmp_path: Path) -> None:
    async with (
        lone_database.running(tmp_path / "one", TOPOLOGY, durable=False) as one,
        lone_database.running(tmp_path / "two", TOPOLOGY, durable=False) as two,
    ):
        assert one.node.host != two.node.host


async def test_it_dies_with_an_owner_that_is_killed_and_starts_again_at_once(folder: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    assert b"started\n" == await owner.stdout.readline()
    running = processes.running_in(folder)
    assert len(running) > 4
    os.kill(owner.pid, signal.SIGKILL)
    await owner.wait()

    async with lone_database.running(folder, TOPOLOGY, durable=False) as again, connected(again.app()) as app:
        assert 1 == await app.fetchval("select 1")
        assert not [one for one in running if one.is_alive]


async def test_a_power_cut_loses_nothing_that_was_committed(folder: Path) -> None:
    started = await lone_database.start(folder, TOPOLOGY)
    async with connected(started.app()) as app:
        await app.execute("create table kept (id int); insert into kept values (1)")
    await started.cut()
    assert not processes.running_in(folder)
    async with lone_database.running(folder, TOPOLOGY) as again, connected(again.app()) as app:
        assert 1 == await app.fetchval("select count(*) from kept")


async def test_one_that_does_not_start_says_why_and_leaves_the_folder_free(folder: Path) -> None:
    async with lone_database.running(folder, TOPOLOGY, durable=False):
        pass
    control = folder / "data" / "postgres" / "global" / "pg_control"
    kept = control.read_bytes()
    control.write_bytes(b"\x01" * len(kept))
    with pytest.raises(errors.EngineFailed, match=r"did not start\n.*database files are incompatible"):
        await lone_database.start(folder, TOPOLOGY, durable=False)
    control.write_bytes(kept)
    async with lone_database.running(folder, TOPOLOGY, durable=False) as again:
        assert again.is_alive


async def test_a_standby_streams_and_can_be_promoted(tmp_path: Path) -> None:
    primary = await lone_database.start(tmp_path / "one", TOPOLOGY, durable=False)
    try:
        standby = await lone_database.start_standby(tmp_path / "two", primary, 2)
        async with connected(primary.app()) as app:
            await app.execute("create table kept (id int); insert into kept values (1)")

        async def has_arrived() -> bool:
            async with connected(standby.app()) as app:
                return bool(await app.fetchval("select to_regclass('kept') is not null"))

        assert await clock.until(has_arrived, seconds=30)
        await primary.cut()
        await lone_database.promote(standby)
        async with connected(standby.app()) as app:
            await app.execute("insert into kept values (2)")
        await standby.stop()
    finally:
        await primary.cut()


MEMBER = """
import asyncio, sys
from pathlib import Path
from tenfold.runtime import shared_database
from tenfold.topology import tiers

async def main():
    topology = tiers.Topology(service=tiers.Service(name="shop", app="shop.web:app"))
    joined = await shared_database.join(Path(sys.argv[1]), topology)
    print(joined.node.host, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(await joined.leave(), flush=True)

asyncio.run(main())
"""


async def member(folder: Path) -> asyncio.subprocess.Process:
    """A process that shares the PostgreSQL in this folder until its input ends."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, "-c", MEMBER, str(folder), stdin=pipe, stdout=pipe)


async def said(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()


async def test_processes_that_come_at_once_share_one_until_the_last_has_left(folder: Path) -> None:
    members = [await member(folder) for _ in range(3)]
    hosts = {await said(one) for one in members}
    assert 1 == len(hosts)
    assert 1 == len(postmasters(folder))

    for one, is_last in zip(members, ("False", "False", "True"), strict=True):
        assert postmasters(folder)
        assert one.stdin is not None
        one.stdin.close()
        assert is_last == await said(one)
        await one.wait()
    assert await clock.until(lambda: answer(not processes.running_in(folder)), seconds=10)
    assert not is_there(folder)


async def test_a_shared_one_outlives_its_starter_and_dies_with_the_last_even_when_killed(folder: Path) -> None:
    first = await member(folder)
    await said(first)
    second = await member(folder)
    await said(second)
    first.kill()
    await first.wait()
    third = await member(folder)
    await said(third)
    assert 1 == len(postmasters(folder))

    second.kill()
    third.kill()
    await asyncio.gather(second.wait(), third.wait())
    assert await clock.until(lambda: answer(not processes.running_in(folder)), seconds=10)
    shared_database.remove_abandoned(folder.parent)
    assert not is_there(folder)


async def test_what_somebody_holds_is_not_abandoned(folder: Path) -> None:
    holder = await member(folder)
    await said(holder)
    shared_database.remove_abandoned(folder.parent)
    assert is_there(folder)
    holder.kill()
    await holder.wait()


def is_there(folder: Path) -> bool:
    return folder.exists()


async def answer(value: bool) -> bool:
    return value


def postmasters(folder: Path) -> list[process.Identity]:
    """The first processes of the PostgreSQLs on this folder."""
    argument = f"{folder}/data/postgres".encode()
    return [
        one
        for one in processes.running_in(folder)
        if (words := Path(f"/proc/{one.pid}/cmdline").read_bytes().split(b"\0"))
        and words[0].endswith(b"/postgres")
        and argument in words
    ]


@pytest.mark.parametrize("has_namespaces", [True, False])
async def test_a_tethered_program_ends_when_asked_or_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_namespaces: bool
) -> None:
    async def namespaces_work() -> bool:
        return has_namespaces

    monkeypatch.setattr(enclosure, "namespaces_work", namespaces_work)
    log = tmp_path / "log"

    async def sleeper() -> tether.Tether:
        return await tether.Tether.start(
            ["/bin/sleep", "600"], log=log, env={}, directory=tmp_path, stop_signal=signal.SIGTERM
        )

    asked, let_go = await sleeper(), await sleeper()
    assert await clock.until(lambda: answer(len(processes.running_in(tmp_path)) >= 2), seconds=10)
    await asked.stop(10.0)
    assert not asked.is_alive
    assert let_go.is_alive
    let_go.let_go()
    assert await let_go.ended(10.0) is not None
    assert await clock.until(lambda: answer(not processes.running_in(tmp_path)), seconds=10)
