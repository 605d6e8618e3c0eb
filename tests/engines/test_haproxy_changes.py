"""The front door changes while requests pass through it: servers, settings, and the door itself."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGUSR1

import pytest

from support import frontdoor
from support.frontdoor import House
from tenfold import engines, errors
from tenfold.engines import haproxy
from tenfold.engines.haproxy import admin, command, console, render, settings
from tenfold.kit import clock, files, process
from tenfold.topology import layout, tiers

pytestmark = pytest.mark.anyio


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with frontdoor.house(tmp_path) as made:
        yield made


def topology(policy: tiers.Policy = "round_robin", balancers: int = 1, **sections: object) -> tiers.Topology:
    balancer = tiers.Balancer(servers=balancers, policy=policy)
    return frontdoor.topology(**{"balancer": balancer, "web": tiers.Web(servers=3), **sections})


async def routed(seat: engines.Seat) -> set[tuple[str, str]]:
    """The web servers that a running front door knows, with their states."""
    return {(one.server, one.state) for one in await admin.backends(settings.runtime_socket(seat))}


async def test_web_servers_join_and_leave_under_load_and_no_request_fails_or_runs_twice(house: House) -> None:
    seat = frontdoor.seat(house.folder, topology())
    await house.web(seat)
    await house.door(frontdoor.with_web(seat, "web-1"))

    async with frontdoor.load(300, keep_alive=20, writes=True) as load:
        await asyncio.sleep(0.5)
        joined = await admin.configure(seat)
        await asyncio.sleep(0.5)
        left = await admin.configure(frontdoor.with_web(seat, "web-3"))
        for name in ("web-1", "web-2"):
            await house.webs[name].kill()
        await asyncio.sleep(0.5)

    assert [] == load.failures
    assert {1} == set(house.began().values()), "a request was repeated"
    assert (("web", "web-2"), ("web", "web-3")) == joined.added
    assert (("web", "web-1"), ("web", "web-2")) == left.removed
    assert {"web-1", "web-2", "web-3"} == set(load.servers)
    assert {("web-3", "up")} == await routed(seat)


async def test_configuring_twice_does_nothing_the_second_time(house: House) -> None:
    seat = frontdoor.seat(house.folder, topology())
    await house.web(seat)
    await house.door(frontdoor.with_web(seat, "web-1"))

    await admin.configure(seat)
    frontdoor.write(seat)

    assert admin.Changes() == await admin.configure(seat)


async def test_a_drain_that_was_cut_short_is_taken_back_when_the_server_is_wanted(house: House) -> None:
    seat = frontdoor.seat(house.folder, topology())
    await house.web(seat)
    await house.door(seat)
    await admin.drain(settings.runtime_socket(seat), ("web", "web-2"))

    changes = await admin.configure(seat)

    assert (("web", "web-2"),) == changes.reopened
    assert ("web-2", "up") in await routed(seat)


async def test_a_server_whose_joining_was_cut_short_joins_and_is_watched(house: House) -> None:
    seat = frontdoor.seat(house.folder, topology(web=tiers.Web(servers=2)))
    await house.web(seat)
    await house.door(frontdoor.with_web(seat, "web-1"))
    socket = settings.runtime_socket(seat)
    options = settings.of(seat).server_options
    await console.ask(socket, f"add server group-web/web-2 127.64.1.101:8000 {options} weight 100")

    changes = await admin.configure(seat)
    assert (("web", "web-2"),) == changes.reopened
    assert {"web-1": 5, "web-2": 5} == await frontdoor.spread(10)
    await frontdoor.tell("127.64.1.101", "/-/unready")

    assert await clock.until(lambda: _routes(seat, {("web-1", "up"), ("web-2", "down")}), seconds=5)


async def test_a_server_that_cannot_be_told_is_one_plain_error(house: House, tmp_path: Path) -> None:
    seat = frontdoor.seat(house.folder, topology())

    with pytest.raises(errors.EngineFailed, match="is HAProxy running"):
        await admin.configure(seat)


async def test_a_server_that_leaves_ends_its_requests_first(house: House) -> None:
    seat = frontdoor.seat(house.folder, topology())
    await house.web(seat)
    await house.door(frontdoor.with_web(seat, "web-1"))

    async with asyncio.TaskGroup() as group:
        slow = group.create_task(frontdoor.fetch("/slow?seconds=1"))
        assert await clock.until(lambda: _began(house), seconds=5)
        changes = await admin.configure(frontdoor.with_web(seat, "web-2"))
        assert slow.done(), "the server was removed under its request"

    assert "web-1" == slow.result().server
    assert () == changes.cut


async def test_a_server_whose_requests_do_not_end_is_removed_when_the_time_is_over(house: House) -> None:
    seat = frontdoor.seat(house.folder, topology())
    await house.web(seat)
    await house.door(frontdoor.with_web(seat, "web-1"))

    async with asyncio.TaskGroup() as group:
        slow = group.create_task(frontdoor.fetch("/slow?seconds=5", "POST"))
        assert await clock.until(lambda: _began(house), seconds=5)
        changes = await admin.configure(frontdoor.with_web(seat, "web-2"), drain_seconds=0.3)

    assert (("web", "web-1"),) == changes.cut
    assert 502 <= slow.result().status <= 504
    assert {("web-2", "up")} == await routed(seat)


async def test_a_new_policy_is_taken_over_under_load_and_no_request_fails(house: House) -> None:
    seat = frontdoor.seat(house.folder, topology("round_robin"))
    changed = frontdoor.seat(house.folder, topology("least_connections"))
    await house.web(seat)
    await house.door(seat)
    socket = settings.runtime_socket(seat)
    assert render.revision(seat) == await admin.revision(socket)

    async with frontdoor.load(300, keep_alive=10, writes=True) as load:
        for wanted in (changed, seat, changed):
            await asyncio.sleep(0.3)
            frontdoor.write(wanted)
            changes = await admin.configure(wanted)
            assert changes.is_reloaded
            assert render.revision(wanted) == await admin.revision(socket)
        await asyncio.sleep(0.3)

    assert [] == load.failures
    assert {1} == set(house.began().values())


async def test_reloads_under_many_new_connections_refuse_none(house: House) -> None:
    seat = frontdoor.seat(house.folder, topology())
    await house.web(seat)
    await house.door(seat)

    async with frontdoor.load(1000) as load:
        for _ in range(3):
            await asyncio.sleep(0.5)
            await admin.reload(settings.master_socket(seat))
        await asyncio.sleep(0.5)

    assert [] == load.failures
    assert load.sent > 800


async def test_files_that_are_wrong_change_nothing(house: House) -> None:
    seat = frontdoor.seat(house.folder, topology())
    await house.web(seat)
    await house.door(seat)
    good = (seat.config / render.CONFIGURATION).read_text()

    files.write_atomically(seat.config / render.CONFIGURATION, good.replace("balance roundrobin", "balance nonsense"))
    with pytest.raises(errors.EngineFailed, match="balance only supports"):
        await admin.reload(settings.master_socket(seat))

    assert (await haproxy.ENGINE.probe(seat)).is_ready
    assert {"web-1": 4, "web-2": 4, "web-3": 4} == await frontdoor.spread(12)
    files.write_atomically(seat.config / render.CONFIGURATION, good)
    await admin.reload(settings.master_socket(seat))


async def test_the_program_itself_judges_the_files(house: House) -> None:
    seat = frontdoor.seat(house.folder, topology())
    frontdoor.write(seat)

    async def code() -> int:
        return await (await frontdoor.spawn(command.check(seat).argv, seat.log)).ended()

    assert 0 == await code()
    files.write_atomically(seat.config / render.CONFIGURATION, "nonsense\n")
    assert 0 != await code()
    assert "nonsense" in seat.log.read_text()


async def test_after_a_restart_the_door_opens_with_what_it_was_told_while_it_ran(house: House) -> None:
    seat = frontdoor.seat(house.folder, topology())
    await house.web(seat)
    running = await house.door(frontdoor.with_web(seat, "web-1"))
    frontdoor.write(seat)
    await admin.configure(seat)
    before = await routed(seat)

    await running.kill()
    await house.door(seat)

    assert before == await routed(seat)


async def test_one_of_two_doors_stops_under_many_new_connections_and_none_fails(house: House) -> None:
    wanted = topology(balancers=2)
    first, second = (frontdoor.seat(house.folder, wanted, number) for number in (0, 1))
    await house.web(first)
    await house.door(second)
    leaving = await house.door(first)

    async def is_shared() -> bool:
        return (await admin.stats(settings.runtime_socket(first))).public.requests > 100

    async with frontdoor.load(1000) as load:
        assert await clock.until(is_shared, seconds=20), "the address was not shared"
        leaving.signal(SIGUSR1)
        assert 0 == await leaving.ended(haproxy.ENGINE.command(first).grace_seconds)
        await asyncio.sleep(0.7)

    assert [] == load.failures


async def test_connections_that_a_stopping_door_had_not_accepted_yet_are_accepted_by_the_other(house: House) -> None:
    """The worker is made to sleep, so that connections surely wait in its queue when its listener closes."""
    wanted = topology(balancers=2)
    first, second = (frontdoor.seat(house.folder, wanted, number) for number in (0, 1))
    await house.web(first)
    leaving = await house.door(first)
    await house.door(second)
    (worker,) = process.children(leaving.pid)

    os.kill(worker, SIGSTOP)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(frontdoor.fetch()) for _ in range(40)]
        assert await clock.until(lambda: _connected(tasks), seconds=5)
        os.kill(worker, SIGUSR1)
        os.kill(worker, SIGCONT)

    assert [200] * 40 == [task.result().status for task in tasks]
    assert 0 == await leaving.ended(10)


async def test_idle_connections_end_politely_when_a_door_stops(house: House) -> None:
    wanted = topology(balancers=2)
    first, second = (frontdoor.seat(house.folder, wanted, number) for number in (0, 1))
    await house.web(first)
    leaving = await house.door(first)
    connection = await frontdoor.Connection.open()
    assert 200 == (await connection.request()).status
    await house.door(second)

    leaving.signal(SIGUSR1)
    assert await clock.until(lambda: _is_closed(first), seconds=5)
    last = await connection.request("/?id=last", "POST")
    await connection.close()

    assert 200 == last.status
    assert "close" == last.headers["connection"]
    assert 0 == await leaving.ended(5)


async def test_a_stop_right_after_ready_is_not_lost(house: House) -> None:
    seat = frontdoor.seat(house.folder, topology())
    leaving = await house.door(seat)

    leaving.signal(SIGUSR1)

    assert 0 == await leaving.ended(5)


async def test_a_stop_ends_open_requests_first(house: House) -> None:
    seat = frontdoor.seat(house.folder, topology())
    await house.web(seat)
    leaving = await house.door(seat)

    async with asyncio.TaskGroup() as group:
        slow = group.create_task(frontdoor.fetch("/slow?seconds=1", "POST"))
        assert await clock.until(lambda: _began(house), seconds=5)
        leaving.signal(SIGUSR1)
        assert 0 == await leaving.ended(haproxy.ENGINE.command(seat).grace_seconds)

    assert 200 == slow.result().status


async def test_when_the_master_is_killed_the_worker_ends_too(house: House) -> None:
    """Else a worker that nobody reloads would share the address with its successor."""
    seat = frontdoor.seat(house.folder, topology())
    await house.web(seat)
    running = await house.door(seat)

    running.signal(SIGKILL)
    await running.ended()

    assert await clock.until(lambda: _is_closed(seat), seconds=5)


async def test_a_probe_of_a_door_that_is_not_there_says_so(tmp_path: Path) -> None:
    health = await haproxy.ENGINE.probe(frontdoor.seat(tmp_path, topology()))

    assert not health.is_ready
    assert "is HAProxy running?" in health.detail


async def test_a_new_group_of_web_servers_is_routed_to_after_a_reload(house: House) -> None:
    seat = frontdoor.seat(house.folder, topology(web=tiers.Web(servers=1)))
    balancer = tiers.Balancer(servers=1, route=(tiers.Route(path="/api/", group="api"),))
    grown = frontdoor.seat(
        house.folder, topology(balancer=balancer, web=tiers.Web(servers=1), web_groups={"api": tiers.WebGroup()})
    )
    await house.web(grown)
    await house.door(seat)

    frontdoor.write(grown)
    changes = await admin.configure(grown)

    assert changes.is_reloaded
    assert "web-api-1" == (await frontdoor.fetch("/api/")).server
    assert layout.DEFAULT_GROUP + "-1" == (await frontdoor.fetch("/")).server


async def _routes(seat: engines.Seat, expected: set[tuple[str, str]]) -> bool:
    return await routed(seat) == expected


async def _began(house: House) -> bool:
    return bool(house.journal())


async def _connected(tasks: list[asyncio.Task[frontdoor.Answer]]) -> bool:
    """Whether every request has been answered or waits in the queue of the worker that sleeps."""
    done = sum(task.done() for task in tasks)
    return done + _waiting_in_queues() == len(tasks)


def _waiting_in_queues() -> int:
    """Connections to the front door that no process has accepted yet (the receive queue of listening sockets)."""
    address = "".join(f"{int(part):02X}" for part in reversed(frontdoor.LISTEN[0].split(".")))
    local = f"{address}:{frontdoor.LISTEN[1]:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[4].partition(":")[2], 16) for row in rows if row[1] == local and row[3] == "0A")


async def _is_closed(seat: engines.Seat) -> bool:
    return not (await haproxy.ENGINE.probe(seat)).is_ready
