"""What an app can say inside a transaction: asyncpg.Connection's statements, each bounded by the deadline.

`transaction.Transaction` is made of it. It neither begins nor ends anything but savepoints.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg

from tenfold import errors, spans
from tenfold.sdk.db import shield

Work = Callable[[Any, float | None], Awaitable[Any]]
"""Gets asyncpg's connection, and the seconds that its statement may take."""


class Statements:
    """asyncpg's surface over the connection of an open transaction. Errors are asyncpg's own.

    A statement that is still running at the deadline is cancelled and raises `DeadlineExceeded`; one that runs
    longer than its own `timeout` raises `TimeoutError`, as asyncpg does.
    """

    __slots__ = ("_recording", "_savepoints")

    _deadline: float | None

    def __init__(self) -> None:
        self._savepoints = 0
        self._recording = spans.NOWHERE
        """The transaction's span, where its statements are written down."""

    @property
    def _raw(self) -> "asyncpg.Connection[Any]":
        raise NotImplementedError

    async def fetch(self, query: str, *args: Any, timeout: float | None = None, record_class: Any = None) -> list[Any]:
        """All rows."""
        with self._bounded(query, timeout) as seconds:
            return await self._raw.fetch(query, *args, timeout=seconds, record_class=record_class)

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None, record_class: Any = None) -> Any:
        """The first row, or None."""
        with self._bounded(query, timeout) as seconds:
            return await self._raw.fetchrow(query, *args, timeout=seconds, record_class=record_class)

    async def fetchval(self, query: str, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        """One value of the first row, or None."""
        with self._bounded(query, timeout) as seconds:
            return await self._raw.fetchval(query, *args, column=column, timeout=seconds)

    async def fetchmany(
        self, query: str, args: Any, *, timeout: float | None = None, record_class: Any = None
    ) -> list[Any]:
        """The statement once for each sequence of arguments, and all rows of all of them."""
        with self._bounded(query, timeout) as seconds:
            return await self._raw.fetchmany(query, args, timeout=seconds, record_class=record_class)

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """The status of the (last) command. Without arguments, `query` may be several statements."""
        with self._bounded(query, timeout) as seconds:
            return await self._raw.execute(query, *args, timeout=seconds)

    async def executemany(self, command: str, args: Any, *, timeout: float | None = None) -> None:
        """The command once for each sequence of arguments."""
        with self._bounded(command, timeout) as seconds:
            await self._raw.executemany(command, args, timeout=seconds)

    async def copy_from_table(self, table_name: str, *, timeout: float | None = None, **options: Any) -> str:
        """A table's rows into `output=`."""
        with self._bounded(f"copy {table_name}", timeout) as seconds:
            return await self._raw.copy_from_table(table_name, timeout=seconds, **options)

    async def copy_from_query(self, query: str, *args: Any, timeout: float | None = None, **options: Any) -> str:
        """A query's rows into `output=`."""
        with self._bounded(query, timeout) as seconds:
            return await self._raw.copy_from_query(query, *args, timeout=seconds, **options)

    async def copy_to_table(self, table_name: str, *, timeout: float | None = None, **options: Any) -> str:
        """The rows of `source=` into a table."""
        with self._bounded(f"copy {table_name}", timeout) as seconds:
            return await self._raw.copy_to_table(table_name, timeout=seconds, **options)

    async def copy_records_to_table(self, table_name: str, *, timeout: float | None = None, **options: Any) -> str:
        """`records=` into a table."""
        with self._bounded(f"copy {table_name}", timeout) as seconds:
            return await self._raw.copy_records_to_table(table_name, timeout=seconds, **options)

    def cursor(self, query: str, *args: Any, **options: Any) -> Any:
        """asyncpg's cursor: `async for row in tx.cursor(...)`. Lives until the transaction ends."""
        return self._raw.cursor(query, *args, **options)

    async def prepare(self, query: str, *, timeout: float | None = None, **options: Any) -> Any:
        """asyncpg's prepared statement, to be used before the transaction ends."""
        with self._bounded(query, timeout) as seconds:
            return await self._raw.prepare(query, timeout=seconds, **options)

    async def on_connection(self, query: str, work: Work) -> Any:
        """What `work(connection, timeout)` returns: a statement that somebody else knows how to send.

        It must leave nothing behind in its session but what SQL can reset.
        """
        with self._bounded(query, None) as seconds:
            return await work(self._raw, seconds)

    def transaction(self) -> "Savepoint":
        """A part that may fail alone: `async with tx.transaction(): ...`."""
        self._savepoints += 1
        return Savepoint(self, f"tenfold_{self._savepoints}")

    @contextmanager
    def _bounded(self, query: str, timeout: float | None) -> Iterator[float | None]:
        """The seconds that a statement may take; running into the deadline becomes `DeadlineExceeded`."""
        with self._recording.statement(query):
            if self._deadline is None:
                yield timeout
                return
            now = asyncio.get_running_loop().time
            remaining = self._deadline - now()
            if remaining <= 0:
                raise errors.DeadlineExceeded(
                    "transaction: its deadline has passed; it is rolled back, nothing is written"
                )
            is_own = timeout is not None and timeout < remaining
            try:
                yield timeout if is_own else remaining
            except TimeoutError as error:
                if is_own or now() < self._deadline:
                    raise
                raise errors.DeadlineExceeded(
                    "transaction: a statement still ran at the deadline; it is rolled back, nothing is written"
                ) from error


class Savepoint:
    """A nested transaction: what ran inside is undone when an exception leaves it, and only that."""

    __slots__ = ("_name", "_statements")

    def __init__(self, statements: Statements, name: str) -> None:
        self._statements = statements
        self._name = name

    async def __aenter__(self) -> "Savepoint":
        await self._statements.execute(f"savepoint {self._name}")
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None:
            await self._statements.execute(f"release savepoint {self._name}")
        elif not self._statements._raw.is_closed():
            await shield.undisturbed(self._undo())

    async def _undo(self) -> None:
        await self._statements._raw.execute(
            f"rollback to savepoint {self._name}; release savepoint {self._name}", timeout=2.0
        )
