"""The load generator against a server that misbehaves: when it sends, how often, and what counts as failed."""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.bad_server import BadServer, Drop, Seen, answer
from support.short_loads import look, order, reasons, run
from tenfold import errors, traffic
from tenfold.kit import clock
from tenfold.traffic import Plan, User, Write, journey, load

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[BadServer]:
    async with BadServer("127.67.1.1").serving() as serving:
        yield serving


async def test_an_honest_server_gets_every_request_on_its_time_and_none_fails(server: BadServer) -> None:
    report = await run(server, look, order)

    assert 50 == report.requests == len(server.requests) == report.total.count
    assert report.is_clean
    assert report.writes_acknowledged == len(server.orders) > 0
    assert report.own_reads > 0
    assert 0.24 < report.seconds < 5


async def test_connections_are_kept_alive(server: BadServer) -> None:
    await run(server, look, users=3)

    assert 3 >= server.connections
    assert max(seen.nth for seen in server.requests) > 10


async def test_a_stall_shows_as_latency_of_every_request_that_was_due_though_few_were_in_flight(
    server: BadServer,
) -> None:
    stalled_until = time.monotonic() + 2.0

    async def stall(_: Seen) -> bytes | None:
        await asyncio.sleep(max(0.0, stalled_until - time.monotonic()))
        return None

    server.rule = stall
    report = await run(server, look, rate=100, seconds=2.5, users=3)

    assert 250 == report.requests == len(server.requests)
    assert 3 >= server.most_in_flight
    assert 1.8 < report.total.longest_seconds < 2.5
    # The wait of a request due at t is 2 - t: half of the 250 that were due waited for a second and more.
    assert 0.5 < report.total.percentile(50) < 1.4
    assert report.slowest is not None
    assert report.slowest.intended < 0.2


async def test_a_busy_load_generator_says_how_late_it_was(server: BadServer) -> None:
    @journey
    async def hog(user: User) -> None:
        await user.get("/")
        if user.number == 1 and "done" not in user.memory:
            user.memory["done"] = True
            time.sleep(0.2)  # noqa: ASYNC251 (what a journey must not do)

    report = await run(server, hog)

    assert 0.15 < report.late_seconds
    assert 0.15 < report.total.longest_seconds


async def test_a_5xx_is_a_failure_and_a_status_that_was_not_expected_too(server: BadServer) -> None:
    async def refuse(seen: Seen) -> bytes | None:
        return {"/": answer(500), "/gone": answer(404), "/maybe": answer(404)}.get(seen.path)

    @journey
    async def go(user: User) -> None:
        for path, expect in (("/", {200, 500}), ("/gone", None), ("/maybe", {200, 404})):
            try:
                await user.get(path, expect=expect)
            except errors.RequestFailed:
                continue

    server.rule = refuse
    report = await run(server, go, users=1, rate=120)

    assert {"status 500": 10, "status 404": 10} == reasons(report)
    assert 30 == report.requests
    assert "GET /gone" in report.failures["status 404"].examples[0]


async def test_kept_connections_that_close_at_random_moments_cost_repeats_and_no_failure(
    server: BadServer, chance: random.Random
) -> None:
    dropped = 0

    async def drop_some(seen: Seen) -> bytes | None:
        nonlocal dropped
        if seen.nth > 1 and chance.random() < 0.2:
            dropped += 1
            raise Drop(is_reset=chance.random() < 0.5)
        if chance.random() < 0.02:
            asyncio.get_running_loop().call_later(0.001, server.close_idle)
        return None

    server.rule = drop_some
    report = await run(server, look, order, rate=300, seconds=1, users=10)

    assert {} == reasons(report)
    assert report.repeated >= dropped > 10  # and those that crossed the server's closing on their way
    assert set(server.counts.values()) == {1}
    assert report.writes_acknowledged == len(server.orders)


async def test_a_repeat_is_made_once_and_on_a_new_connection(server: BadServer) -> None:
    async def always(_: Seen) -> bytes | None:
        raise Drop

    server.rule = always
    report = await run(server, look, rate=40)

    assert {"died": 10} == reasons(report)
    assert 10 == report.repeated
    assert 20 == len(server.requests) == len({seen.connection for seen in server.requests})


async def test_a_repeat_does_not_trust_another_kept_connection(server: BadServer) -> None:
    async def drop_kept(seen: Seen) -> bytes | None:
        await asyncio.sleep(0.01)  # so that two requests at the same time need two connections
        if seen.nth > 1:
            raise Drop
        return None

    @journey
    async def pair_and_one(user: User) -> None:
        await asyncio.gather(user.get("/"), user.get("/"))
        await user.get("/")  # on one of two kept connections; the other is as dead

    server.rule = drop_kept
    report = await run(server, pair_and_one, users=1)

    assert {} == reasons(report)
    assert report.repeated > 10


async def test_a_post_without_a_key_is_never_sent_twice(server: BadServer) -> None:
    async def always(_: Seen) -> bytes | None:
        raise Drop

    @journey
    async def unkeyed(user: User) -> None:
        write = Write("order", is_keyed=False)
        await user.post("/orders", json={"reference": write.reference}, write=write)

    server.rule = always
    report = await run(server, unkeyed, rate=40)

    assert {"died": 10} == reasons(report)
    assert 0 == report.repeated
    assert 10 == len(server.requests)


@pytest.mark.parametrize("is_reset", [True, False])
@pytest.mark.parametrize("first", [b"H", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"])
async def test_a_connection_that_dies_within_an_answer_is_a_failure_and_nothing_is_repeated(
    server: BadServer, first: bytes, is_reset: bool
) -> None:
    async def cut(_: Seen) -> bytes | None:
        raise Drop(first, is_reset=is_reset)

    server.rule = cut
    report = await run(server, look, rate=40)

    assert {"cut": 10} == reasons(report)
    assert 0 == report.repeated
    assert 10 == len(server.requests)


async def test_a_refused_connection_is_a_failure_and_is_not_tried_again() -> None:
    report = await run("http://127.67.1.2:9", look, rate=40)

    assert {"refused": 10} == reasons(report)
    assert 0 == report.repeated


async def test_an_answer_that_takes_too_long_is_a_failure_with_its_wait_counted(server: BadServer) -> None:
    async def hang(_: Seen) -> bytes | None:
        await asyncio.sleep(30)
        return None

    server.rule = hang
    report = await run(server, look, rate=20, timeout_seconds=0.3)

    assert {"timeout": 5} == reasons(report)
    assert 0.3 <= report.total.percentile(50) < 2


async def test_bytes_that_are_not_http_are_a_failure(server: BadServer) -> None:
    async def mumble(_: Seen) -> bytes | None:
        return b"\x00\x01 hello\r\n\r\n"

    server.rule = mumble
    report = await run(server, look, rate=40)

    assert {"garbled": 10} == reasons(report)


async def test_a_server_that_hides_a_sessions_own_write_is_found(server: BadServer) -> None:
    reads = itertools.count(1)

    async def hide(seen: Seen) -> bytes | None:
        if seen.method == "GET" and next(reads) % 4 == 0:
            return answer(200, [], "x-tenfold-position: 0.1.1.9F\r\n")
        return None

    server.rule = hide
    report = await run(server, order, users=1)

    assert {} == reasons(report)
    assert report.own_reads > report.stale_reads > 3
    assert not report.is_clean


async def test_a_stall_brings_more_users_who_leave_again(server: BadServer) -> None:
    stalled_until = time.monotonic() + 0.5

    async def stall(_: Seen) -> bytes | None:
        await asyncio.sleep(max(0.0, stalled_until - time.monotonic()))
        return None

    server.rule = stall
    async with traffic.Load(server.url, Plan([look]), rate=100, users=200) as running:
        await asyncio.sleep(0.4)
        during = running.users

        async def have_left() -> bool:
            return running.users <= 20

        assert await clock.until(have_left, seconds=10, pause_seconds=0.01)

    assert during > 25
    assert server.most_in_flight > 25
    assert running.report.is_clean


async def test_requests_nobody_was_free_to_send_are_failures(
    server: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_: Seen) -> bytes | None:
        await asyncio.sleep(30)
        return None

    monkeypatch.setattr(load, "DRAIN_SECONDS", 0.2)
    server.rule = hang
    report = await run(server, look, rate=100, users=1)

    assert 24 == reasons(report)["unsent"]
    assert not report.is_clean


async def test_a_journey_that_raises_is_reported_and_the_load_goes_on(server: BadServer) -> None:
    @journey
    async def trip(user: User) -> None:
        body = (await user.get("/")).json()
        body["nothing of that name"]

    @journey
    async def complain(user: User) -> None:
        await user.get("/")
        user.wrong("the wrong colour")

    report = await run(server, trip, complain, rate=200)

    assert 50 == report.requests
    assert {"journey raised", "wrong"} == set(reasons(report))
    assert 40 < report.failed <= 50
    assert "test_traffic.py" in report.failures["journey raised"].examples[0]


async def test_a_journey_without_a_request_neither_spins_nor_hangs(server: BadServer) -> None:
    calls = 0

    @journey
    async def idle(_: User) -> None:
        nonlocal calls
        calls += 1

    report = await run(server, idle, users=1)

    assert calls < 20
    assert {"unsent": 50} == reasons(report)


async def test_a_seed_repeats_the_choices_but_never_the_references(server: BadServer) -> None:
    paths, references = [], []
    for _ in range(2):
        server.requests.clear()
        await run(server, look, order, users=1)
        paths.append([(seen.method, seen.path) for seen in server.requests])
        references.append({seen.reference for seen in server.requests if seen.body})

    assert paths[0] == paths[1]
    assert not references[0] & references[1]


async def test_an_exception_inside_the_block_ends_the_load_and_passes_unchanged(server: BadServer) -> None:
    async def drill() -> None:
        async with traffic.Load(server.url, Plan([look]), rate=100):
            await asyncio.sleep(0.05)
            raise RuntimeError("drill went wrong")

    with pytest.raises(RuntimeError, match="drill went wrong"):
        await drill()

    assert [] == [task for task in asyncio.all_tasks() if "Load." in repr(task)]


async def test_leaving_the_block_ends_a_load_without_an_end_and_answers_what_was_due(server: BadServer) -> None:
    async with traffic.Load(server.url, Plan([look]), rate=200) as running:
        await asyncio.sleep(0.2)

    assert 10 < running.report.requests == len(server.requests)
    assert running.report.is_clean


async def test_a_load_that_is_left_at_once_ends_at_once(server: BadServer) -> None:
    began = time.monotonic()
    async with traffic.Load(server.url, Plan([look]), rate=100):
        pass

    assert time.monotonic() - began < 5
    assert [] == [task for task in asyncio.all_tasks() if "Load." in repr(task)]


async def test_a_journey_that_clings_to_life_does_not_keep_the_load(
    server: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "DRAIN_SECONDS", 0.1)
    monkeypatch.setattr(load, "CANCEL_SECONDS", 0.1)
    released = asyncio.Event()

    @journey
    async def cling(_: User) -> None:
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()

    report = await run(server, cling, users=1)
    released.set()
    await asyncio.sleep(0)

    assert {"unsent": 50} == reasons(report)


@pytest.mark.parametrize(
    "wrong",
    [{"rate": 0}, {"rate": float("nan")}, {"seconds": -1}, {"users": 0}, {"url": "ftp://x"}, {"url": "nonsense"}],
)
async def test_arguments_that_cannot_be_are_bad_input(wrong: dict[str, Any]) -> None:
    options: dict[str, Any] = {"url": "http://127.67.1.1:1", "rate": 1, **wrong}

    with pytest.raises(errors.BadInput):
        traffic.Load(options.pop("url"), Plan([look]), **options)
