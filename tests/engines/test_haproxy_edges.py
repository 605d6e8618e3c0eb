"""Edges between the two frontends of a balancer: who goes by them, who does not, and what becomes of the rest when they
die, come and go. The test's client never repeats a request."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from support import frontdoor
from support.frontdoor import House
from tenfold import bindings, engines
from tenfold.engines.haproxy import admin, counts, settings
from tenfold.kit import clock
from tenfold.topology import layout, tiers

pytestmark = pytest.mark.anyio

CDN = tiers.Cdn(edges=2, path=(tiers.CdnPath(path="/prices/", ttl="30s"), tiers.CdnPath(path="/prices/gold", ttl="9s")))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with frontdoor.house(tmp_path) as made:
        yield made


def seated(house: House, cdn: tiers.Cdn | None = CDN) -> engines.Seat:
    balancer = tiers.Balancer(servers=1, policy="round_robin", sticky=False)
    return frontdoor.seat(house.folder, frontdoor.topology(balancer=balancer, cdn=cdn))


async def opened(house: House) -> engines.Seat:
    seat = seated(house)
    await house.web(seat)
    await house.edge(seat)
    await house.door(seat)
    return seat


async def by_edge(path: str = "/", method: str = "GET", body: bytes = b"", **headers: str) -> bool:
    """Whether a request that must succeed was answered by way of an edge."""
    answer = await frontdoor.fetch(path, method, body, {name.replace("_", "-"): text for name, text in headers.items()})
    assert 200 == answer.status, (path, answer)
    return "cache-status" in answer.headers


async def test_what_an_edge_may_answer_goes_by_one_and_nothing_else_does(house: House) -> None:
    seat = await opened(house)
    key = bindings.debug_key(frontdoor.SECRETS.signing)

    assert await by_edge()
    assert await by_edge(method="HEAD")
    assert await by_edge(Cookie="shop-session=1", Authorization="Bearer x")
    assert await by_edge(Tenfold_Debug="guessed")
    assert not await by_edge(method="POST")
    assert not await by_edge(method="DELETE")
    assert not await by_edge(body=b"a body")
    assert not await by_edge(Cookie="a=b; shop-edge.1=7")
    assert not await by_edge(X_Tenfold_Position="1")
    assert not await by_edge(Tenfold_Debug=key)
    assert not await by_edge("/-/ready")
    assert [404, 404, 404] == [
        (await frontdoor.fetch(path)).status for path in ("/-/origin", "/-/edge", "http://shop.test/-/load")
    ]
    url = f"http://{frontdoor.LISTEN[0]}:{frontdoor.LISTEN[1]}/echo"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await socket.send_str("one")
        assert (await socket.receive_str(timeout=5)).endswith(": one")
    origin = await frontdoor.Connection.open(at=(seat.address, layout.ORIGIN_PORT))
    assert [200, 404] == [(await origin.request(path)).status for path in ("/-/origin", "/-/load")]
    await origin.close()


async def test_what_the_front_door_has_set_passes_the_edge_and_is_believed_behind_it(house: House) -> None:
    await opened(house)
    forged = {"X-Forwarded-For": "6.6.6.6", "Tenfold-Edge": "edge-1", "X-Request-Start": "t=1", "X-Request-Id": "mine"}

    answer = await frontdoor.fetch("/who", headers=forged, source="127.0.0.9")

    seen = dict(answer.seen)
    assert len(seen) == len(answer.seen), "no header comes twice"
    assert "127.0.0.9" == seen["x-forwarded-for"]
    assert answer.headers["x-request-id"] == seen["x-request-id"] != "mine"
    assert "t=1" != seen["x-request-start"]
    assert "shop.test" == seen["host"] == seen["x-forwarded-host"]
    assert not [name for name in seen if name.startswith("tenfold-")]


async def test_an_edge_dies_and_then_all_do_and_come_back_and_no_request_fails(house: House) -> None:
    seat = await opened(house)

    async with frontdoor.load(150, keep_alive=20, writes=True) as load:
        await asyncio.sleep(0.5)
        await house.edges["edge-1"].kill()
        await asyncio.sleep(0.7)
        await house.edges["edge-2"].kill()
        await asyncio.sleep(0.7)
        assert not await by_edge(), "there is none"
        await house.edge(seat)

        async def both_serve() -> bool:
            found = await admin.backends(settings.runtime_socket(seat))
            return ["up", "up"] == [one.state for one in found if one.group == settings.EDGES]

        assert await clock.until(both_serve, seconds=10)
        await asyncio.sleep(0.3)

    assert [] == load.failures
    assert {1} == {count for request, count in house.began().items() if int(request.removeprefix("id=") or 1) % 2}
    assert await by_edge()


async def test_an_edge_that_dies_with_requests_inside_it_is_not_noticed(house: House) -> None:
    await opened(house)

    async def ask(number: int) -> int:
        return (await frontdoor.fetch(f"/slow?seconds=0.7&number={number}")).status

    asking = [asyncio.create_task(ask(number)) for number in range(12)]
    await asyncio.sleep(0.3)
    for edge in house.edges.values():
        await edge.kill()

    assert [200] * 12 == await asyncio.gather(*asking)


async def test_edges_come_and_go_while_it_serves_and_no_request_fails(house: House) -> None:
    direct, full = seated(house, None), seated(house)
    socket = settings.runtime_socket(full)
    await house.web(direct)
    await house.door(direct)
    await house.edge(full)

    async def reach(wanted: engines.Seat, *edges: str) -> admin.Changes:
        seat = frontdoor.with_only(wanted, "varnish", *edges)
        frontdoor.write(seat)
        changes = await admin.configure(seat)
        known = await admin.backends(socket)
        assert set(edges) == {one.server for one in known if one.group == settings.EDGES}
        await asyncio.sleep(0.5)
        return changes

    async with frontdoor.load(150, keep_alive=20, writes=True) as load:
        assert (await reach(full, "edge-1")).is_reloaded
        added = await reach(full, "edge-1", "edge-2")
        removed = await reach(full, "edge-2")
        left = await reach(direct)
        await asyncio.sleep(1)  # clients of the process that was replaced go on for a while

    assert [] == load.failures
    assert admin.Changes(added=((settings.EDGES, "edge-2"),)) == added
    assert admin.Changes(removed=((settings.EDGES, "edge-1"),)) == removed
    assert left.is_reloaded
    assert ((settings.EDGES, "edge-2"),) == left.removed
    assert not await by_edge()


async def test_a_client_of_a_process_that_was_replaced_twice_does_not_miss_the_edges(house: House) -> None:
    seat = await opened(house)
    idle = await frontdoor.Connection.open()
    assert "cache-status" in (await idle.request("/")).headers
    other = tiers.Balancer(servers=1, policy="least_connections", sticky=False)
    for cdn in (CDN, None):
        seat = frontdoor.seat(house.folder, frontdoor.topology(balancer=other, cdn=cdn))
        frontdoor.write(seat)
        assert (await admin.configure(seat)).is_reloaded
    for edge in house.edges.values():
        await edge.kill()

    assert 200 == (await idle.request("/")).status
    assert 200 == (await frontdoor.fetch("/")).status
    await idle.close()


async def test_a_request_by_an_edge_waits_while_no_web_server_can_take_it(house: House) -> None:
    seat = seated(house)
    await house.edge(seat)
    await house.door(seat)
    asking = asyncio.create_task(frontdoor.fetch("/waits"))
    await asyncio.sleep(0.5)

    await house.web(seat)
    answer = await asking

    assert (200, True) == (answer.status, "cache-status" in answer.headers)


async def test_what_edges_answer_and_fetch_is_counted_by_edge_and_path(house: House) -> None:
    seat = await opened(house)
    sizes = [0, 0]
    for path in ("/prices/1", "/prices/1", "/prices/1", "/other", "/prices/gold", "/prices/gold/1", "/pricestag"):
        answer = await frontdoor.fetch(path)
        sizes["hit" in answer.headers["cache-status"]] += len(answer.body)

    found = counts.total(await admin.edge_counts(settings.runtime_socket(seat)))

    def told(outcome: str) -> dict[str, int]:
        kept = {path for _, path, _ in found}
        return {
            path: n
            for path in sorted(kept)
            if (n := sum(one[0] for key, one in found.items() if key[1:] == (path, outcome)))
        }

    def size(outcome: str) -> int:
        return sum(one[1] for key, one in found.items() if key[2] == outcome)

    assert {"/prices/": 2} == told(counts.HIT)
    assert {"": 2, "/prices/": 1, "/prices/gold": 2} == told(counts.FORWARDED) == told(counts.FETCHED)
    assert {"edge-1", "edge-2"} >= {edge for edge, _, _ in found}
    assert sizes[1] < size(counts.HIT) < sizes[1] + 2 * 600, "the bodies and their heads"
    assert sizes[0] < size(counts.FORWARDED) < sizes[0] + 5 * 600
