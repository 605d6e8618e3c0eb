"""Whether a caller runs on the loop that something was started on."""

import asyncio

from tenfold.kit import home


def settled() -> home.Home:
    made = home.Home()
    made.settle()
    return made


def test_a_caller_on_the_loop_is_at_home() -> None:
    async def ask() -> bool:
        made = settled()
        return made.here() is asyncio.get_running_loop()

    assert asyncio.run(ask())


def test_nobody_is_at_home_before_it_is_settled_and_after_it_is_left() -> None:
    async def ask() -> tuple[object, object]:
        made = home.Home()
        before = made.here()
        made.settle()
        made.leave()
        return before, made.here()

    assert asyncio.run(ask()) == (None, None)


def test_another_thread_is_not_at_home_while_the_loop_runs() -> None:
    async def ask() -> tuple[object, object]:
        made = settled()

        async def there() -> object:
            return made.here()

        return await asyncio.to_thread(made.here), await asyncio.to_thread(lambda: asyncio.run(there()))

    assert asyncio.run(ask()) == (None, None)


def test_the_next_loop_of_the_same_thread_is_not_home() -> None:
    async def settle() -> home.Home:
        return settled()

    made = asyncio.run(settle())

    async def ask() -> object:
        return made.here()

    assert made.here() is None
    assert asyncio.run(ask()) is None


def test_a_loop_that_runs_on_in_another_thread_is_home_still() -> None:
    loop = asyncio.new_event_loop()

    async def settle() -> home.Home:
        return settled()

    async def ask(made: home.Home) -> object:
        return made.here()

    async def elsewhere(made: home.Home) -> object:
        return await asyncio.to_thread(loop.run_until_complete, ask(made))

    try:
        made = loop.run_until_complete(settle())
        assert asyncio.run(elsewhere(made)) is loop
    finally:
        loop.close()
