"""A process that forks while its loop runs: in the child nobody is at home on it."""

import asyncio
import os

from tenfold.kit import home


def test_a_forked_child_is_not_at_home_on_its_parents_loop() -> None:
    """Its connections are the parent's: one statement of the child's on them would spoil both."""

    async def fork() -> int:
        made = home.Home()
        made.settle()
        child = os.fork()
        if child:
            return child
        code = 2
        try:
            code = 0 if asyncio.run(ask(made)) is None else 1
        finally:
            os._exit(code)

    async def ask(made: home.Home) -> object:
        return made.here()

    child = asyncio.run(fork())
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
