"""Web servers die, leave and are busy: what the front door makes of it. The test's client never repeats a request."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from signal import SIGTERM

import pytest

from support import frontdoor
from support.frontdoor import House
from tenfold import engines
from tenfold.engines.haproxy import admin, console, settings
from tenfold.kit import clock
from tenfold.topology import tiers

pytestmark = pytest.mark.anyio

KEY = {"Idempotency-Key": "order-1"}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with frontdoor.house(tmp_path) as made:
        yield made


async def opened(
    house: House, servers: int = 2, request_seconds: float = 10.0, max_requests: int = 512
) -> engines.Seat:
    """Start web servers and one front door that gives them requests in turn."""
    web = tiers.Web(servers=servers, max_requests=max_requests)
    wanted = frontdoor.topology(balancer=tiers.Balancer(servers=1, policy="round_robin"), web=web)
    service = wanted.service.model_copy(update={"request_seconds": request_seconds})
    seat = frontdoor.seat(house.folder, wanted.model_copy(update={"service": service}))
    await house.web(seat)
    await house.door(seat)
    return seat


async def test_one_of_several_web_servers_is_killed_under_load_and_no_request_fails(house: House) -> None:
    await opened(house, servers=3)

    async with frontdoor.load(300, keep_alive=20) as load:
        await asyncio.sleep(1)
        await house.webs["web-2"].kill()
        await asyncio.sleep(1.5)

    assert [] == load.failures
    assert load.sent > 300
    assert load.slowest_seconds < 3


async def test_the_only_web_server_is_killed_and_comes_back_and_requests_wait_for_it(house: House) -> None:
    seat = await opened(house, servers=1)

    async with frontdoor.load(100, keep_alive=20) as load:
        await asyncio.sleep(0.5)
        await house.webs["web-1"].kill()
        await house.web(seat)
        await asyncio.sleep(1)

    assert [] == load.failures
    assert load.slowest_seconds < 5


async def test_the_only_web_server_is_replaced_under_reads_and_writes_and_no_request_fails(house: House) -> None:
    seat = await opened(house, servers=1)
    socket = settings.runtime_socket(seat)

    async with frontdoor.load(100, keep_alive=20, writes=True) as load:
        await asyncio.sleep(0.5)
        assert await admin.drain(socket, ("web", "web-1"))
        house.webs["web-1"].signal(SIGTERM)
        await house.webs["web-1"].ended()
        await house.web(seat)
        await admin.reopen(socket, ("web", "web-1"))
        await asyncio.sleep(1)

    assert [] == load.failures
    assert {1} == set(house.began().values()), "a request was repeated"


async def test_a_read_whose_server_dies_is_answered_by_another(house: House) -> None:
    await opened(house)

    answer = await frontdoor.fetch("/die?id=1")

    assert 200 == answer.status
    assert 2 == house.began()["id=1"]


async def test_a_write_whose_server_dies_is_not_repeated(house: House) -> None:
    await opened(house)

    answer = await frontdoor.fetch("/die?id=1", "POST", b"qty=1")

    assert 502 == answer.status
    assert 1 == house.began()["id=1"]


async def test_a_write_with_an_idempotency_key_whose_server_dies_is_answered_by_another(house: House) -> None:
    await opened(house)

    answer = await frontdoor.fetch("/die?id=1", "POST", b"qty=1", KEY)

    assert 200 == answer.status
    assert 2 == house.began()["id=1"]


async def test_a_write_with_a_key_is_repeated_though_its_body_came_late(house: House) -> None:
    await opened(house)
    connection = await frontdoor.Connection.open()

    head = b"POST /die?id=1 HTTP/1.1\r\nHost: shop.test\r\nIdempotency-Key: k\r\nContent-Length: 4000\r\n\r\n"
    connection.writer.write(head)
    await connection.writer.drain()
    await asyncio.sleep(0.1)  # the point of the test: head and body are two segments
    answer = await asyncio.wait_for(connection.send(b"x" * 4000), 10)
    await connection.close()

    assert 200 == answer.status
    assert 2 == house.began()["id=1"]


async def test_a_write_that_never_reached_a_server_is_sent_to_another(house: House) -> None:
    await opened(house, servers=3)
    await house.webs["web-1"].kill()

    answers = [await frontdoor.fetch(f"/?id={number}", "POST", b"qty=1") for number in range(6)]

    assert {200} == {answer.status for answer in answers}
    assert {1} == set(house.began().values())


async def test_when_no_server_comes_back_the_wait_is_bounded_and_says_when_to_try_again(house: House) -> None:
    await opened(house, servers=1, request_seconds=1.0)
    await house.webs["web-1"].kill()

    began = time.monotonic()
    answer = await frontdoor.fetch("/", "POST")
    seconds = time.monotonic() - began

    assert 503 == answer.status
    assert "1" == answer.headers["retry-after"]
    assert 0.7 < seconds < 5


async def test_a_server_never_gets_more_than_it_takes_and_the_rest_waits(house: House) -> None:
    seat = await opened(house, servers=1, max_requests=2)
    places = 2 * settings.WAITING_SHARE

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(frontdoor.fetch("/slow?seconds=0.4")) for _ in range(places + 4)]
        busy = await _busiest(settings.runtime_socket(seat), tasks)

    assert {200} == {task.result().status for task in tasks}
    assert (places, 4) == busy


async def test_waiting_for_a_busy_server_is_bounded_and_says_when_to_try_again(house: House) -> None:
    await opened(house, servers=1, max_requests=1, request_seconds=1.0)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(frontdoor.fetch("/slow?seconds=1.2")) for _ in range(settings.WAITING_SHARE + 1)]

    statuses = {task.result().status: task.result() for task in tasks}
    assert {200, 503} == set(statuses)
    assert "1" == statuses[503].headers["retry-after"]


async def test_a_client_that_was_held_keeps_its_address_and_gets_one_sticky_cookie(house: House) -> None:
    wanted = frontdoor.topology(balancer=tiers.Balancer(servers=1, sticky=True), web=tiers.Web(servers=1))
    seat = frontdoor.seat(house.folder, wanted)
    await house.door(seat)

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(frontdoor.fetch(source="127.64.9.9"))
        assert await clock.until(lambda: _is_held(settings.runtime_socket(seat)), seconds=5)
        await house.web(seat)
    answer = waiting.result()
    cookie = answer.headers["set-cookie"].split(";")[0]
    again = await frontdoor.fetch(headers={"Cookie": cookie})

    assert ["127.64.9.9"] == [value for name, value in answer.seen if name == "x-forwarded-for"]
    assert "set-cookie" not in again.headers


async def test_a_client_that_was_held_meets_the_server_that_its_address_leads_to(house: House) -> None:
    balancer = tiers.Balancer(servers=1, policy="ip_hash")
    seat = frontdoor.seat(house.folder, frontdoor.topology(balancer=balancer, web=tiers.Web(servers=3)))
    socket = settings.runtime_socket(seat)
    clients = [f"127.64.9.{client}" for client in range(1, 13)]
    names = [server.name for server in seat.layout.web()]
    await house.web(seat)
    await house.door(seat)

    direct = {client: (await frontdoor.fetch(source=client)).server for client in clients}
    for name in names:
        await admin.drain(socket, ("web", name))
    async with asyncio.TaskGroup() as group:
        waiting = {client: group.create_task(frontdoor.fetch(source=client)) for client in clients}
        assert await clock.until(lambda: _is_held(socket, len(clients)), seconds=5)
        await console.ask(socket, "; ".join(f"set server group-web/{name} state ready" for name in names))

    assert direct == {client: task.result().server for client, task in waiting.items()}


async def _busiest(socket: Path, tasks: list[asyncio.Task[frontdoor.Answer]]) -> tuple[int, int]:
    """The most requests that the server worked on, and that waited, at once."""
    most = (0, 0)
    while not all(task.done() for task in tasks):
        seen = await admin.stats(socket)
        most = (max(most[0], seen.servers["web", "web-1"].sessions), max(most[1], seen.groups["web"].queued))
        await asyncio.sleep(0.02)
    return most


async def _is_held(socket: Path, count: int = 1) -> bool:
    return (await admin.stats(socket)).held == count
