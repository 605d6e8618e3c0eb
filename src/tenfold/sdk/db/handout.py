"""Connections in the hands of user code: `tf.db.acquire()` and what happens when they come back.

Called by `access`. What is handed out is asyncpg's own proxy, as its pool hands it out: it passes for an
`asyncpg.Connection` and refuses to work after its release. On release the session is reset, whatever was done to it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, NamedTuple

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from tenfold.sdk.db import connect, deadline, nodes, pool, primary

log = logging.getLogger("tenfold.db")

FLUSHED = "select pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::int8"

Hook = Callable[[Any], Awaitable[None]]
Work = Callable[[Any], Coroutine[Any, Any, Any]]
Proxy = Any
"""asyncpg's `PoolConnectionProxy`."""


class Hooks(NamedTuple):
    """What the app does to connections that are handed out: asyncpg's `setup=` and `reset=`."""

    setup: Hook | None = None
    reset: Hook | None = None

    def __bool__(self) -> bool:
        return self.setup is not None or self.reset is not None

    def around(self, work: Work) -> Work:
        """`work` with the hooks around it, as asyncpg's pool has them around every statement of its own."""
        return self._hooked(work) if self else work

    def _hooked(self, work: Work) -> Work:
        async def hooked(connection: Any) -> Any:
            if self.setup is not None:
                await self.setup(connection)
            result = await work(connection)
            await (connection.reset() if self.reset is None else _reset(connection, self.reset))
            return result

        return hooked


class Handout:
    """One connection out of the house. It plays the holder that asyncpg's proxy expects to belong to."""

    __slots__ = ("_connection", "_lease", "_node", "_pool", "_shards", "proxy")

    def __init__(
        self, shards: primary.Shards, node: nodes.Node, connection: pool.Connection, lease: primary.Lease | None
    ) -> None:
        self._shards = shards
        self._node = node
        self._connection = connection
        self._lease = lease
        self._pool = self
        self.proxy: Any = PoolConnectionProxy(self, connection)  # type: ignore[arg-type]

    async def release(self, reset: Hook | None, timeout: float | None) -> None:
        """Make the connection as new and give it back; close it when that fails. Twice is once."""
        connection: Any = self.proxy._detach()
        if connection is None:
            return
        if connection.is_closed():
            log.warning("%s: a connection was closed by its user; the pool opens another", self._node.name)
            self._node.pool.discard(connection)
            return
        connection._on_release()
        await asyncio.shield(self._clean(connection, reset, timeout))

    def discard(self) -> None:
        """Close the connection at once."""
        self.proxy._detach()
        self._node.pool.discard(self._connection)

    async def _clean(self, connection: pool.Connection, reset: Hook | None, timeout: float | None) -> None:
        try:
            async with asyncio.timeout(pool.RESET_SECONDS if timeout is None else timeout):
                await (connection.reset() if reset is None else _reset(connection, reset))
                lsn = await connection.fetchval(FLUSHED) if self._lease is not None else None
        except connect.ANSWERS:
            self._node.pool.discard(connection)
        except BaseException:
            self._node.pool.discard(connection)
            raise
        else:
            self._node.pool.give(connection)
            if self._lease is not None and lsn is not None:
                at = self._lease.position(lsn)
                self._shards.wrote(at)
                await self._shards.ensure_held(at, deadline.limits(timeout).wait)

    def _drop_statement_cache(self) -> None:
        """asyncpg's proxy asks its pool for this after a schema change was noticed."""
        self._connection._drop_local_statement_cache()  # type: ignore[attr-defined]

    def _drop_type_cache(self) -> None:
        self._connection._drop_local_type_cache()  # type: ignore[attr-defined]


class Acquiring:
    """What `acquire` returns: `await` it, or use it with `async with`."""

    __slots__ = ("_acquire", "_proxy", "_release")

    def __init__(self, acquire: Callable[[], Awaitable[Proxy]], release: Callable[[Proxy], Awaitable[None]]) -> None:
        self._acquire = acquire
        self._release = release
        self._proxy: Proxy | None = None

    def __await__(self) -> Generator[Any, None, Proxy]:
        return self._acquire().__await__()

    async def __aenter__(self) -> Proxy:
        if self._proxy is not None:
            raise asyncpg.InterfaceError("a connection is already acquired")
        self._proxy = await self._acquire()
        return self._proxy

    async def __aexit__(self, *_: object) -> None:
        proxy, self._proxy = self._proxy, None
        if proxy is not None:
            await self._release(proxy)


def of(connection: Any) -> Handout:
    """The handout behind what `acquire` gave. Raises asyncpg's `InterfaceError` for anything else."""
    holder = getattr(connection, "_holder", None) if type(connection) is PoolConnectionProxy else None
    if not isinstance(holder, Handout):
        raise asyncpg.InterfaceError(f"release: {connection!r} found, a connection that `acquire` gave expected")
    return holder


async def _reset(connection: Any, reset: Hook) -> None:
    """As asyncpg does with a `reset=` of the app: end the transaction, then the hook in place of the reset query."""
    await connection._reset()
    await reset(connection)
