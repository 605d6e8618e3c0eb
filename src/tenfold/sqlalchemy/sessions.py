"""`Sessions`: an app's SQLAlchemy sessions, on `tf.db`.

Made by apps beside their `Tenfold`. It joins SQLAlchemy to the SDK and decides nothing: which node and which outcome
is for `tenfold.sdk.db`.
"""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, TypeVar

import asyncpg
from sqlalchemy import Connection, event, exc, sql
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from tenfold import errors
from tenfold.sdk import service
from tenfold.sdk.db import connect, levels, reads, run, shield, tokens, transaction
from tenfold.sqlalchemy import link, physical, turns

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")
Function = Callable[Concatenate[AsyncSession, Arguments], Awaitable[Result]]

OURS = ("poolclass", "pool_size", "max_overflow", "pool_pre_ping", "pool_recycle", "pool_timeout", "creator")
"""Options of an engine that `tf.db` decides."""

LINKS = 64
"""So many of SQLAlchemy's connections are kept for the next session. They hold nothing; making one takes time."""

TARGET = "tenfold_target"
"""The option of an engine that says where its connections lead."""

_joined: ContextVar[turns.Joined] = ContextVar("tenfold_joined")
"""The transaction that this task's `run` has begun."""


class Sessions:
    """SQLAlchemy's sessions with what `tf.db` has: they follow the primary, and commit exactly once.

        sessions = Sessions(tf)
        await sessions.run(place_order, user_id)            # place_order(session, user_id): exactly once
        async with sessions.reading() as session: ...       # a replica that is fresh enough
        async with sessions() as session: ...               # the primary; commit it yourself

    `engine` holds options of `create_async_engine` (`echo`, `isolation_level`), `connect_args` and `init` are
    asyncpg's, and the rest are a session's (`class_`, `autoflush`); `expire_on_commit` is False unless said otherwise.
    It has connections of its own beside `tf.db`'s, as many at most, because SQLAlchemy translates JSON on them.
    """

    def __init__(
        self,
        tf: service.Tenfold,
        *,
        engine: Mapping[str, Any] | None = None,
        connect_args: Mapping[str, Any] | None = None,
        init: connect.Init | None = None,
        **session_options: Any,
    ) -> None:
        options = dict(engine or {})
        self._codecs = physical.Codecs()
        self._init = init
        self._options = transaction.Options(isolation=_isolation(options))
        ours = {"connection_class": physical.Physical}
        self._database = tf.db.beside(init=self._set_up, **{**(connect_args or {}), **ours})
        links = {"pool_size": LINKS, "max_overflow": -1, "pool_use_lifo": True}
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://", async_creator=self._link, **links, **options
        )
        """SQLAlchemy's engine, for `run_sync(Base.metadata.create_all)` and the like. Its transactions write."""
        event.listen(self.engine.sync_engine, "engine_connect", _lead)
        self.joining = self._leading_to(_joined)
        """The same, inside the transaction of this task's `run`."""
        self._readers: dict[levels.Level | None, AsyncEngine] = {}
        session_options.setdefault("expire_on_commit", False)
        self._maker: async_sessionmaker[AsyncSession] = async_sessionmaker(self.engine, **session_options)

    def __call__(self, **options: Any) -> AsyncSession:
        """A session on the primary: each of its transactions is a `tf.db.transaction()`.

        It waits for a primary before it begins. A connection lost before COMMIT is `NotCommitted`, a lost answer is
        settled or `OutcomeUnknown`; nothing is repeated.
        """
        return self._maker(**options)

    @asynccontextmanager
    async def reading(
        self, level: levels.Level | str | None = None, seconds: float | None = None
    ) -> AsyncIterator[AsyncSession]:
        """A session that only reads, from a copy of this level; without one as `tf.db.fetch` does.

        Rows are no older than what this session of the visitor has written. A statement whose node dies runs again on
        another. One that writes raises `MisuseError`.
        """
        wanted = None if level is None else levels.parse(level, seconds)
        bind = self._readers.get(wanted)
        if bind is None:
            bind = self._readers[wanted] = self._leading_to(reads.Reads(self._database.shards, 0, wanted))
        async with self._maker(bind=bind) as session:
            yield session

    async def transaction_of(self, session: AsyncSession) -> transaction.Transaction:
        """The transaction that a session of these has open, begun if there is none: for what leaves with its commit.

            tx = await sessions.transaction_of(session)
            await tx.invalidate(tags=["product:7"])

        Neither commit it nor roll it back: that is the session's. Raises `MisuseError` for a session that only reads.
        """
        connection = await session.connection()
        made: link.Link = (await connection.get_raw_connection()).driver_connection  # type: ignore[assignment]
        if made.open_transaction is None:
            await connection.execute(sql.text("select 1"))  # the dialect begins with the first statement
        found = made.open_transaction
        if found is None:
            raise errors.MisuseError(turns.READS_ONLY)
        return found

    def options(self, *, isolation: tokens.Isolation | None = None, timeout: float | None = None) -> "Sessions":
        """The same sessions, with an isolation level and `timeout` seconds for the whole of each `run`."""
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        made._options = replace(
            self._options,
            isolation=self._options.isolation if isolation is None else isolation,
            timeout=self._options.timeout if timeout is None else timeout,
        )
        return made

    async def run(self, fn: Function[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """What `fn(session, *args)` returns, committed exactly once, through failovers: `tf.db.run` with a session.

        `fn` may run several times, each with a new session: all that it does to the world must go through it. It does
        not commit. `session.rollback()` takes back what it has done so far.
        """
        if not self._codecs.are_known:  # the transaction's connection must have them, and it begins before the session
            async with self.engine.connect():
                pass
        attempts = _Attempts(self, fn)
        try:
            return await run.run(  # type: ignore[no-any-return]
                self._database.shards, attempts.work, args, kwargs, self._options, attempts.commit
            )
        except asyncpg.PostgresError as error:
            if isinstance(error.__cause__, exc.DBAPIError):
                raise error.__cause__  # noqa: B904 - it is what SQLAlchemy raised in the first place
            raise
        finally:
            await attempts.close()

    def retrying(self, fn: Function[Arguments, Result]) -> Callable[Arguments, Awaitable[Result]]:
        """A decorator: call the function without its session, and it goes through `run`."""

        @functools.wraps(fn)
        async def through_run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            return await self.run(fn, *args, **kwargs)

        return through_run

    def _leading_to(self, target: reads.Reads | ContextVar[turns.Joined]) -> AsyncEngine:
        """The engine, with connections that lead there."""
        return self.engine.execution_options(**{TARGET: target})

    async def _link(self) -> link.Link:
        """A new connection for SQLAlchemy. Before `_lead` the first one asks what server this is: any copy can tell."""
        made = link.Link(self._database.shards, self._codecs, self._database.expire_connections)
        made.read(reads.Reads(self._database.shards, 0, levels.EVENTUAL))
        return made

    async def _set_up(self, connection: Any) -> None:
        await self._codecs.set_on(connection)
        if self._init is not None:
            await self._init(connection)


class _Attempts:
    """One session for each time that `run` calls the function; all are closed at the end."""

    def __init__(self, sessions: Sessions, fn: Callable[..., Awaitable[Any]]) -> None:
        self._sessions = sessions
        self._fn = fn
        self._session: AsyncSession | None = None
        self._joined: turns.Joined | None = None

        @functools.wraps(fn)  # its name and what it says it returns count, under an Idempotency-Key for one
        async def work(tx: transaction.Transaction, *args: Any, **kwargs: Any) -> Any:
            return await self._work(tx, *args, **kwargs)

        self.work = work

    async def close(self) -> None:
        """Close the session of the last try."""
        session, self._session = self._session, None
        if session is not None:
            await shield.undisturbed(session.close())

    async def commit(self, tx: transaction.Transaction) -> None:
        """The session commits, and with it the transaction, which stays open if the session has nothing to commit."""
        assert self._session is not None
        assert self._joined is not None
        self._joined.may_commit = True
        await self._session.commit()
        if tx.is_open:
            await tx.commit()

    async def _work(self, tx: transaction.Transaction, *args: Any, **kwargs: Any) -> Any:
        await self.close()
        self._joined = turns.Joined(tx)
        _joined.set(self._joined)
        self._session = session = self._sessions(bind=self._sessions.joining)
        try:
            result = await self._fn(session, *args, **kwargs)
            if session.new or session.dirty or session.deleted:
                await session.flush()
            await self._joined.start()  # after a rollback: the token and a key's result are committed all the same
        except exc.DBAPIError as error:
            found = error.orig.__cause__ if error.orig is not None else None
            if isinstance(found, run.AGAIN):
                raise found from error
            raise
        return result


def _lead(connection: Connection) -> None:
    """A connection that is checked out goes where its engine leads; without a target it writes."""
    target = connection.get_execution_options().get(TARGET)
    made: Any = connection.connection.driver_connection
    if target is None:
        made.write()
    elif isinstance(target, reads.Reads):
        made.read(target)
    else:
        made.join(target.get())


def _isolation(options: dict[str, Any]) -> tokens.Isolation | None:
    """The engine's isolation level, for the transactions that SQLAlchemy does not begin itself."""
    for name in OURS:
        if name in options:
            raise errors.MisuseError(
                f"Sessions: engine option {name} found; connections are tf.db's: [database] pool_size says how many"
            )
    level: str | None = options.get("isolation_level")
    if level is None:
        return None
    if level.upper() == "AUTOCOMMIT":
        raise errors.MisuseError(link.NO_TRANSACTION)
    return level.lower().replace(" ", "_")  # type: ignore[return-value]
