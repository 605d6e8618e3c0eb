"""Patroni over PostgreSQL and etcd: from nothing, taken over, killed, switched, let go."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support import databases, seats
from support.writer import writing
from tenfold import engines
from tenfold.engines import etcd, patroni, postgres
from tenfold.engines.etcd import admin as etcd_admin
from tenfold.engines.patroni import admin, rest, settings
from tenfold.engines.postgres import admin as postgres_admin
from tenfold.kit import clock

pytestmark = pytest.mark.anyio

ENGINES = {"postgres": postgres.ENGINE, "patroni": patroni.ENGINE, "etcd": etcd.ENGINE}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[seats.Site]:
    async with seats.site(tmp_path, seats.topology(replicas=2, synchronous=True), ENGINES) as made:
        yield made


async def test_three_servers_from_nothing_become_a_primary_and_two_streaming_replicas(site: seats.Site) -> None:
    started = time.monotonic()
    await databases.coordination(site)
    nodes = await databases.replicated(site)
    print(f"\nfrom nothing to a primary and two streaming replicas: {time.monotonic() - started:.1f} s")
    assert await etcd_admin.is_protected(nodes[0])
    assert ["leader", "replica", "replica"] == sorted(one.role for one in await admin.members(nodes[1]))
    assert () == await postgres_admin.reload(nodes[0])


async def test_patroni_takes_a_running_database_over_and_lets_it_go_without_a_restart(site: seats.Site) -> None:
    database = await databases.alone(site)
    before = databases.postmaster(site, database)
    seat = site.seat("database-1", "patroni")
    async with databases.app_connection(database) as connection:
        await connection.execute("create table kept (id int)")
        await databases.coordination(site)

        admin.prepare_take_over(seat)
        await site.start(seat)
        assert await clock.until(lambda: admin.is_leader(seat), seconds=15)
        del site.running["database-1", "postgres"]
        assert before == databases.postmaster(site, seat)
        assert () == await postgres_admin.reload(seat), "a restart is pending after the take-over"

        replica = site.seat("database-2", "patroni")
        await site.start(replica, seconds=60)
        await databases.settled([seat, replica])
        await admin.set_synchronous(seat, True)
        await connection.execute("insert into kept values (1)")
        await admin.set_synchronous(seat, False)
        assert "" == await connection.fetchval("show synchronous_standby_names"), "in force on return"
        await site.stop(replica)
        await admin.forget_members(seat, ("database-2",))

        await admin.prepare_release(seat)
        assert await site.stop(seat)
        await admin.finish_release(seat)
        await postgres_admin.drop_slots(seat)
        site.render(database)
        assert () == await postgres_admin.reload(database), "a restart is pending after the release"
        assert before == site.adopt(database)
        assert [(1,)] == [tuple(row) for row in await connection.fetch("select id from kept")], "the connection was cut"
        assert "" == await connection.fetchval("show synchronous_standby_names")
    assert await site.stop(database)
    after = await site.start(database)
    assert before != after
    async with databases.app_connection(database) as connection:
        await connection.execute("insert into kept values (2)")


async def test_a_pause_that_an_interrupted_release_left_behind_is_ended(site: seats.Site) -> None:
    await databases.coordination(site)
    seat = site.seat("database-1", "patroni")
    await site.start(seat, seconds=60)
    await admin.prepare_release(seat)
    await admin.resume(seat)

    async def decides() -> bool:
        async with rest.opened(seat) as api:
            return not (await api.get("patroni")).get("pause", False)

    assert await clock.until(decides, seconds=10), "Patroni is still paused: nobody would be elected"
    await admin.resume(seat)


async def test_a_dead_primary_server_is_replaced_as_soon_as_its_key_is_released(site: seats.Site) -> None:
    await databases.coordination(site)
    nodes = await databases.replicated(site)
    await postgres_admin.create_roles_and_database(nodes[0])
    await admin.set_synchronous(nodes[0], True)
    dead, *survivors = nodes
    async with writing(nodes) as writer:
        assert not await admin.release_leader_key(survivors[0]), "a replica's name released the leader's key"
        await site.cut(dead.server.name)
        assert await admin.release_leader_key(dead)
        assert not await admin.release_leader_key(dead)
        writer.nodes = survivors
        await clock.until(lambda: _has_leader(survivors, dead), seconds=30)
    print(f"\nlongest write over the death of the primary's server: {writer.longest_seconds:.2f} s")
    (leader,) = [seat for seat in survivors if await admin.is_leader(seat)]
    assert set() == await writer.lost(leader)
    assert writer.longest_seconds < 5

    await site.start(dead, seconds=60)
    assert leader == (await databases.settled(nodes))[0], "the dead one came back as something else than a replica"


async def _has_leader(survivors: list[engines.Seat], dead: engines.Seat) -> bool:
    return await admin.leader(survivors[0]) not in ("", dead.server.name)


async def test_a_planned_switch_moves_the_leadership_and_loses_nothing(site: seats.Site) -> None:
    await databases.coordination(site)
    nodes = await databases.replicated(site, count=2)
    await postgres_admin.create_roles_and_database(nodes[0])
    source, target = nodes
    async with writing(nodes) as writer:
        await postgres_admin.checkpoint(source)
        await admin.switch_over(target, source.server.name, target.server.name)
        await admin.switch_over(target, source.server.name, target.server.name)
    print(f"\nlongest write over a planned switch under Patroni: {writer.longest_seconds:.2f} s")
    await databases.settled([target, source])
    assert set() == await writer.lost(target)
    assert await admin.is_leader(target)


async def test_a_replica_with_fewer_connections_than_its_primary_gets_as_many_by_itself(site: seats.Site) -> None:
    """What a death in the middle of a change of connections leaves behind: a primary that has more already."""
    await databases.coordination(site)
    leader, replica = await databases.replicated(site, 2)
    await admin.resize(leader, 300)
    await admin.until_restart_pending(leader)
    await admin.restart(leader)
    await postgres_admin.create_roles_and_database(leader)
    lsn = await _flushed(leader)

    async def has_come_up() -> bool:
        seen = await eyes.look(2)
        return seen is not None and seen.max_connections == 300 and not seen.is_paused and seen.lsn >= lsn

    eyes = postgres_admin.Watcher(replica.address, replica.secrets.superuser)
    assert await clock.until(has_come_up, seconds=60, pause_seconds=0.2), await eyes.look(5)
    await eyes.close()


async def _flushed(seat: engines.Seat) -> int:
    eyes = postgres_admin.Watcher(seat.address, seat.secrets.superuser)
    seen = await eyes.look(5)
    await eyes.close()
    assert seen is not None
    return seen.lsn


async def test_without_its_coordination_the_primary_goes_on_and_later_finds_it_again(site: seats.Site) -> None:
    members = await databases.coordination(site)
    nodes = await databases.replicated(site, count=2)
    await postgres_admin.create_roles_and_database(nodes[0])
    async with writing(nodes) as writer:
        for member in members:
            await site.cut(member.server.name)
        began, written = time.monotonic(), len(writer.acknowledged)
        # Longer than Patroni's `retry_timeout` and a round on top, after which a primary without failsafe steps down.
        assert not await clock.until(lambda: _is_demoted(nodes[0]), seconds=9, pause_seconds=0.2)
        assert time.monotonic() - began >= 9
        assert len(writer.acknowledged) > written
        await databases.coordination(site)  # passwords are on, but the tokens given out before are forgotten
    assert nodes[0] == (await databases.settled(nodes))[0]
    assert set() == await writer.lost(nodes[0])
    print(f"\nlongest write while etcd was away: {writer.longest_seconds:.2f} s")
    await admin.switch_over(nodes[0], nodes[0].server.name, nodes[1].server.name)
    assert await clock.until(lambda: admin.is_leader(nodes[1]), seconds=10)


async def _is_demoted(seat: engines.Seat) -> bool:
    return (await postgres.ENGINE.probe(seat)).role != "primary"


async def test_a_copy_that_a_power_cut_left_half_done_is_made_anew(site: seats.Site) -> None:
    await databases.coordination(site)
    leader, *_ = await databases.replicated(site, count=1)
    replica = site.seat("database-2", "patroni")
    data = replica.root / "data" / "postgres"
    data.mkdir(parents=True)
    (data / "backup_label").write_text("half")
    (data / "PG_VERSION").write_text("18\n")
    await site.start(replica, seconds=60)
    assert leader == (await databases.settled([leader, replica]))[0]


async def test_the_rest_api_changes_nothing_without_the_password(site: seats.Site) -> None:
    await databases.coordination(site)
    leader, *_ = await databases.replicated(site, count=1)
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(leader.address, settings.REST_PORT)
        body = b'{"pause": true}'
        writer.write(b"PATCH /config HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        assert b" 401 " in await reader.readline()
        writer.close()
        await writer.wait_closed()
