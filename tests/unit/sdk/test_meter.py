"""The meter of a web process: what a window holds, how exact its percentiles are, who is counted, who may read it."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import asgi
from tenfold import bindings, errors
from tenfold.sdk.asgi import inflight, meter, protocol

KEY = bindings.private_key(asgi.SECRET).encode()


def test_a_reading_adds_up_the_last_ten_seconds_and_no_more() -> None:
    one = meter.Meter(now=100.2)
    one.answered(500, 0.2, 0.1, now=100.3)
    for second in range(101, 110):
        one.answered(200, 0.1, 0.0, now=second + 0.5)
        one.answered(404, 0.1, 0.0, now=second + 0.5)

    whole, later = one.reading(109.7), one.reading(110.0)

    assert (19, 9, 1, 9.5) == tuple(
        whole[name] for name in ("requests", "answers_4xx", "answers_5xx", "window_seconds")
    )
    assert (2.0, 0.1) == (whole["busy_seconds"], whole["queued_seconds"])
    assert (18, 9, 0, 9.0) == tuple(
        later[name] for name in ("requests", "answers_4xx", "answers_5xx", "window_seconds")
    )
    assert 0 == one.reading(130.0)["requests"]


def test_what_was_shed_is_an_answer_without_a_latency() -> None:
    one = meter.Meter()
    one.refused(0.5)

    told = one.reading(0.5)

    assert (1, 1, 1, []) == tuple(told[name] for name in ("requests", "answers_5xx", "shed", "latencies"))


@given(st.floats(min_value=0.0, max_value=700.0))
def test_a_bucket_is_at_most_nine_percent_or_a_twentieth_of_a_millisecond_wide(seconds: float) -> None:
    one = meter.Meter()
    one.answered(200, seconds, 0.0, 0.0)

    ((upper, count),) = one.reading(0.0)["latencies"]

    assert 1 == count
    assert seconds <= upper + 1e-7 <= seconds * 1.0906 + 5e-5


def test_an_answer_that_took_hours_is_counted_too() -> None:
    one = meter.Meter()
    one.answered(200, 1e5, 0.0, 0.0)

    assert 1 == one.reading(0.0)["latencies"][0][1]


def test_memory_stays_bounded_while_seconds_pass() -> None:
    one = meter.Meter()
    for second in range(1000):
        one.answered(200, 0.01, 0.0, float(second))

    assert meter.SLOTS == len(one._slots)


async def load_of(app: Any, key: bytes = KEY) -> asgi.Response:
    return await asgi.get(app, "/-/load", headers=[(b"tenfold-key", key)])


@pytest.mark.anyio
async def test_the_door_counts_answers_errors_and_what_it_sheds() -> None:
    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        if scope["path"] == "/raises":
            raise ZeroDivisionError
        if scope["path"] == "/waits":
            raise errors.NoPrimary("none")
        await asgi.answer(send, 404 if scope["path"] == "/absent" else 200)

    async with asgi.opened(app) as wrapped:
        for path in ("/", "/absent", "/waits"):
            await asgi.get(wrapped, path)
        with pytest.raises(ZeroDivisionError):
            await asgi.get(wrapped, "/raises")
        tracker: inflight.InFlight = wrapped.service.inflight
        tracker.settings.max_requests = 0
        await asgi.get(wrapped)
        told = json.loads((await load_of(wrapped)).body)

    expected = {"requests": 5, "answers_4xx": 1, "answers_5xx": 3, "shed": 1, "in_flight": 0, "streams": 0}
    assert expected == {name: told[name] for name in expected}
    assert 4 == sum(count for _, count in told["latencies"])


@pytest.mark.anyio
async def test_time_in_the_balancers_queue_is_counted_beside_the_apps() -> None:
    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        await asgi.answer(send)

    async with asgi.opened(app) as wrapped:
        stamp = f"t={int((time.time() - 2) * 1e6)}".encode()
        await asgi.get(wrapped, headers=[(b"x-request-start", stamp)], client=(asgi.BALANCER, 1))
        told = json.loads((await load_of(wrapped)).body)

    assert 2.0 <= told["queued_seconds"] < 10.0
    assert told["busy_seconds"] < 2.0


@pytest.mark.anyio
@pytest.mark.parametrize("key", [b"", b"guess", KEY[:-1]])
async def test_without_the_key_there_is_no_such_page(key: bytes) -> None:
    async with asgi.opened(lambda scope, receive, send: asgi.answer(send)) as wrapped:
        assert 404 == (await load_of(wrapped, key)).status


@pytest.mark.anyio
async def test_a_service_without_a_secret_shows_nothing() -> None:
    async with asgi.opened(lambda scope, receive, send: asgi.answer(send), secret="") as wrapped:
        assert 404 == (await load_of(wrapped, bindings.private_key("").encode())).status
