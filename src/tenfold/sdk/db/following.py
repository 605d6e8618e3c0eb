"""A connection to the primary in somebody else's pool: what `tf.db.connect` gives, SQLAlchemy's pool for one.

Opened by `primary.Shards.connect`. Nobody asks that pool whether its connections are still good, so they end
themselves: on SQLSTATE 25006, on a server's farewell, and, by `nodes.Shard`, as soon as their node is known not to be
the primary. A COMMIT that wrote raises the session's position, and returns when it counts (see `witness`). A lost
answer is not settled here: there is no token.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from tenfold import position, request, spans
from tenfold.sdk.db import commit, connect, deadline

if TYPE_CHECKING:
    from tenfold.sdk.db.primary import Lease

    Base = asyncpg.Connection[Any]
    Prepared = PreparedStatement[Any]
else:
    Base, Prepared = asyncpg.Connection, PreparedStatement  # generic only in their stubs

Method = TypeVar("Method", bound=Callable[..., Any])

Count = Callable[[position.Position, float], Awaitable[None]]

COMMIT = (
    "set local client_min_messages = notice; select tenfold.report_write(); commit; select tenfold.report_position()"
)
"""One message, as in `commit`. The first notice says that the transaction wrote, the second how far the log is."""

REPORTS = "select has_function_privilege(to_regprocedure('tenfold.report_write()'), 'execute')"
"""Whether the database has tenfold's functions. Without them a connection follows the primary and reports nothing."""


def _watched(method: Method) -> Method:
    """The method, written down in a trace, and what it raises is looked at: it may be the end of the connection."""

    @functools.wraps(method)
    async def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        connection = self if isinstance(self, Following) else self._connection
        try:
            with _recorded(connection, method.__name__, args[0] if self is connection and args else self):
                return await method(self, *args, **kwargs)
        except Exception as error:
            raised = connection.judge(error)
            if raised is error:
                raise
            raise raised from error

    return watched  # type: ignore[return-value]


def _recorded(connection: "Following", method: str, said: Any) -> spans.Recording:
    """A span for the statement, if the request is being traced. `said`: its text, its table, or a prepared one."""
    recording = request.recording()
    if not recording.is_recorded or method == "prepare":
        return spans.NOWHERE
    text = said.get_query() if isinstance(said, PreparedStatement) else str(said)
    span = recording.statement(f"copy {text}" if method.startswith("copy_") else text)
    span.decide("on a connection of the app's own pool, which follows the primary", where=connection.node)
    return span


class Statement(Prepared):
    """A prepared statement whose errors its connection sees."""

    __slots__ = ()

    fetch = _watched(PreparedStatement.fetch)
    fetchrow = _watched(PreparedStatement.fetchrow)
    fetchval = _watched(PreparedStatement.fetchval)
    fetchmany = _watched(PreparedStatement.fetchmany)
    executemany = _watched(PreparedStatement.executemany)


class Following(Base):
    """asyncpg's connection, closed as soon as it is of no use: whoever keeps it sees `is_closed()` and opens another.

    However it ends, what its users get is an `asyncpg.PostgresError`, which SQLAlchemy knows; never an `OSError`.
    """

    __slots__ = ("_count", "_is_readonly", "_lease", "_reports", "_wrote")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lease: Lease | None = None
        self._reports = False
        self._is_readonly = False
        self._wrote: Callable[[position.Position], None] = _forget
        self._count: Count | None = None

    async def follow(self, lease: "Lease", wrote: Callable[[position.Position], None], count: Count) -> None:
        """Belong to a primary from now on; `wrote` is told the position of every COMMIT that has written, and `count`
        returns when it counts, by a time."""
        self._lease, self._wrote, self._count = lease, wrote, count
        lease.holder.followers.add(self)
        self._reports = bool(await self.fetchval(REPORTS))

    @property
    def node(self) -> str:
        """The primary that it follows; empty before it does."""
        return self._lease.node if self._lease is not None else ""

    def judge(self, error: Exception) -> Exception:
        """What to raise in place of `error`; closes the connection when it is of no more use."""
        is_refused = isinstance(error, asyncpg.ReadOnlySQLTransactionError) and not self._is_readonly
        is_lost = connect.is_lost(self, error)
        if self._lease is not None and (is_refused or (is_lost and not isinstance(error, asyncpg.InterfaceError))):
            self._lease.demoted()
        if not is_lost or isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):
            return error
        return asyncpg.ConnectionDoesNotExistError(f"connection was lost: {error}")

    def transaction(self, *, isolation: Any = None, readonly: bool = False, deferrable: bool = False) -> Any:
        """asyncpg's. One that is read-only on purpose says nothing about the server by refusing to write."""
        self._is_readonly = readonly
        return super().transaction(isolation=isolation, readonly=readonly, deferrable=deferrable)

    @_watched
    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """asyncpg's; a COMMIT, also the one that asyncpg's transactions send, reports its position."""
        if self._reports and not args and query.rstrip("; ").upper() == "COMMIT":
            return await self._commit(timeout)
        return await super().execute(query, *args, timeout=timeout)

    executemany = _watched(asyncpg.Connection.executemany)
    fetch = _watched(asyncpg.Connection.fetch)
    fetchrow = _watched(asyncpg.Connection.fetchrow)
    fetchval = _watched(asyncpg.Connection.fetchval)
    fetchmany = _watched(asyncpg.Connection.fetchmany)
    copy_to_table = _watched(asyncpg.Connection.copy_to_table)
    copy_records_to_table = _watched(asyncpg.Connection.copy_records_to_table)

    @_watched
    async def prepare(self, query: str, **options: Any) -> Any:
        """asyncpg's, with a statement whose errors are seen too."""
        prepared = await super().prepare(query, **options)
        prepared.__class__ = Statement
        return prepared

    async def _commit(self, timeout: float | None) -> str:
        notices = commit.Notices()
        self.add_log_listener(notices)
        try:
            await super().execute(COMMIT, timeout=timeout)
        except asyncpg.InFailedSQLTransactionError:
            return await super().execute("ROLLBACK", timeout=timeout)  # as PostgreSQL answers such a COMMIT
        finally:
            if not self.is_closed():
                self.remove_log_listener(notices)
        if notices.has_written and notices.lsn is not None and self._lease is not None:
            at = self._lease.position(notices.lsn)
            self._wrote(at)
            if self._count is not None:
                await self._count(at, deadline.limits(timeout).wait)
        return "COMMIT"


def _forget(_: position.Position) -> None:
    """Before `follow` there is nobody to tell."""
