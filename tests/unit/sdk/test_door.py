"""Requests that wait for a place: in their order, within their time, and never more than there is room for."""

import asyncio

import pytest

from support import asgi
from tenfold.sdk.asgi import door

pytestmark = pytest.mark.anyio


async def _waiting(one: door.Door, count: int) -> list["asyncio.Task[bool]"]:
    tasks = [asyncio.create_task(one.wait(60.0)) for _ in range(count)]
    await asgi.until(lambda: len(one) == count)
    return tasks


async def test_the_first_who_waits_gets_the_first_place() -> None:
    one = door.Door()
    first, second = await _waiting(one, 2)
    one.open()
    assert await first
    assert (1, False, 0) == (len(one), second.done(), one.granted)
    one.open()
    assert await second


async def test_nobody_waits_longer_than_allowed() -> None:
    one = door.Door()
    assert not await one.wait(0.0)
    one.open()
    assert 0 == one.granted, "a place was given to one who had left"


async def test_a_place_given_to_one_who_leaves_is_passed_on() -> None:
    one = door.Door()
    first, second = await _waiting(one, 2)
    one.open()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second
    assert (0, 0) == (len(one), one.granted)
