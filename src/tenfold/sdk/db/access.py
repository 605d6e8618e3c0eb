"""asyncpg.Pool's statements, routed: one `Access` is one way to the data (a shard, a level, options).

`database.Database` is the usual way; `reading`, `options` and `at` give others. What only reads goes to a copy that is
fresh enough, everything else to the write half (`run.execute_once`), which commits it exactly once.
"""

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from typing import Any

import asyncpg

from tenfold import errors, request
from tenfold.sdk.db import connect, deadline, handout, levels, nodes, primary, reads, run, transaction
from tenfold.sdk.db.classify import Kind

Answer = Coroutine[Any, Any, Any]
Call = Callable[..., Answer]

_fetch: Call = asyncpg.Connection.fetch
_fetchrow: Call = asyncpg.Connection.fetchrow
_fetchval: Call = asyncpg.Connection.fetchval
_fetchmany: Call = asyncpg.Connection.fetchmany
_execute: Call = asyncpg.Connection.execute
_copy_from_query: Call = asyncpg.Connection.copy_from_query
_copy_from_table: Call = asyncpg.Connection.copy_from_table
_current = request.current
FIRST = reads.Again()
ALONE_METHODS = frozenset(("fetch", "fetchrow", "fetchval", "execute"))


class Access:
    """asyncpg.Pool's surface over one shard at one consistency level.

    Every call ends at the request's deadline (outside a request: after 10 s, a write without one after 30 s) or after
    its own `timeout`, in seconds. A read that meets a dead server is tried again on another. Errors are asyncpg's own,
    and: `NoPrimary`, `Overloaded`, `DeadlineExceeded` (nothing happened), `OutcomeUnknown` (of a write),
    `InsideTransaction` (a write while this task has a transaction open), `NotStarted`.
    """

    def __init__(
        self, shards: primary.Shards, level: levels.Level | None, options: transaction.Options, hooks: handout.Hooks
    ) -> None:
        self._shards = shards
        self._options = options
        self._hooks = hooks
        self._reads = reads.Reads(shards, options.shard, level)
        self._is_plain = options.timeout is None and not hooks
        """Whether nothing but routing stands between a read and its connection."""

    async def fetch(self, query: str, *args: Any, timeout: float | None = None, record_class: Any = None) -> Any:
        """All rows of a query, as `asyncpg.Record`s."""
        return await self._answer(_fetch, query, args, timeout, record_class=record_class)

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None, record_class: Any = None) -> Any:
        """The first row of a query, or None."""
        return await self._answer(_fetchrow, query, args, timeout, record_class=record_class)

    async def fetchval(self, query: str, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        """One value of the first row of a query, or None."""
        return await self._answer(_fetchval, query, args, timeout, column=column)

    async def fetchmany(
        self, query: str, args: Iterable[Any], *, timeout: float | None = None, record_class: Any = None
    ) -> Any:
        """The rows of a query run for each sequence of arguments, in one transaction."""
        return await self._answer(_fetchmany, query, (list(args),), timeout, record_class=record_class)

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        """A statement (or, without arguments, several); returns the status of the last, such as `UPDATE 1`."""
        return await self._answer(_execute, query, args, timeout)

    async def executemany(self, command: str, args: Iterable[Any], *, timeout: float | None = None) -> None:
        """A statement for each sequence of arguments, in one transaction."""
        await self._write("executemany", command, (args,), timeout, {})

    async def copy_from_query(
        self, query: str, *args: Any, output: Any, timeout: float | None = None, **kw: Any
    ) -> Any:
        """The rows of a query written to `output`. Not tried again when the server dies: some may be written."""
        return await self._copy_out(_copy_from_query, query, (query, *args), timeout, {"output": output, **kw})

    async def copy_from_table(self, table_name: str, *, output: Any, timeout: float | None = None, **kw: Any) -> Any:
        """A table's rows written to `output`. Not tried again when the server dies: some may be written."""
        return await self._copy_out(_copy_from_table, "table x", (table_name,), timeout, {"output": output, **kw})

    async def copy_to_table(self, table_name: str, *, source: Any, timeout: float | None = None, **kw: Any) -> Any:
        """The rows of `source` into a table, all or none."""
        return await self._write("copy_to_table", table_name, (), timeout, {"source": source, **kw})

    async def copy_records_to_table(
        self, table_name: str, *, records: Any, timeout: float | None = None, **kw: Any
    ) -> Any:
        """Records into a table by binary COPY, all or none."""
        return await self._write("copy_records_to_table", table_name, (), timeout, {"records": records, **kw})

    def acquire(self, *, timeout: float | None = None) -> handout.Acquiring:
        """A connection to the primary, or with `reading(...)` to a copy of that level. `await` or `async with`.

        It is reset when it comes back, and what was written on it is then part of the session's position.
        """
        return handout.Acquiring(lambda: self._acquire(timeout), self.release)

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:
        """Give an acquired connection back. Not cut short by a cancellation. Twice is once."""
        if getattr(connection, "_con", connection) is not None:
            await handout.of(connection).release(self._hooks.reset, timeout)

    async def _answer(self, call: Call, query: str, args: Any, timeout: float | None, **extra: Any) -> Any:
        """One statement. The quick way first: a read, a proven copy, a free connection."""
        serving = _current()
        is_traced = serving is not None and serving.recorder is not None
        if not (self._looked_at(query) if is_traced else self._shards.classifier.reads(query)):
            return await self._write(call.__name__, query, args, timeout, extra)
        node = self._reads.ready(serving) if timeout is None and self._is_plain and not is_traced else None
        connection = node.pool.take() if node is not None else None
        if node is None or connection is None:
            return await self._answer_slowly(call, query, args, timeout, extra)
        node.pool.reading[connection] = cut = deadline.cut_at(serving)
        try:
            result = await call(connection, query, *args, **extra)
        except BaseException as error:  # noqa: BLE001 - raised again unless the read may be tried again
            again = self._failed(node, connection, error, cut, query)
            if again is None:
                return await self._write(call.__name__, query, args, timeout, extra)
        else:
            node.pool.done(connection)
            return result
        return await self._answer_slowly(call, query, args, timeout, extra, again)

    def _looked_at(self, query: str) -> bool:
        """Whether it only reads; the first look at a statement takes time that a trace shows."""
        classifier = self._shards.classifier
        if classifier.knows(query):
            return classifier.reads(query)
        with request.recording().span("classify", "statement") as span:
            span.decide("parsed, to learn whether it only reads: the first time that this process meets it")
            return classifier.reads(query)

    async def _answer_slowly(
        self,
        call: Call,
        query: str,
        args: Any,
        timeout: float | None,
        extra: dict[str, Any],
        again: reads.Again = FIRST,
    ) -> Any:
        """A read that has to wait for something, or that met a dead server before."""
        if timeout is not None:
            extra = {**extra, "timeout": timeout}
        limits = deadline.limits(self._options.timeout)

        def work(connection: Any) -> Answer:
            return call(connection, query, *args, **extra)

        with request.recording().statement(query) as span:
            try:
                return await self._reads.run(self._hooks.around(work), limits, again)
            except reads.WritesError:
                self._shards.classifier.learn(query)
                span.decide("a replica refused it because it writes: to the primary, now and from now on")
                return await self._write(call.__name__, query, args, None, extra)

    def _failed(
        self, node: nodes.Node, connection: Any, error: BaseException, cut: float, query: str
    ) -> reads.Again | None:
        """How to try again, None for a statement that turned out to write; raises when neither is due."""
        try:
            return self._reads.failed(node, connection, error, cut, FIRST)
        except reads.WritesError:
            self._shards.classifier.learn(query)
            return None

    async def _copy_out(self, call: Call, query: str, args: Any, timeout: float | None, extra: dict[str, Any]) -> Any:
        if self._shards.classifier.reads(query):
            return await self._answer_slowly(call, args[0], args[1:], timeout, extra, reads.LAST)
        return await self._write(call.__name__, query, args[1:], timeout, extra)

    async def _write(self, method: str, query: str, args: Any, timeout: float | None, extra: dict[str, Any]) -> Any:
        """On the primary: exactly once, or, if it cannot run in a transaction, as asyncpg's pool would."""
        shards, options = self._shards, self._options
        shards.shard(options.shard)
        if method in ALONE_METHODS and shards.classifier.kind(query) is Kind.ALONE:
            return await self._alone(method, query, args, {**extra, "timeout": timeout})
        if timeout is not None:
            options = replace(options, timeout=timeout)
        return await run.execute_once(shards, method, query, args, extra, options)

    async def _alone(self, method: str, query: str, args: Any, extra: dict[str, Any]) -> Any:
        transaction.ensure_none_open(f"tf.db.{method}")
        acquired = handout.Acquiring(lambda: self._acquire_primary(None), self.release)
        async with acquired as connection:
            try:
                with request.recording().statement(query) as span:
                    span.decide("it runs outside transactions: to the primary, as it is")
                    return await getattr(connection, method)(query, *args, **extra)
            except Exception as error:
                if not connect.is_lost(connection, error):
                    raise
                raise errors.OutcomeUnknown(
                    f"database: the connection was lost while {query[:40]!r} ran, which runs outside transactions; "
                    "look whether it happened",
                    token="",
                ) from error

    async def _acquire(self, timeout: float | None) -> handout.Proxy:
        if self._reads.is_primary_preferred:
            return await self._acquire_primary(timeout)
        limits = deadline.limits(self._options.timeout if timeout is None else timeout)
        with request.recording().span("connection", "acquire"):
            node, connection = await self._reads.borrow(limits.wait)
        return await self._set_up(handout.Handout(self._shards, node, connection, None))

    async def _acquire_primary(self, timeout: float | None) -> handout.Proxy:
        request.about_to_write()
        limits = deadline.limits(self._options.timeout if timeout is None else timeout)
        with request.recording().span("connection", "acquire") as span:
            lease = await self._shards.primary(self._options.shard, limits.wait)
            span.decide("the primary; what runs on an acquired connection is not recorded", where=lease.node)
        return await self._set_up(handout.Handout(self._shards, lease.holder, lease.connection, lease))

    async def _set_up(self, given: handout.Handout) -> handout.Proxy:
        if self._hooks.setup is not None:
            try:
                await self._hooks.setup(given.proxy)
            except BaseException:
                given.discard()
                raise
        return given.proxy
