"""Opening connections to one node: what every connection of `tf.db` has in common.

Called by the pools and the probes. Decides nothing: which node, how many and when is for others.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from tenfold import bindings

log = logging.getLogger("tenfold.db")

CONNECT_SECONDS = 1.0
"""A server that is gone answers nothing: longer than this is not worth a request's time."""

ACROSS_SECONDS = 5.0
"""The same for a server of another region: opening a connection takes half a dozen round trips."""

UNANSWERED_MILLISECONDS = 5000
"""Data unacknowledged by the other side's kernel for so long: it is gone (tcp(7), TCP_USER_TIMEOUT)."""

SERVER_SETTINGS = {"client_connection_check_interval": "1s"}
"""A query whose client has gone is ended within a second: that is how a read cut at its deadline ends on the server."""

TROUBLE = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""InternalClientError: a server said farewell while the connection was idle; asyncpg sends nothing more on it."""

ANSWERS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""Whatever a statement of our own may raise."""

Init = Callable[[Any], Awaitable[None]]


class UnreachableError(Exception):
    """No connection to this node could be opened. Never leaves `sdk/db`."""


@dataclass(slots=True)
class Connector:
    """How to open connections: the bindings' credentials, and what the app adds (`init=`, asyncpg's arguments)."""

    init: Init | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    database: bindings.Database = field(
        default_factory=lambda: bindings.Database(shards=(), name="", user="", password="")
    )
    """Whose credentials are used; follows the bindings."""
    region: str = "home"
    """Where this process runs."""

    async def open(self, node: bindings.DatabaseNode, timeout: float, **extra: Any) -> "asyncpg.Connection[Any]":
        """A new connection, `init` not yet called. Raises `UnreachableError` within `timeout` seconds; a server of
        another region is waited for up to `ACROSS_SECONDS`.
        """
        if node.region != self.region:
            timeout = max(timeout, ACROSS_SECONDS)
        arguments: dict[str, Any] = {
            "host": node.host,
            "port": node.port,
            "user": self.database.user,
            "password": self.database.password,
            "database": self.database.name,
            "timeout": timeout,
            **self.arguments,
            "server_settings": {**SERVER_SETTINGS, **self.arguments.get("server_settings", {})},
            **extra,
        }
        try:
            connection: asyncpg.Connection[Any] = await asyncpg.connect(**arguments)
        except ANSWERS as error:
            reason = str(error) or type(error).__name__
            raise UnreachableError(f"{node.name} ({node.host}:{node.port}): {reason}") from error
        _notice_a_dead_peer(connection)
        return connection

    async def open_for_use(self, node: bindings.DatabaseNode, timeout: float) -> "asyncpg.Connection[Any]":
        """A new connection on which the app's `init` has run; what `init` raises goes to the caller."""
        connection = await self.open(node, timeout)
        if self.init is not None:
            try:
                await self.init(connection)
            except BaseException:
                connection.terminate()
                raise
        return connection


def is_trouble(error: BaseException) -> bool:
    """Whether the connection or its server went away, goes away or does not answer; not that a statement was wrong."""
    if isinstance(error, asyncpg.OperatorInterventionError):
        return not isinstance(error, asyncpg.QueryCanceledError)
    return isinstance(error, TROUBLE)


def is_lost(connection: Any, error: BaseException) -> bool:
    """Whether the connection or its server went away under the statement that raised this; a timeout is not that.

    A connection that is closed between two steps of one statement (it prepares, asks for types, then runs) has no
    protocol any more when asyncpg takes the next one: an AttributeError.
    """
    if isinstance(error, asyncpg.InterfaceError | AttributeError):
        return bool(connection.is_closed())
    return is_trouble(error) and not isinstance(error, TimeoutError)


def _notice_a_dead_peer(connection: "asyncpg.Connection[Any]") -> None:
    """Let the kernel end a half-open connection: keepalives while idle, a limit on unacknowledged data."""
    # asyncpg has no public way to its socket.
    transport: asyncio.Transport = connection._transport  # type: ignore[attr-defined]
    peer = transport.get_extra_info("socket")
    if peer is None or peer.family == socket.AF_UNIX or not hasattr(socket, "TCP_USER_TIMEOUT"):
        return
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 5)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_MILLISECONDS)
