"""`Sessions`: an app's SQLAlchemy sessions, on `tf.db`.

Made by apps beside their `Tenfold`. It joins SQLAlchemy to the SDK and decides nothing: which node and which outcome
is for `tenfold.sdk.db`.
"""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, TypeVar

import asyncpg
from sqlalchemy import event, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import NullPool

from tenfold import errors
from tenfold.sdk import service
from tenfold.sdk.db import connect, levels, reads, run, tokens, transaction
from tenfold.sqlalchemy import link, physical, turns

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")
Function = Callable[Concatenate[AsyncSession, Arguments], Awaitable[Result]]

OURS = ("poolclass", "pool_size", "max_overflow", "pool_pre_ping", "pool_recycle", "pool_timeout", "creator")
"""Options of an engine that `tf.db` decides."""


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
        self._database = tf.db.beside(
            init=self._set_up, **{**(connect_args or {}), "connection_class": physical.Physical}
        )
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://", async_creator=self._link, poolclass=NullPool, **options
        )
        """SQLAlchemy's engine, for `run_sync(Base.metadata.create_all)` and the like. Its transactions write."""
        event.listen(self.engine.sync_engine, "connect", _introduced)
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
        source = reads.Reads(self._database.shards, 0, None if level is None else levels.parse(level, seconds))
        async with self.engine.connect() as connection:
            (await _link_of(connection)).read(source)
            async with self._maker(bind=connection) as session:
                yield session

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
            async with attempts:
                return await run.run(  # type: ignore[no-any-return]
                    self._database.shards, attempts.work, args, kwargs, self._options, attempts.commit
                )
        except asyncpg.PostgresError as error:
            if isinstance(error.__cause__, exc.DBAPIError):
                raise error.__cause__  # noqa: B904 - it is what SQLAlchemy raised in the first place
            raise

    def retrying(self, fn: Function[Arguments, Result]) -> Callable[Arguments, Awaitable[Result]]:
        """A decorator: call the function without its session, and it goes through `run`."""

        @functools.wraps(fn)
        async def through_run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            return await self.run(fn, *args, **kwargs)

        return through_run

    async def _link(self) -> link.Link:
        """A new connection for SQLAlchemy. Its first statements ask what server this is: any copy can tell."""
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
        self._stack = AsyncExitStack()
        self._session: AsyncSession | None = None
        self._joined: turns.Joined | None = None

        @functools.wraps(fn)  # its name and what it says it returns count, under an Idempotency-Key for one
        async def work(tx: transaction.Transaction, *args: Any, **kwargs: Any) -> Any:
            return await self._work(tx, *args, **kwargs)

        self.work = work

    async def __aenter__(self) -> None:
        await self._stack.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.__aexit__(*error)

    async def commit(self, tx: transaction.Transaction) -> None:
        """The session commits, and with it the transaction, which stays open if the session has nothing to commit."""
        assert self._session is not None
        assert self._joined is not None
        self._joined.may_commit = True
        await self._session.commit()
        if tx.is_open:
            await tx.commit()

    async def _work(self, tx: transaction.Transaction, *args: Any, **kwargs: Any) -> Any:
        await self._stack.aclose()  # the session of the try before
        connection = await self._stack.enter_async_context(self._sessions.engine.connect())
        self._joined = (await _link_of(connection)).join(tx)
        self._session = await self._stack.enter_async_context(self._sessions(bind=connection))
        try:
            result = await self._fn(self._session, *args, **kwargs)
            await self._session.flush()
            await (
                self._joined.start()
            )  # if it was rolled back: the token, and a key's result, are committed all the same
        except exc.DBAPIError as error:
            found = error.orig.__cause__ if error.orig is not None else None
            if isinstance(found, run.AGAIN):
                raise found from error
            raise
        return result


def _introduced(dbapi_connection: Any, _: Any) -> None:
    """SQLAlchemy knows the server: from now on the connection writes, unless it is told otherwise."""
    dbapi_connection.driver_connection.write()


async def _link_of(connection: AsyncConnection) -> link.Link:
    raw = await connection.get_raw_connection()
    made = raw.driver_connection
    assert isinstance(made, link.Link)
    return made


def _isolation(options: dict[str, Any]) -> tokens.Isolation | None:
    """The engine's isolation level, for the transactions that SQLAlchemy does not begin itself."""
    for name in OURS:
        if name in options:
            raise errors.MisuseError(
                f"Sessions: engine option {name} found; connections are tf.db's: [database] pool_size says how many"
            )
    level = options.get("isolation_level")
    return None if level is None else level.lower().replace(" ", "_")
