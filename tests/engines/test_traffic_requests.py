"""The load generator's requests and answers, over real sockets: cookies, redirects, bodies."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from support.bad_server import BadServer, Drop, Seen, answer
from support.short_loads import order, reasons, run
from tenfold import errors
from tenfold.traffic import User, Write, journey

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[BadServer]:
    async with BadServer("127.67.1.1").serving() as serving:
        yield serving


async def test_each_user_keeps_its_own_cookies_until_it_becomes_somebody_else(server: BadServer) -> None:
    @journey
    async def two_lives(user: User) -> None:
        await user.get("/first")
        await user.get("/again")
        user.forget()
        await user.get("/other")

    await run(server, two_lives, users=1, rate=40)

    cookies = [seen.session for seen in server.requests]
    assert ["/first", "/again", "/other"] == [seen.path for seen in server.requests[:3]]
    assert "" == cookies[0] == cookies[2]
    assert "" != cookies[1]


async def test_redirects_are_followed_as_a_browser_does_and_the_write_counts_as_acknowledged(
    server: BadServer,
) -> None:
    async def send_on(seen: Seen) -> bytes | None:
        where = {"/orders": (303, "/done?x=1"), "/same": (307, "/kept"), "/away": (302, "http://elsewhere.test/")}
        if seen.path not in where:
            return None
        status, location = where[seen.path]
        return answer(status, None, f"location: {location}\r\n")

    @journey
    async def go(user: User) -> None:
        write = Write("order")
        await user.post("/orders", json={"reference": write.reference}, write=write)
        assert write.is_acknowledged
        await user.put("/same", json={"a": 1})
        await user.get("/away")

    server.rule = send_on
    report = await run(server, go, users=1, rate=12)

    seen = [(one.method, one.path, bool(one.body)) for one in server.requests[:5]]
    assert [
        ("POST", "/orders", True),
        ("GET", "/done?x=1", False),
        ("PUT", "/same", True),
        ("PUT", "/kept", True),
        ("GET", "/away", False),
    ] == seen
    assert {"garbled": 1} == reasons(report)
    assert 3 == report.requests


async def test_a_write_whose_redirect_leads_to_an_error_is_failed_and_acknowledged_all_the_same(
    server: BadServer,
) -> None:
    async def send_into_the_ditch(seen: Seen) -> bytes | None:
        return answer(500) if seen.method == "GET" else answer(303, None, "location: /ditch\r\n")

    server.rule = send_into_the_ditch
    report = await run(server, order, rate=40)

    assert {"status 500": 10} == reasons(report)
    assert 10 == report.writes_acknowledged


async def test_bodies_in_chunks_without_length_and_on_closing_connections_are_read_whole(server: BadServer) -> None:
    async def shapes(seen: Seen) -> bytes | None:
        if seen.path == "/chunks":
            return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        if seen.path == "/close":
            return b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nabcde"
        raise Drop(b"HTTP/1.1 200 OK\r\n\r\nabcde")

    @journey
    async def read(user: User) -> None:
        for path in ("/chunks", "/close", "/unmeasured"):
            assert "abcde" == (await user.get(path)).text

    server.rule = shapes
    report = await run(server, read, users=1, rate=48)

    assert 12 == report.requests
    assert report.is_clean, reasons(report)
    assert 0 == report.repeated


async def test_bytes_nobody_asked_for_are_not_taken_for_the_next_answer(server: BadServer) -> None:
    async def answer_twice(seen: Seen) -> bytes | None:
        return answer(200, seen.path) + answer(200, "somebody else's")

    @journey
    async def read(user: User) -> None:
        path = f"/{user.requests}"
        assert path == (await user.get(path)).json()

    server.rule = answer_twice
    report = await run(server, read, users=1, rate=80)

    assert 20 == report.requests
    assert report.is_clean, reasons(report)


async def test_a_request_that_cannot_be_sent_is_a_failure_that_says_why(server: BadServer) -> None:
    @journey
    async def mistaken(user: User) -> None:
        with contextlib.suppress(errors.RequestFailed):
            await user.get("/a b")
        await user.get("/", headers={"content-length": "5"})

    report = await run(server, mistaken, users=1, rate=40)

    assert {"garbled": 10} == reasons(report)
    assert "not a request that can be sent" in report.failures["garbled"].examples[0]
    assert [] == server.requests


async def test_requests_of_one_user_may_run_at_the_same_time(server: BadServer) -> None:
    async def slowly(_: Seen) -> bytes | None:
        await asyncio.sleep(0.05)
        return None

    @journey
    async def page(user: User) -> None:
        await asyncio.gather(*(user.get(f"/{part}") for part in range(5)))

    server.rule = slowly
    report = await run(server, page, users=1)

    assert 5 == server.most_in_flight
    assert report.is_clean
