"""A transaction as SQLAlchemy's dialect sees asyncpg's: `start`, `commit`, `rollback`. Three kinds of it.

Made by `link`. `Writing` is one of `tf.db`'s own transactions; `Joined` is the one that `run` has begun already;
`Reading` borrows a connection to a copy that is fresh enough. What they promise is written in `tenfold.sdk.db`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import asyncpg

from tenfold import errors, request
from tenfold.sdk.db import connect, deadline, nodes, primary, reads, tokens, transaction

Work = Callable[[Any, float | None], Awaitable[Any]]
"""One statement: gets a `Physical` connection and the seconds it may take."""

COMMITS = (
    "sessions.run commits by itself, exactly once, when the function returns: remove `await session.commit()` "
    "(and `session.begin()`) from it"
)
READS_ONLY = (
    "sessions.reading: a statement that writes found, and this session only reads; write in `await sessions.run(...)` "
    "or `async with sessions() as session`"
)


class Turn(Protocol):
    """What a `Link` leads to while a transaction lasts."""

    async def start(self) -> None:
        """Begin."""

    async def commit(self) -> None:
        """Commit, or raise."""

    async def rollback(self) -> None:
        """Undo; harmless when it has ended."""

    def abandon(self) -> None:
        """End it without I/O."""

    async def do(self, query: str, work: Work) -> Any:
        """What `work` returns on this transaction's connection."""


class Writing:
    """`tf.db.transaction()`: waits for a primary, inserts its token, settles a lost COMMIT."""

    def __init__(self, tx: transaction.Transaction) -> None:
        self.tx = tx

    async def start(self) -> None:
        """Begin on whoever is primary."""
        await self.tx.start()

    async def commit(self) -> None:
        """Commit, or raise what `Transaction.commit` does."""
        await self.tx.commit()

    async def rollback(self) -> None:
        """Undo; harmless when it has ended."""
        if self.tx.is_open:
            await self.tx.rollback()

    def abandon(self) -> None:
        """End it without I/O."""
        self.tx.abandon()

    async def do(self, query: str, work: Work) -> Any:
        """A statement, bounded by the deadline. Raises `NotCommitted` when the connection was lost."""

        async def watched(connection: Any, seconds: float | None) -> Any:
            try:
                return await work(connection, seconds)
            except connect.ANSWERS as error:
                if not connect.is_lost(connection, error):
                    raise
                raise errors.NotCommitted(
                    f"session: the connection to the primary was lost before COMMIT ({error}); nothing was written"
                ) from error

        return await self.tx.on_connection(query, watched)


class Joined(Writing):
    """The transaction of a `run`, which begins and ends it. The session may take back what it did, and no more."""

    def __init__(self, tx: transaction.Transaction) -> None:
        super().__init__(tx)
        self.is_undone = False
        """Whether the session was rolled back: the transaction begins again if there is more to do."""
        self.may_commit = False

    async def start(self) -> None:
        """It has begun already; or begins again."""
        if self.is_undone:
            self.is_undone = False
            await self.tx.restart()

    async def commit(self) -> None:
        """For `run`, at the end, and for nobody else."""
        if not self.may_commit:
            raise errors.MisuseError(COMMITS)
        await self.tx.commit()

    async def rollback(self) -> None:
        """Nothing yet: the session may be closing."""
        self.is_undone = self.tx.is_open

    def abandon(self) -> None:
        """It is the `run`'s to end."""


class Reading:
    """A read-only transaction on a copy that is fresh enough. When its node dies the statement runs on another.

    That is so while the session has only read, at READ COMMITTED, where every statement sees what there is when it
    begins. Within one request the other node is no older than the first.
    """

    def __init__(self, shards: primary.Shards, source: reads.Reads, isolation: tokens.Isolation | None) -> None:
        self._shards = shards
        self._source = source
        self._opening = tokens.begin(None, isolation, is_deferrable=False)
        self._may_move = isolation in (None, "read_committed", "read_uncommitted")
        self._at: tuple[nodes.Node, Any] | None = None
        self._limits = deadline.Limits(deadline.NEVER, deadline.NEVER)

    async def start(self) -> None:
        """Borrow a connection and begin. Raises `NoPrimary`, `Overloaded`, `DeadlineExceeded`."""
        self._limits = deadline.limits()
        await self._begin(reads.Again())

    async def commit(self) -> None:
        """There is nothing to commit."""
        await self.rollback()

    async def rollback(self) -> None:
        """Give the connection back as it was, or close it when that fails, within `ANSWER_SECONDS`."""
        if self._at is None:
            return
        (node, connection), self._at = self._at, None
        timer = asyncio.get_running_loop().call_later(transaction.ANSWER_SECONDS, node.pool.discard, connection)
        try:
            await connection.execute(f"rollback; {connection.get_reset_query()}")
        except connect.ANSWERS:
            node.pool.discard(connection)
        except BaseException:
            node.pool.discard(connection)
            raise
        else:
            node.pool.done(connection)
        finally:
            timer.cancel()

    def abandon(self) -> None:
        """Close the connection."""
        if self._at is not None:
            node, connection = self._at
            self._at = None
            node.pool.discard(connection)

    async def do(self, query: str, work: Work) -> Any:
        """A statement. Raises `MisuseError` when it writes, `DeadlineExceeded` when it was cut at the deadline."""
        self._may_move = self._may_move and self._shards.classifier.reads(query)
        again = reads.Again()
        with request.recording().statement(query):
            while True:
                if self._at is None:
                    raise errors.NoPrimary("session: its node was lost, and with it what it had read; begin again")
                node, connection = self._at
                try:
                    return await work(connection, None)
                except asyncpg.ReadOnlySQLTransactionError as error:
                    raise errors.MisuseError(READS_ONLY) from error
                except connect.ANSWERS as error:
                    again = await self._failed(node, connection, error, again)
                await self._begin(again)

    async def _begin(self, again: reads.Again) -> None:
        while True:
            node, connection = await self._source.borrow(self._limits.wait, is_primary=again.is_primary)
            node.pool.reading[connection] = self._limits.cut
            try:
                await connection.execute(self._opening)
            except BaseException as error:  # noqa: BLE001 - raised again unless another node may do
                again = self._source.failed(node, connection, error, self._limits.cut, again)
            else:
                self._at = node, connection
                return

    async def _failed(self, node: nodes.Node, connection: Any, error: Exception, again: reads.Again) -> reads.Again:
        """Whether the statement may run elsewhere, and how; else raises."""
        is_lost = connect.is_lost(connection, error)
        if not is_lost and not (self._may_move and reads.is_conflict(node, error)):
            raise error
        if not is_lost:
            await self.rollback()
            return reads.Again(again.executions + 1, is_primary=True)
        self._at = None
        again = self._source.failed(node, connection, error, self._limits.cut, again)
        if not self._may_move:
            raise errors.NotCommitted(f"session: the connection to {node.name} was lost ({error}); begin again")
        return again
