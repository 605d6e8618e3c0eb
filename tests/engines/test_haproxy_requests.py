"""What the front door does to a request and to its answer, and what it does not let through."""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from support import frontdoor
from support.frontdoor import House
from tenfold import engines
from tenfold.engines import haproxy
from tenfold.topology import tiers

pytestmark = pytest.mark.anyio


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with frontdoor.house(tmp_path) as made:
        yield made


@pytest.fixture
async def seat(house: House) -> engines.Seat:
    """One front door before one web server."""
    wanted = frontdoor.topology(balancer=tiers.Balancer(servers=1), web=tiers.Web(servers=1))
    made = frontdoor.seat(house.folder, wanted)
    await house.web(made)
    await house.door(made)
    return made


async def seen(headers: dict[str, str], source: str = "127.0.0.1") -> dict[str, list[str]]:
    """The headers that the web server got, by name."""
    answer = await frontdoor.fetch(headers=headers, source=source)
    found: dict[str, list[str]] = {}
    for name, value in answer.seen:
        found.setdefault(name, []).append(value)
    return found


async def raw(*lines: str) -> bytes:
    """Everything that the front door answers to these lines until it closes the connection, or for half a second."""
    connection = await frontdoor.Connection.open()
    connection.writer.write("\r\n".join(lines).encode())
    try:
        async with asyncio.timeout(0.5):
            return await connection.reader.read()
    except TimeoutError:
        return b""
    finally:
        await connection.close()


async def test_what_only_a_proxy_may_say_is_not_believed_when_a_client_says_it(seat: engines.Seat) -> None:
    lies = {
        "X-Forwarded-For": "10.0.0.1",
        "x-forwarded-proto": "https",
        "X-Forwarded-Host": "evil.test",
        "X-Forwarded-Prefix": "/admin",
        "X_Forwarded_For": "10.0.0.1",
        "Forwarded": "for=10.0.0.1",
        "X-Real-IP": "10.0.0.1",
        "X-Request-Start": "t=1",
        "X-Request-Id": "mine",
    }

    found = await seen(lies, source="127.64.9.7")

    assert ["127.64.9.7"] == found["x-forwarded-for"]
    assert ["http"] == found["x-forwarded-proto"]
    assert ["shop.test"] == found["x-forwarded-host"]
    assert not {"x-forwarded-prefix", "x_forwarded_for", "forwarded", "x-real-ip"} & set(found)
    assert 1 == len(found["x-request-start"]) == len(found["x-request-id"])
    assert "mine" not in found["x-request-id"]


async def test_a_request_is_stamped_with_the_time_at_which_it_arrived(seat: engines.Seat) -> None:
    before = time.time()
    found = await seen({})
    after = time.time()

    stamp = re.fullmatch(r"t=(\d+)", found["x-request-start"][0])

    assert stamp is not None
    assert before - 0.01 <= int(stamp[1]) / 1e6 <= after + 0.01


async def test_every_request_has_an_id_of_its_own_which_the_answer_repeats(seat: engines.Seat) -> None:
    answers = [await frontdoor.fetch() for _ in range(10)]

    ids = {dict(answer.seen)["x-request-id"] for answer in answers}

    assert 10 == len(ids)
    assert ids == {answer.headers["x-request-id"] for answer in answers}
    assert all(uuid.UUID(one) for one in ids)


async def test_other_headers_and_the_body_pass_unchanged(seat: engines.Seat) -> None:
    body = b"x" * 300_000
    answer = await frontdoor.fetch("/a%20b?q=1", "PUT", body, {"X-Tenfold-Position": "0.1.1.A", "traceparent": "00-1"})

    assert '"size": 300000' in answer.body.decode()
    assert '"path": "/a b"' in answer.body.decode()
    assert {"x-tenfold-position": "0.1.1.A", "traceparent": "00-1"}.items() <= dict(answer.seen).items()


async def test_a_request_with_two_lengths_does_not_smuggle_another(house: House, seat: engines.Seat) -> None:
    hidden = "GET /?id=hidden HTTP/1.1\r\nHost: shop.test\r\n\r\n"
    both = ("POST /?id=outer HTTP/1.1", "Host: shop.test", f"Content-Length: {len(hidden) + 5}")

    answers = await raw(*both, "Transfer-Encoding: chunked", "", "0", "", hidden)
    different = await raw(*both, "Content-Length: 3", "", hidden)
    spaced = await raw(*both[:2], "Transfer-Encoding : chunked", "", "0", "", hidden)
    odd = await raw(*both[:2], "Transfer-Encoding: xchunked", f"Content-Length: {len(hidden)}", "", hidden)

    assert answers.count(b"HTTP/1.1 ") <= 1, "the hidden request was answered"
    assert b" 400 " in different.split(b"\r\n")[0]
    assert b" 400 " in spaced.split(b"\r\n")[0]
    assert b" 200 " not in odd.split(b"\r\n")[0] or 0 == house.began()["id=hidden"]
    assert 0 == house.began()["id=hidden"]


async def test_a_malformed_request_is_refused_by_the_front_door(house: House, seat: engines.Seat) -> None:
    for line in ("GET / HTTP/1.1\nHost: a\r\nBad Name: x", "GET /\x01 HTTP/1.1", "nonsense"):
        assert b" 400 " in (await raw(line, "Host: shop.test", "", "")).split(b"\r\n")[0]

    assert [] == house.journal()


async def test_statistics_are_on_the_private_address_only(seat: engines.Seat) -> None:
    connection = await frontdoor.Connection.open(at=(seat.address, 8404))
    connection.writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    metrics = await asyncio.wait_for(connection.reader.read(), 5)
    await connection.close()

    assert b"haproxy_server_status" in metrics
    assert "web-1" == (await frontdoor.fetch("/metrics")).server
    assert (seat.run / f"{seat.server.name}.haproxy").stat().st_mode & 0o777 == 0o600


async def test_a_web_socket_passes(seat: engines.Seat) -> None:
    url = f"http://{frontdoor.LISTEN[0]}:{frontdoor.LISTEN[1]}/echo"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await socket.send_str("one")
        first = await socket.receive_str(timeout=5)
        await socket.send_str("two")
        second = await socket.receive_str(timeout=5)

    assert ["web-1: one", "web-1: two"] == [first, second]


async def test_a_ready_door_says_its_role(seat: engines.Seat) -> None:
    assert engines.Health(is_ready=True, role="front door") == await haproxy.ENGINE.probe(seat)


@pytest.mark.parametrize(
    "path", ["/-/load", "/-/", "/-/load?x=1", "/%2d/load", "/%2D%2fload", "/-/live/../load", "http://shop.test/-/load"]
)
async def test_private_pages_of_web_servers_are_not_shown_outside(house: House, seat: engines.Seat, path: str) -> None:
    answer = await raw(f"GET {path} HTTP/1.1", "Host: shop.test", "Connection: close", "", "")

    assert b" 404 " in answer.split(b"\r\n")[0]
    assert [] == house.journal()


async def test_health_may_be_asked_for_from_outside(seat: engines.Seat) -> None:
    assert 200 == (await frontdoor.fetch("/-/ready")).status
