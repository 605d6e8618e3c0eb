"""When requests are due, and who sends them."""

import asyncio
import itertools
import random

import pytest

from tenfold.traffic import pacing


def test_even_arrivals_keep_the_rate_and_end() -> None:
    due = list(pacing.arrivals(rate=50, seconds=2))

    assert 100 == len(due)
    assert [0.0, 0.02, 0.04] == due[:3]
    assert due[-1] == pytest.approx(1.98)


@pytest.mark.parametrize(("rate", "seconds", "count"), [(3, 1, 3), (0.5, 1, 1), (1000, 0.001, 1), (7, 0.3, 3)])
def test_a_run_has_as_many_requests_as_rate_and_time_say(rate: float, seconds: float, count: int) -> None:
    assert count == len(list(pacing.arrivals(rate, seconds)))


def test_arrivals_without_an_end_go_on() -> None:
    assert 500 == len(list(itertools.islice(pacing.arrivals(10, None), 500)))


def test_random_arrivals_keep_the_rate_too_and_the_seed_repeats_them() -> None:
    first, again = (list(pacing.arrivals(200, 50, random.Random(7))) for _ in range(2))

    assert first == again == sorted(first)
    assert 9500 < len(first) < 10500
    gaps = [later - earlier for earlier, later in itertools.pairwise(first)]
    assert 0.58 < sum(gap < 1 / 200 for gap in gaps) / len(gaps) < 0.69  # 1 - 1/e of an exponential


@pytest.mark.anyio
async def test_a_slot_nobody_waits_for_keeps_its_time_until_somebody_takes_it() -> None:
    told: list[tuple[int, bool]] = []
    pacer = pacing.Pacer(iter([0.0, 0.0, 0.0]), lambda count, is_urgent: told.append((count, is_urgent)))

    waiting = asyncio.create_task(pacer.take())
    await asyncio.sleep(0)
    await pacer.run(started=5.0)

    assert 5.0 == await waiting
    assert 2 == pacer.backlog
    assert [(1, False), (2, True), (3, True)] == told
    assert [5.0, 5.0] == [await pacer.take(), await pacer.take()]
    with pytest.raises(pacing.LoadOver):
        await pacer.take()


@pytest.mark.anyio
async def test_whoever_waits_longest_is_next_and_one_who_left_is_passed_over() -> None:
    pacer = pacing.Pacer(iter([0.0, 1.0]), lambda *_: None)
    first, left, second = (asyncio.create_task(pacer.take()) for _ in range(3))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.sleep(0)

    await pacer.run(started=0.0)

    assert [0.0, 1.0] == [await first, await second]
    assert 0 == pacer.backlog


@pytest.mark.anyio
async def test_the_end_lets_everybody_go_even_a_journey_that_catches_every_exception() -> None:
    pacer = pacing.Pacer(iter([]), lambda *_: None)
    waiting = asyncio.create_task(pacer.take())
    await asyncio.sleep(0)

    await pacer.run(started=0.0)

    with pytest.raises(pacing.LoadOver):
        await waiting
    assert not issubclass(pacing.LoadOver, Exception)
