"""How a connection begins: connect, say who we are in RESP3, and say that our reads are no uses where order is all.

Called by `server` and `dedicated`. It either gives an open connection or raises, and leaves nothing behind.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tenfold.sdk.valkey import command, connection, slots, trouble

CONNECT_SECONDS = 2.0
"""How long connecting and the first answers may take together."""

NAME = "tenfold"
"""What `CLIENT LIST` shows of us."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who we are to the servers."""

    user: str = ""
    password: str = ""
    is_untouching: bool = False
    """`CLIENT NO-TOUCH ON`: what we read does not become younger by it, so that servers forget the oldest first."""


async def connect(
    address: slots.Address, account: Account, owner: Callable[[], connection.Owner]
) -> tuple[connection.Connection, dict[bytes, Any]]:
    """An open connection, and what its server says of itself. Raises OSError, TimeoutError or a `ValkeyError`."""
    made: connection.Connection | None = None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            loop = asyncio.get_running_loop()
            _, made = await loop.create_connection(lambda: connection.Connection(owner()), *address)
            return made, await _greet(made, account)
    except BaseException:
        if made is not None:
            made.abort("it was given up before it was greeted")
        raise


async def say(open_connection: connection.Connection, *all_parts: tuple[command.Part, ...]) -> list[Any]:
    """The answers to these commands, sent at once. Raises `Refused` for the first error."""
    loop = asyncio.get_running_loop()
    sent = [command.Command(parts, loop.create_future(), loop.time() + CONNECT_SECONDS) for parts in all_parts]
    if not open_connection.is_open:
        raise trouble.Unavailable("the connection is closed")
    open_connection.write(sent)
    answers = await asyncio.gather(*(one.future for one in sent), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers


async def _greet(made: connection.Connection, account: Account) -> dict[bytes, Any]:
    who: tuple[command.Part, ...] = ("AUTH", account.user or "default", account.password) if account.password else ()
    hello, *_ = await say(made, ("HELLO", 3, *who, "SETNAME", NAME), no_touch(account))
    try:
        return dict(hello)
    except (TypeError, ValueError) as error:
        raise trouble.Unavailable(f"HELLO: {str(hello)[:80]} found, what a Valkey says of itself expected") from error


def no_touch(account: Account) -> tuple[command.Part, ...]:
    """The command that says whether our reads count as uses."""
    return "CLIENT", "NO-TOUCH", "ON" if account.is_untouching else "OFF"
