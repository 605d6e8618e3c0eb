"""Every policy of the front door spreads requests as its name says."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support import frontdoor
from support.frontdoor import House
from tenfold.engines.haproxy import admin, settings
from tenfold.kit import clock
from tenfold.topology import tiers

pytestmark = pytest.mark.anyio


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with frontdoor.house(tmp_path) as made:
        yield made


async def opened(house: House, balancer: tiers.Balancer, servers: int = 2, **sections: object) -> Path:
    """Start web servers and one front door in front of them; returns its runtime socket."""
    wanted = frontdoor.topology(balancer=balancer, web=tiers.Web(servers=servers), **sections)
    seat = frontdoor.seat(house.folder, wanted)
    await house.web(seat)
    await house.door(seat)
    return settings.runtime_socket(seat)


async def test_round_robin_gives_each_server_the_same_number(house: House) -> None:
    await opened(house, tiers.Balancer(policy="round_robin"), servers=3)

    assert {"web-1": 20, "web-2": 20, "web-3": 20} == await frontdoor.spread(60)


async def test_weighted_round_robin_follows_the_weights(house: House) -> None:
    await opened(house, tiers.Balancer(policy="weighted_round_robin", weights={"web-1": 30, "web-2": 10}))

    assert {"web-1": 60, "web-2": 20} == await frontdoor.spread(80)


async def test_least_connections_leaves_a_busy_server_alone(house: House) -> None:
    await opened(house, tiers.Balancer(policy="least_connections"))

    async with asyncio.TaskGroup() as group:
        slow = group.create_task(frontdoor.fetch("/slow?seconds=1.5"))
        assert await clock.until(lambda: _began(house, 1), seconds=5)
        quick = await frontdoor.spread(20)

    assert [slow.result().server] != list(quick)
    assert 1 == len(quick)


async def test_weighted_least_connections_fills_servers_in_proportion(house: House) -> None:
    balancer = tiers.Balancer(policy="weighted_least_connections", weights={"web-1": 150, "web-2": 50})
    await opened(house, balancer)

    found = await frontdoor.spread(40, "/slow?seconds=1", at_once=40)

    assert {"web-1": 30, "web-2": 10} == found


async def test_ip_hash_keeps_a_client_on_its_server_and_spreads_clients(house: House) -> None:
    await opened(house, tiers.Balancer(policy="ip_hash"), servers=3)

    found = [await frontdoor.spread(4, source=f"127.64.9.{client}") for client in range(1, 31)]

    assert {1} == {len(servers) for servers in found}
    assert {"web-1", "web-2", "web-3"} == {name for servers in found for name in servers}


async def test_ip_hash_moves_only_the_clients_of_the_server_that_leaves(house: House) -> None:
    wanted = frontdoor.topology(balancer=tiers.Balancer(policy="ip_hash"), web=tiers.Web(servers=3))
    seat = frontdoor.seat(house.folder, wanted)
    await house.web(seat)
    await house.door(seat)
    clients = [f"127.64.9.{client}" for client in range(1, 31)]

    before = {client: (await frontdoor.fetch(source=client)).server for client in clients}
    await admin.configure(frontdoor.with_web(seat, "web-1", "web-2"))
    after = {client: (await frontdoor.fetch(source=client)).server for client in clients}

    stayed = {client: server for client, server in before.items() if server != "web-3"}
    assert stayed == {client: after[client] for client in stayed}
    assert "web-3" not in after.values()


async def test_random_gives_each_server_about_the_same_in_no_order(house: House) -> None:
    await opened(house, tiers.Balancer(policy="random"))

    order = [(await frontdoor.fetch()).server for _ in range(200)]

    assert 60 < order.count("web-1") < 140  # six standard deviations of a fair coin are 42
    assert 60 < sum(one != other for one, other in itertools.pairwise(order)) < 140


async def test_fastest_prefers_the_server_that_answers_sooner(house: House) -> None:
    socket = await opened(house, tiers.Balancer(policy="fastest"))

    async def asked(server: str, seconds: float) -> None:
        """Requests that only one server answers, to give it its latency."""
        other = "web-2" if server == "web-1" else "web-1"
        await admin.drain(socket, ("web", other))
        await frontdoor.spread(30, f"/slow?seconds={seconds}", at_once=10)
        await admin.reopen(socket, ("web", other))

    await asked("web-1", 0.01)
    await asked("web-2", 0.08)
    changed = await admin.apply_fastest(socket)
    found = await frontdoor.spread(100)

    assert {("web", "web-1"), ("web", "web-2")} == set(changed)
    assert found["web-1"] > 3 * found["web-2"] > 0


async def test_a_path_finds_its_group_and_the_rest_goes_to_the_default_one(house: House) -> None:
    routes = (tiers.Route(path="/api", group="api"), tiers.Route(path="/api/reports/", group="reports"))
    groups = {"api": tiers.WebGroup(), "reports": tiers.WebGroup()}
    await opened(house, tiers.Balancer(route=routes), servers=1, web_groups=groups)

    paths = ("/", "/api", "/api/", "/api/x?y=/api/reports/", "/apiary", "/api/reports/1", "/x/api/")
    found = {path: (await frontdoor.fetch(path)).server for path in paths}

    assert {
        "/": "web-1",
        "/api": "web-api-1",
        "/api/": "web-api-1",
        "/api/x?y=/api/reports/": "web-api-1",
        "/apiary": "web-1",
        "/api/reports/1": "web-reports-1",
        "/x/api/": "web-1",
    } == found


async def test_a_server_that_says_it_is_not_ready_gets_nothing_until_it_is(house: House) -> None:
    socket = await opened(house, tiers.Balancer(policy="round_robin"))

    assert await frontdoor.tell("127.64.1.100", "/-/unready")
    assert await clock.until(lambda: _is(socket, "web-1", "down"), seconds=5)
    assert {"web-2": 10} == await frontdoor.spread(10)

    assert await frontdoor.tell("127.64.1.100", "/-/ready-again")
    assert await clock.until(lambda: _is(socket, "web-1", "up"), seconds=5)
    assert {"web-1": 5, "web-2": 5} == await frontdoor.spread(10)


async def test_a_sticky_client_stays_and_its_cookie_tells_nothing(house: House) -> None:
    socket = await opened(house, tiers.Balancer(policy="round_robin", sticky=True), servers=3)

    answers = [await frontdoor.fetch() for _ in range(3)]
    cookies = {answer.server: answer.headers["set-cookie"].split(";")[0] for answer in answers}
    for server, cookie in cookies.items():
        again = [await frontdoor.fetch(headers={"Cookie": cookie}) for _ in range(4)]
        assert {server} == {answer.server for answer in again}
        assert all("cookie" not in dict(answer.seen) for answer in again)

    assert {"web-1", "web-2", "web-3"} == set(cookies)
    for server, cookie in cookies.items():
        assert server not in cookie
        assert "127" not in cookie.partition("=")[2][:3]
        assert "8000" not in cookie
    assert "HttpOnly" in answers[0].headers["set-cookie"]
    await admin.drain(socket, ("web", "web-1"))
    moved = await frontdoor.fetch(headers={"Cookie": cookies["web-1"]})
    assert moved.server != "web-1"


async def test_a_server_that_joins_gets_sticky_clients_too(house: House) -> None:
    balancer = tiers.Balancer(policy="round_robin", sticky=True)
    seat = frontdoor.seat(house.folder, frontdoor.topology(balancer=balancer))
    await house.web(seat)
    await house.door(frontdoor.with_web(seat, "web-1"))

    await admin.configure(seat)
    answers = [await frontdoor.fetch() for _ in range(4)]
    joined = next(answer for answer in answers if answer.server == "web-2")
    cookie = joined.headers["set-cookie"].split(";")[0]
    again = [await frontdoor.fetch(headers={"Cookie": cookie}) for _ in range(4)]

    assert {"web-2"} == {answer.server for answer in again}


async def _began(house: House, count: int) -> bool:
    return len(house.journal()) >= count


async def _is(socket: Path, server: str, state: str) -> bool:
    return any(one.server == server and one.state == state for one in await admin.backends(socket))
