"""What SQLAlchemy's asyncpg dialect takes for asyncpg's connection. It leads to one of ours while a transaction lasts.

Made by `Sessions` when SQLAlchemy's pool asks for a connection. Between transactions it holds nothing, so nothing in
that pool can be dead after a failover. It has the methods of asyncpg's that the dialect calls, and no more.
"""

from collections.abc import Callable
from typing import Any

from tenfold import errors
from tenfold.sdk.db import reads, tokens, transaction
from tenfold.sqlalchemy import physical, turns

Begin = Callable[[tokens.Isolation | None, bool, bool], turns.Turn]
"""Makes a turn, given isolation level, `readonly` and `deferrable`."""

NO_TRANSACTION = (
    "session: a statement outside a transaction found (isolation level AUTOCOMMIT?); for VACUUM and its like use "
    "`tf.db.execute`, or an engine of your own: create_async_engine(..., async_creator=tf.db.connect)"
)


class Statement:
    """asyncpg's prepared statement, on whichever connection the transaction of the moment has."""

    def __init__(self, link: "Link", query: str, columns: Any) -> None:
        self._link = link
        self._query = query
        self._columns = columns
        self._status = ""

    def get_attributes(self) -> Any:
        """The columns of the answer."""
        return self._columns

    def get_statusmsg(self) -> str:
        """What the server said that it did."""
        return self._status

    async def fetch(self, *args: Any) -> list[Any]:
        """All rows."""

        async def work(connection: physical.Physical, seconds: float | None) -> Any:
            return await connection.fetch_prepared(self._query, args, seconds)

        rows: list[Any]
        rows, self._status = await self._link.do(self._query, work)
        return rows

    async def cursor(self, *args: Any) -> Any:
        """asyncpg's cursor; lives until the transaction ends."""

        async def work(connection: physical.Physical, seconds: float | None) -> Any:
            prepared = await connection.prepared(self._query, seconds)
            return await prepared.statement.cursor(*args, timeout=seconds)

        return await self._link.do(self._query, work)


class Link:
    """One connection of SQLAlchemy's. `join` or `read` say what its transactions are; without, they write."""

    def __init__(self, shards: Any, codecs: physical.Codecs, expire: Callable[[], Any]) -> None:
        self._shards = shards
        self._codecs = codecs
        self._expire = expire
        self._begin: Begin = self._writing
        self._turn: turns.Turn | None = None
        self._is_closed = False

    @property
    def open_transaction(self) -> transaction.Transaction | None:
        """The transaction that is open on it and may write; None without one."""
        found = self._turn.tx if isinstance(self._turn, turns.Writing) else None
        return found if found is not None and found.is_open else None

    def join(self, joined: turns.Joined) -> None:
        """Work inside this transaction, which somebody else begins and ends."""
        self._begin = lambda *_: joined
        self._turn = None

    def read(self, source: reads.Reads) -> None:
        """Read from copies that this source finds fresh enough."""
        self._begin = lambda isolation, *_: turns.Reading(self._shards, source, isolation)
        self._turn = None

    def write(self) -> None:
        """Write on the primary."""
        self._begin = self._writing
        self._turn = None

    def transaction(
        self, *, isolation: tokens.Isolation | None = None, readonly: bool = False, deferrable: bool = False
    ) -> turns.Turn:
        """What the dialect starts before the first statement, and ends."""
        self._turn = self._begin(isolation, readonly, deferrable)
        return self._turn

    async def prepare(self, query: str, **_: Any) -> Statement:
        """The statement, prepared once on each of our connections."""

        async def work(connection: physical.Physical, seconds: float | None) -> Any:
            return (await connection.prepared(query, seconds)).columns

        return Statement(self, query, await self.do(query, work))

    async def executemany(self, query: str, args: Any) -> None:
        """The statement once for each sequence of arguments."""

        async def work(connection: physical.Physical, seconds: float | None) -> Any:
            return await connection.executemany(query, args, timeout=seconds)

        await self.do(query, work)

    async def do(self, query: str, work: turns.Work) -> Any:
        """What `work` returns inside the open transaction."""
        if self._turn is None:
            raise errors.MisuseError(NO_TRANSACTION)
        return await self._turn.do(query, work)

    async def set_type_codec(self, typename: str, *, schema: str = "public", **how: Any) -> None:
        """Said once for all of our connections, open ones included: those are replaced."""
        if self._codecs.say(typename, schema, how):
            await self._expire()

    async def reload_schema_state(self) -> None:
        """Nothing: a connection that meets a statement of before a migration forgets it by itself."""

    def is_closed(self) -> bool:
        """Whether SQLAlchemy has closed it. A lost server does not: the next transaction finds another."""
        return self._is_closed

    async def close(self, *, timeout: float | None = None) -> None:
        """Roll back what is open; that bounds itself."""
        self._is_closed = True
        turn, self._turn = self._turn, None
        if turn is not None:
            await turn.rollback()

    def terminate(self) -> None:
        """The same, where nobody can wait."""
        self._is_closed = True
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.abandon()

    def _writing(self, isolation: tokens.Isolation | None, readonly: bool, deferrable: bool) -> turns.Turn:
        options = transaction.Options(isolation=isolation, readonly=readonly, deferrable=deferrable)
        return turns.Writing(transaction.Transaction(self._shards, options))
