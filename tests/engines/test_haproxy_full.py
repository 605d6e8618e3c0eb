"""A group of web servers that is as large as it may be: who would wait in vain is refused at once, and counted."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support import frontdoor
from support.frontdoor import House
from tenfold.engines.haproxy import admin, settings

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(90)]

SLOW = "/slow?seconds=0.5"
CROWD = 140
"""16 have a place, and for half a second each: the last of them would wait four seconds, more than 2.5 is in vain."""


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with frontdoor.house(tmp_path) as made:
        yield made


async def crowd(count: int) -> list[tuple[frontdoor.Answer, float]]:
    """The answers to so many who come at once, and how long each took."""

    async def one() -> tuple[frontdoor.Answer, float]:
        began = time.monotonic()
        answer = await frontdoor.fetch(SLOW)
        return answer, time.monotonic() - began

    return await asyncio.gather(*(one() for _ in range(count)))


async def test_requests_wait_for_servers_that_may_come_and_are_refused_early_once_none_will(house: House) -> None:
    wanted = frontdoor.topology(
        balancer={"servers": 1}, web={"servers": {"min": 1, "max": 2}, "max_requests": 4}, database={"pool_size": 5}
    )
    seat = frontdoor.seat(house.folder, wanted)
    await house.web(seat)
    await house.door(seat)
    socket = settings.runtime_socket(seat)
    await crowd(32)  # from now on it is known how long an answer takes

    assert {200} == {answer.status for answer, _ in await crowd(CROWD)}, "a server may come: all wait"

    await admin.refuse_early(socket, {"web": True})
    assert {200} == {answer.status for answer, _ in await crowd(48)}, "all of them have their turn in time"
    answers = await crowd(CROWD)
    refused = [(answer, seconds) for answer, seconds in answers if answer.status == 503]
    print(f"\n{len(refused)} of {CROWD} refused, the last after {max(seconds for _, seconds in refused):.2f} s")
    assert 0 < len(refused) < CROWD / 2
    assert {("capacity", "1")} == {
        (answer.headers["tenfold-refused"], answer.headers["retry-after"]) for answer, _ in refused
    }
    assert {200, 503} == {answer.status for answer, _ in answers}
    slowest_refusal = max(seconds for _, seconds in refused)
    assert slowest_refusal < settings.of(seat).queue_milliseconds / 1000 / 2, "not after a wait"
    assert len(refused) == (await admin.stats(socket)).refused

    await admin.refuse_early(socket, {"web": False})
    assert {200} == {answer.status for answer, _ in await crowd(CROWD)}, "one may come again"
