"""Waiting for a state: it looks at least once, ends at once when it is there, and gives up at its deadline."""

import asyncio

import pytest

from tenfold.kit import clock

pytestmark = pytest.mark.anyio


class Looks:
    """Answers in turn, the last one again and again; counts how often it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.count = 0

    async def __call__(self) -> str:
        self.count += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def test_what_is_there_is_returned_at_once() -> None:
    looks = Looks("here")

    assert "here" == await clock.until(looks, seconds=60)
    assert 1 == looks.count


async def test_it_looks_again_until_the_state_is_there() -> None:
    looks = Looks("", "", "here")

    assert "here" == await clock.until(looks, seconds=60, pause_seconds=0)
    assert 3 == looks.count


async def test_without_any_time_it_still_looks_once() -> None:
    looks = Looks("")

    assert "" == await clock.until(looks, seconds=0)
    assert 1 == looks.count


async def test_it_gives_up_at_its_deadline_though_the_pause_is_longer() -> None:
    async with asyncio.timeout(5):
        assert "" == await clock.until(Looks(""), seconds=0.01, pause_seconds=60)


async def test_an_error_of_the_look_passes_through() -> None:
    async def look() -> bool:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await clock.until(look, seconds=60)
