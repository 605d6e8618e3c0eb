"""Moving what was put and waits in the cache's servers into the database, before the servers stop.

Called by the runtime, from its own process, after every process of the service has been told that there are no cache
servers: they put into the database from then on. May be called again after any failure: nothing is doubled.
"""

import asyncio
import re

from tenfold import bindings, errors
from tenfold.sdk import db, valkey
from tenfold.sdk.cache import journal
from tenfold.sdk.valkey import server

MOST = 500
"""Puts that are moved in one transaction."""

ASK_SECONDS = 5.0
"""How long a server may take to answer."""

_STREAM = re.compile(rb"tf:w:\{(.+)/(\d+)\}")


async def move(database: bindings.Database, cache: bindings.Cache, seconds: float = 60.0) -> int:
    """Move every put that no process has flushed yet into tenfold.journal; returns how many there were.

    Raises `StoreUnavailable` when the servers or the database do not answer: what was moved is in the database, the
    rest is where it was.
    """
    way, servers = db.Database(), valkey.Client()
    try:
        async with asyncio.timeout(seconds):
            await way.start(database)
            await servers.start(cache)
            await servers.call("PING", timeout=seconds, repeat=True)
            moved = [await _move_from(way, servers, one) for one in servers.primaries()]
            return sum(moved)
    except (valkey.ValkeyError, errors.TryAgain, TimeoutError) as error:
        raise errors.StoreUnavailable(
            f"write-back: what waits in the cache's servers cannot be moved ({error or type(error).__name__}); what "
            "was moved is in the database, the rest is where it was"
        ) from error
    finally:
        await servers.stop()
        await way.stop()


async def _move_from(way: db.Database, servers: valkey.Client, asked: server.Server) -> int:
    """All streams of one server."""
    moved, cursor = 0, b"0"
    while True:
        cursor, keys = await servers.call_on(
            asked, "SCAN", cursor, "MATCH", f"{journal.PREFIX}*", "COUNT", 1000, timeout=ASK_SECONDS
        )
        for key in keys:
            named = _STREAM.fullmatch(key)
            if named is not None:
                moved += await _move_stream(way, servers, named[1].decode(), int(named[2]))
        if cursor == b"0":
            return moved


async def _move_stream(way: db.Database, servers: valkey.Client, name: str, lane: int) -> int:
    moved = 0
    while found := await journal.oldest(servers, name, lane, MOST):
        await journal.keep(way, name, found)
        await journal.remove(servers, name, lane, found)
        moved += len(found)
    return moved
