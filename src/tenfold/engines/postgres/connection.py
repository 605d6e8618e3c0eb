"""Connections of the runtime to PostgreSQL, and the one place where its errors become ours.

Called by probe, admin and watcher. Never used by the app, whose connections are the SDK's.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg

from tenfold import engines, errors
from tenfold.engines import database

TIMEOUT_SECONDS = 5.0

LOST = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg raises when the server or the network, and not the program, is wrong."""


@asynccontextmanager
async def connected(
    seat: engines.Seat, name: str = "postgres", timeout_seconds: float = TIMEOUT_SECONDS
) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """A superuser's connection to the database `name` on the seat's server, for one piece of work.

    Raises EngineFailed when there is no connection within `timeout_seconds`, or when a statement fails.
    """
    with mapped(seat):
        connection = await connect(seat.address, seat.secrets.superuser, name, timeout_seconds)
        try:
            yield connection
        finally:
            await close(connection)


async def connect(
    address: str, password: str, name: str = "postgres", timeout_seconds: float = TIMEOUT_SECONDS
) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection to keep. Raises what asyncpg raises: use it inside `mapped`."""
    return await asyncpg.connect(
        host=address,
        port=database.PORT,
        user=database.SUPERUSER,
        password=password,
        database=name,
        ssl=False,
        timeout=timeout_seconds,
        command_timeout=60.0,
        server_settings={"application_name": "tenfold"},
    )


async def close(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Close politely within a second, else cut. Never raises because of the other side."""
    try:
        await asyncio.shield(connection.close(timeout=1.0))
    except LOST:
        connection.terminate()


@contextmanager
def mapped(seat: engines.Seat) -> Iterator[None]:
    """Turn what PostgreSQL and the network raise into EngineFailed, with the server's name."""
    try:
        yield
    except LOST as error:
        reason = str(error) or type(error).__name__
        raise errors.EngineFailed(f"PostgreSQL on {seat.server.name} ({seat.address}): {reason}") from error
