"""A canary's share through the real HAProxy: by every policy, and with 1 % as with 50 %."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from support import frontdoor
from support.frontdoor import House
from tenfold.engines.haproxy import admin, settings
from tenfold.planning import releases
from tenfold.topology import tiers

pytestmark = pytest.mark.anyio

USUAL = {"web-1": 100, "web-2": 100, "web-3": 100}

BY_TURNS = ("least_connections", "weighted_least_connections", "fastest")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with frontdoor.house(tmp_path) as made:
        yield made


async def opened(house: House, policy: tiers.Policy, weights: Mapping[str, int]) -> Path:
    """Three web servers behind one front door that knows these weights; its runtime socket."""
    balancer = tiers.Balancer(policy=policy, weights=USUAL if policy.startswith("weighted") else {})
    wanted = frontdoor.topology(balancer=balancer, web=tiers.Web(servers=3))
    seat = replace(frontdoor.seat(house.folder, wanted), weights=weights)
    await house.web(seat)
    await house.door(seat)
    return settings.runtime_socket(seat)


@pytest.mark.parametrize("policy", BY_TURNS)
async def test_a_canary_gets_its_share_of_the_requests_also_when_nobody_is_busy(
    house: House, policy: tiers.Policy
) -> None:
    await opened(house, policy, releases.weights(10, USUAL, ("web-3",)))

    found = await frontdoor.spread(200)

    assert 18 <= found["web-3"] <= 22
    assert abs(found["web-1"] - found["web-2"]) <= 4


@pytest.mark.parametrize(("percent", "least", "most"), [(2, 2, 6), (50, 98, 102)])
async def test_a_small_and_a_great_share_are_kept(house: House, percent: float, least: int, most: int) -> None:
    await opened(house, "least_connections", releases.weights(percent, USUAL, ("web-3",)))

    assert least <= (await frontdoor.spread(200))["web-3"] <= most


async def test_by_chance_a_canary_gets_about_its_share(house: House) -> None:
    await opened(house, "random", releases.weights(10, USUAL, ("web-3",)))

    assert 10 <= (await frontdoor.spread(400))["web-3"] <= 80  # six standard deviations of 40 are 36


async def test_by_addresses_a_canary_gets_about_its_share_of_the_clients(house: House) -> None:
    await opened(house, "ip_hash", releases.weights(25, USUAL, ("web-3",)))

    found = [await frontdoor.spread(2, source=f"127.64.{client // 200}.{client % 200 + 1}") for client in range(400)]

    assert {1} == {len(servers) for servers in found}, "a client stays on its server"
    assert 40 <= sum("web-3" in servers for servers in found) <= 180


async def test_while_the_canary_is_down_the_others_take_its_share_and_it_gets_it_back(house: House) -> None:
    socket = await opened(house, "round_robin", releases.weights(10, USUAL, ("web-3",)))

    await admin.drain(socket, ("web", "web-3"))
    without = await frontdoor.spread(60)
    await admin.reopen(socket, ("web", "web-3"))
    after = await frontdoor.spread(100)

    assert "web-3" not in without
    assert 8 <= after["web-3"] <= 12
