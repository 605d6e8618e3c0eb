"""One node's pool: bounded, fair, and nothing lost when a waiter is cancelled. The connections are stand-ins."""

import asyncio
from typing import Any

import pytest

from tenfold import errors
from tenfold.sdk.db import connect, pool

pytestmark = pytest.mark.anyio


class Connection:
    """What the pool looks at in a connection."""

    def __init__(self) -> None:
        self.is_dead = False

    def is_closed(self) -> bool:
        return self.is_dead

    def terminate(self) -> None:
        self.is_dead = True


class Server:
    """Opens connections, slowly or not at all."""

    def __init__(self) -> None:
        self.opened: list[Any] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_down = False

    async def open(self, timeout: float) -> Any:
        await self.gate.wait()
        if self.is_down:
            raise connect.UnreachableError("down")
        self.opened.append(Connection())
        return self.opened[-1]


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_it_opens_no_more_than_its_size_and_hands_over_in_order_of_asking() -> None:
    server = Server()
    made = pool.Pool(server.open, 2)
    held = [await made.acquire(soon()) for _ in range(2)]
    order: list[int] = []

    async def wait(number: int) -> None:
        connection = await made.acquire(soon())
        order.append(number)
        made.give(connection)

    waiting = [asyncio.create_task(wait(number)) for number in range(5)]
    await settle()
    assert (2, 7) == (made.opened, made.busy)
    made.give(held[0])
    await asyncio.gather(*waiting)
    made.give(held[1])

    assert [0, 1, 2, 3, 4] == order
    assert 2 == len(server.opened) == len(made.free)
    assert 0 == made.busy


async def test_a_discarded_connection_makes_room_for_the_first_who_waits() -> None:
    server = Server()
    made = pool.Pool(server.open, 1)
    held = await made.acquire(soon())
    first, second = (asyncio.create_task(made.acquire(soon())) for _ in range(2))
    await settle()

    made.discard(held)
    await settle()

    assert first.done()
    assert not second.done()
    made.give(first.result())
    assert await second is first.result()
    assert 2 == len(server.opened)


@pytest.mark.parametrize("has_room", [False, True])
async def test_a_turn_that_comes_to_a_cancelled_waiter_goes_to_the_next(has_room: bool) -> None:
    server = Server()
    made = pool.Pool(server.open, 1)
    held = await made.acquire(soon())
    first, second = (asyncio.create_task(made.acquire(soon())) for _ in range(2))
    await settle()

    if has_room:
        made.discard(held)
    else:
        made.give(held)
    first.cancel()
    await asyncio.wait([first, second], timeout=1)

    assert first.cancelled()
    assert second.done()
    made.give(second.result())
    assert (1, 0) == (made.opened, made.busy)


async def test_a_cancelled_opening_gives_its_place_to_the_next() -> None:
    server = Server()
    server.gate.clear()
    made = pool.Pool(server.open, 1)
    first, second = (asyncio.create_task(made.acquire(soon())) for _ in range(2))
    await settle()
    first.cancel()
    server.gate.set()
    await asyncio.wait([first, second], timeout=1)

    assert not second.result().is_closed()
    assert (1, 1) == (made.opened, made.busy)


async def test_who_waits_too_long_is_told_overloaded_and_takes_nothing_along() -> None:
    server = Server()
    made = pool.Pool(server.open, 1)
    held = await made.acquire(soon())

    with pytest.raises(errors.Overloaded):
        await made.acquire(soon(0.01))
    made.give(held)

    assert made.take() is held


async def test_a_queue_that_is_too_long_sheds_but_not_those_who_come_from_a_failover(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "LONGEST_QUEUE", 1)
    server = Server()
    made = pool.Pool(server.open, 1)
    held = await made.acquire(soon())
    first = asyncio.create_task(made.acquire(soon()))
    await settle()

    with pytest.raises(errors.Overloaded):
        await made.acquire(soon())
    second = asyncio.create_task(made.acquire(soon(), may_shed=False))
    await settle()
    made.give(held)
    made.give(await first)

    assert await second is held


async def test_a_node_that_is_lost_sends_its_waiters_away() -> None:
    server = Server()
    made = pool.Pool(server.open, 1)
    await made.acquire(soon())
    waiting = asyncio.create_task(made.acquire(soon()))
    await settle()

    made.scatter()

    with pytest.raises(pool.LostError):
        await waiting


async def test_a_failed_opening_is_raised_and_leaves_the_place_free() -> None:
    server = Server()
    server.is_down = True
    made = pool.Pool(server.open, 1)
    with pytest.raises(connect.UnreachableError):
        await made.acquire(soon())
    server.is_down = False

    assert not (await made.acquire(soon())).is_closed()


async def test_dead_connections_are_never_handed_out() -> None:
    server = Server()
    made = pool.Pool(server.open, 3)
    held: list[Any] = [await made.acquire(soon()) for _ in range(3)]
    for connection in held:
        made.give(connection)
    held[1].is_dead = held[2].is_dead = True

    assert made.take() is held[0]
    assert made.take() is None
    assert 1 == made.opened


async def test_expired_connections_are_replaced_when_they_come_back() -> None:
    server = Server()
    made = pool.Pool(server.open, 2)
    used, unused = await made.acquire(soon()), await made.acquire(soon())
    made.give(unused)

    made.expire()
    assert unused.is_closed()
    assert not used.is_closed()
    made.give(used)

    assert used.is_closed()
    fresh = await made.acquire(soon())
    made.give(fresh)
    assert made.take() is fresh


async def test_reads_past_their_deadline_are_cut_and_others_are_not() -> None:
    server = Server()
    made = pool.Pool(server.open, 2)
    late, early = await made.acquire(soon()), await made.acquire(soon())
    made.reading = {late: 1.0, early: 9.0}

    made.cut_reads(before=5.0)

    assert late.is_closed()
    assert not early.is_closed()
    made.done(early)
    assert {} == made.reading


async def test_connections_that_nobody_needed_for_a_while_are_closed_but_for_one() -> None:
    server = Server()
    made = pool.Pool(server.open, 5)
    made.trim(0)
    for connection in [await made.acquire(soon()) for _ in range(5)]:
        made.give(connection)
    used = [made.take(), made.take()]
    made.trim(10)
    for connection in used:
        assert connection is not None
        made.give(connection)

    made.trim(pool.TRIM_SECONDS - 1)
    assert 5 == made.opened
    made.trim(pool.TRIM_SECONDS + 1)

    assert 3 == made.opened
    assert set(made.free) >= {one for one in used if one is not None}
