"""PostgreSQL alone: made, copied, fenced, drained, switched."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from pathlib import Path
from signal import SIGKILL

import asyncpg
import pytest

from support import databases, seats
from support.writer import writing
from tenfold import engines, errors
from tenfold.engines import postgres
from tenfold.engines.postgres import admin, command, settings
from tenfold.kit import clock, process

pytestmark = pytest.mark.anyio

ENGINES = {"postgres": postgres.ENGINE}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[seats.Site]:
    async with seats.site(tmp_path, seats.topology(replicas=2), ENGINES) as made:
        yield made


async def test_a_new_database_has_roles_that_can_log_in_and_the_app_owns_its_own(site: seats.Site) -> None:
    seat = await databases.alone(site)
    await admin.create_roles_and_database(seat)
    async with databases.app_connection(seat) as connection:
        await connection.execute("create table one (id int)")
        assert "shop" == await connection.fetchval("select current_user")
        assert await connection.fetchval("select pg_has_role('pg_monitor', 'member')")
        assert not await connection.fetchval("select rolsuper from pg_roles where rolname = 'shop'")


async def test_nobody_gets_in_without_a_password_and_nowhere_but_on_its_own_address(site: seats.Site) -> None:
    seat = await databases.alone(site)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(host=seat.address, user="postgres", password="wrong", database="postgres", ssl=False)
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(host="127.65.9.9", user="postgres", password="wrong", database="postgres", ssl=False)
    async with databases.app_connection(seat) as connection:
        assert "" == await connection.fetchval("show unix_socket_directories")
    psql = command.psql(seat, "-Atc", "select current_user")
    assert "shop\n" == await site.run(seat, psql)
    assert seat.secrets.app not in " ".join(psql.argv)


async def test_a_fenced_primary_refuses_writes_of_open_and_of_new_connections_until_it_is_unfenced(
    site: seats.Site,
) -> None:
    seat = await databases.alone(site)
    watcher = admin.Watcher(seat.address, seat.secrets.superuser)
    async with databases.app_connection(seat) as old:
        await old.execute("create table one (id int)")
        await admin.fence(seat)
        async with databases.app_connection(seat) as new:
            for connection in (old, new):
                with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                    await connection.execute("insert into one values (1)")
                assert 0 == await connection.fetchval("select count(*) from one")
        seen = await watcher.look(2)
        assert seen is not None
        assert ("primary", False) == (seen.role, seen.accepts_writes)
        await admin.unfence(seat)
        await old.execute("insert into one values (1)")
        seen = await watcher.look(2)
        assert seen is not None
        assert seen.accepts_writes
    await watcher.close()


async def test_a_drain_waits_for_a_writer_ends_a_forgotten_one_and_does_not_wait_for_reports(site: seats.Site) -> None:
    seat = await databases.alone(site)
    async with (
        databases.app_connection(seat) as writer,
        databases.app_connection(seat) as forgotten,
        databases.app_connection(seat) as report,
    ):
        await writer.execute("create table one (id int)")
        reading = asyncio.create_task(report.fetchval("select count(*) from (select pg_sleep(20)) as long"))
        await writer.execute("begin; insert into one values (1)")
        await admin.fence(seat)

        finished = asyncio.create_task(_commit_later(writer))
        started = time.monotonic()
        assert 0 == await admin.drain(seat, seconds=10)
        assert finished.done(), "the drain did not wait for the writer"
        assert time.monotonic() - started < 5, "the drain waited for the report"

        await admin.unfence(seat)
        await forgotten.execute("begin; insert into one values (2)")
        assert 1 == await admin.drain(seat, seconds=0.7)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await forgotten.execute("commit")
        assert 1 == await writer.fetchval("select count(*) from one")
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _commit_later(connection: databases.Connection) -> None:
    await asyncio.sleep(0.8)
    await connection.execute("commit")


async def test_a_planned_switch_keeps_every_write_and_the_fence_stays_behind(site: seats.Site) -> None:
    old = await databases.alone(site)
    await admin.fence(old)
    new = await databases.standby(site, old, "database-2")  # a copy of a fenced primary: the trap
    await admin.unfence(old)
    assert ("standby", False, 1) == await _state(new)

    async with writing([old, new]) as writer:
        started = time.monotonic()
        await admin.checkpoint(old)
        await admin.fence(old)
        await admin.drain(old, seconds=5)
        assert await site.stop(old)
        last = admin.parse_control_data(await site.run(old, command.control_data(old)))
        assert last.was_shut_down
        assert await clock.until(lambda: admin.has_replayed(new, last.checkpoint), seconds=10)
        await admin.promote(new)
        seconds = time.monotonic() - started
        assert ("primary", True, 2) == await _state(new)
        await admin.promote(new)
    print(f"\nplanned switch {seconds:.2f} s, longest write meanwhile {writer.longest_seconds:.2f} s")
    assert set() == await writer.lost(new)
    assert writer.longest_seconds < 5

    await site.start(old)  # the fence survives a restart: a former primary cannot take a write by mistake
    assert ("primary", False, 1) == await _state(old)


async def _state(seat: engines.Seat) -> tuple[str, bool, int]:
    """Role, whether it accepts writes, timeline."""
    watcher = admin.Watcher(seat.address, seat.secrets.superuser)
    seen = await watcher.look(5)
    await watcher.close()
    assert seen is not None
    return seen.role, seen.accepts_writes, seen.timeline


async def test_a_standby_with_fewer_connections_than_its_primary_pauses_and_its_files_say_how_many_it_needs(
    site: seats.Site,
) -> None:
    primary = await databases.alone(site)
    standby = await databases.standby(site, primary, "database-2")
    assert admin.is_standby_of(standby, primary)
    assert not admin.is_standby_of(primary, standby)
    assert await site.stop(primary)
    await site.start(_with_connections(primary, 300))
    eyes = admin.Watcher(standby.address, standby.secrets.superuser)

    async def is_paused() -> bool:
        seen = await eyes.look(2)
        return seen is not None and seen.is_paused

    assert await clock.until(is_paused, seconds=20)
    await eyes.close()
    assert await site.stop(standby)
    needed = admin.parse_control_data(await site.run(standby, command.control_data(standby))).max_connections
    assert 300 == needed
    with pytest.raises(seats.NotReadyError, match="insufficient parameter settings"):
        await site.start(standby)
    await site.start(_with_connections(standby, needed))


def _with_connections(seat: engines.Seat, count: int) -> engines.Seat:
    database = seat.topology.database.model_copy(update={"max_connections": count})
    return dataclasses.replace(seat, topology=seat.topology.model_copy(update={"database": database}))


async def test_slots_of_standbys_that_are_gone_are_dropped_even_while_in_use(site: seats.Site) -> None:
    primary = await databases.alone(site)
    await databases.standby(site, primary, "database-2")
    await admin.create_slot(primary, "database-3")
    await admin.drop_slots(primary, ("database-3",))
    await admin.drop_slots(primary, ("database-3",))
    assert await admin.is_replicating_to(primary, ("database-2",))
    await site.cut("database-2")
    await admin.drop_slots(primary)
    async with databases.app_connection(primary) as connection:
        assert 0 == await connection.fetchval("select count(*) from pg_replication_slots")


async def test_a_server_without_power_comes_back_though_its_lock_file_names_a_living_process(site: seats.Site) -> None:
    seat = await databases.alone(site)
    async with databases.app_connection(seat) as connection:
        await connection.execute("create table kept as select 1 as id")
    lock = settings.data_directory(seat) / "postmaster.pid"
    await site.cut("database-1")
    lines = lock.read_text().splitlines()
    lock.write_text("\n".join(["1", *lines[1:]]))  # 1 always lives in a namespace
    await site.start(seat)
    async with databases.app_connection(seat) as connection:
        assert 1 == await connection.fetchval("select id from kept")


async def test_an_interrupted_copy_is_begun_anew_and_never_taken_for_a_database(site: seats.Site) -> None:
    primary = await databases.alone(site)
    seat = site.seat("database-2", "postgres")
    await site.power(seat)
    site.render(seat)
    await admin.create_slot(primary, "database-2")
    admin.begin_copy(seat)
    half = settings.partial_directory(seat)
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    assert not admin.holds_data(seat)
    with pytest.raises(errors.EngineFailed, match="no complete cluster"):
        admin.finish_copy(seat)
    await databases.standby(site, primary, "database-2")
    assert admin.holds_data(seat)
    admin.begin_copy(seat)
    (settings.partial_directory(seat) / "global").mkdir(parents=True)
    (settings.partial_directory(seat) / "global" / "pg_control").touch()
    with pytest.raises(errors.EngineFailed, match="holds a database already"):
        admin.finish_copy(seat)


async def test_a_watcher_sees_a_node_die_and_come_back(site: seats.Site) -> None:
    seat = await databases.alone(site)
    watcher = admin.Watcher(seat.address, seat.secrets.superuser)
    first = await watcher.look(2)
    assert first is not None
    process.send(databases.postmaster(site, seat), SIGKILL)
    assert await clock.until(lambda: _is_none(watcher), seconds=10)
    await site.cut("database-1")
    await site.start(seat)
    again = await watcher.look(2)
    assert again is not None
    assert again.lsn >= first.lsn
    await watcher.close()


async def _is_none(watcher: admin.Watcher) -> bool:
    return await watcher.look(1) is None


def test_a_standby_keeps_the_settings_of_its_source_but_for_the_fence_and_whom_it_followed() -> None:
    copied = "work_mem = '8MB'\ndefault_transaction_read_only = 'on'\nprimary_conninfo = 'host=old'\n"
    expected = "work_mem = '8MB'\nprimary_conninfo = 'host=new options=''x'''\nprimary_slot_name = 'database_2'\n"
    assert expected == admin.standby_settings(copied, "host=new options='x'", "database_2")


def test_control_data_that_is_none_is_an_error_with_what_was_found() -> None:
    with pytest.raises(errors.EngineFailed, match="cannot open"):
        admin.parse_control_data("pg_controldata: error: cannot open file")
