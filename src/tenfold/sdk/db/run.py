"""`tf.db.run(fn)` and single write statements: tried again until they are committed exactly once, or the deadline.

Called by the façade. Tries again only what certainly was not committed: a whole function, never a part of one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from tenfold import errors, request
from tenfold.kit import backoff
from tenfold.sdk.db import idempotency, settle, tokens, transaction
from tenfold.sdk.db.primary import Shards

Function = Callable[..., Awaitable[Any]]
Commit = Callable[[transaction.Transaction], Awaitable[None]]

PAUSE = backoff.Backoff(first_seconds=0.002, most_seconds=0.5)

AGAIN = (
    errors.NotCommitted,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
)
"""Nothing was written, and the same may succeed on the next try: the connection was lost, others were first, the
primary has changed, or a migration made a prepared statement invalid."""


async def run(
    shards: Shards,
    fn: Function,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    options: transaction.Options = transaction.Options(),  # noqa: B008 - frozen
    commit: Commit = transaction.Transaction.commit,
) -> Any:
    """What `fn(tx, *args, **kwargs)` returns, committed exactly once. `fn` may run several times: all it does to the
    world must go through `tx`.

    Under an `Idempotency-Key` a repeat of the request gets the first one's result, as JSON made it, without `fn`.
    Raises what `fn` raises; `OutcomeUnknown` when the outcome could not be proved before the deadline; at the deadline
    what prevented the last try; `KeyInUse`, `KeyReused`, `NotStorable` under a key. `commit(tx)` commits in place of
    the transaction itself, for a session that must take part in it.
    """
    transaction.ensure_none_open("tf.db.run")
    key = _key()
    with request.recording().span("run", getattr(fn, "__qualname__", type(fn).__name__)) as span:
        span.decide("" if key is None else "Idempotency-Key: its first request, the result is kept for repeats")
        return await _Run(shards, fn, args, kwargs or {}, options, key, commit=commit).until_done()


async def execute_once(
    shards: Shards,
    method: str,
    query: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    options: transaction.Options = transaction.Options(),  # noqa: B008 - frozen
) -> Any:
    """One writing statement, by the name of asyncpg's method for it, committed exactly once.

    A statement whose arguments can be read only once (an iterator, a file) is not tried again after it ran:
    `NotCommitted`. One that PostgreSQL refuses inside a transaction (VACUUM, CREATE INDEX CONCURRENTLY) runs without,
    once: if its answer is lost, that is `OutcomeUnknown`.
    """
    transaction.ensure_none_open(f"tf.db.{method}")
    arguments = kwargs or {}

    async def statement(tx: transaction.Transaction) -> Any:
        return await getattr(tx, method)(query, *args, **arguments)

    may_repeat = all(_is_repeatable(one) for one in (*args, *arguments.values()))
    try:
        return await _Run(shards, statement, (), {}, options, None, may_repeat=may_repeat).until_done()
    except asyncpg.ActiveSQLTransactionError:
        return await _execute_alone(shards, method, query, args, arguments, options)


@dataclass(slots=True)
class _Run:
    shards: Shards
    fn: Function
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: transaction.Options
    key: tuple[request.IdempotencyKey, tokens.Token] | None
    may_repeat: bool = True
    commit: Commit = transaction.Transaction.commit

    async def until_done(self) -> Any:
        deadline = self.options.deadline()
        give_up_at, tries = deadline, 0
        while True:
            try:
                return await self._try(deadline)
            except AGAIN as error:
                tries += 1
                request.recording().note(
                    "retry", "the whole function", f"nothing was written ({type(error).__name__}): tried again"
                )
                if give_up_at is None:
                    give_up_at = _now() + transaction.PATIENCE_SECONDS
                pause = PAUSE.seconds(tries)
                if not self.may_repeat or _now() + pause >= give_up_at:
                    raise
            await asyncio.sleep(pause)

    async def _try(self, deadline: float | None) -> Any:
        """One transaction with a token of its own, or the key's."""
        token = self.key[1] if self.key else None
        tx = transaction.Transaction(self.shards, self.options, token=token, deadline=deadline)
        tx.work = self.fn
        if not await tx.start():
            return await self._repeated(deadline)
        try:
            result = await self.fn(tx, *self.args, **self.kwargs)
            data = await self._store(tx, result)
            await self.commit(tx)
        except BaseException as error:
            if tx.is_open:
                await tx.rollback(error)
            raise
        if self.key is None:
            return result
        # After a lost answer the key's row may be another request's: then its result is the one that happened.
        if tx.settled is not None:
            return self._stored(tx.settled)
        return idempotency.decode(self.fn, data)

    async def _store(self, tx: transaction.Transaction, result: Any) -> bytes:
        if self.key is None:
            return b""
        data = idempotency.encode(self.fn, result)
        await tx.execute(tokens.STORE, self.key[1].id, data)
        return data

    async def _repeated(self, deadline: float | None) -> Any:
        """The key's first request has committed: its result, once this primary has acknowledged a later commit."""
        assert self.key is not None
        until = deadline if deadline is not None else _now() + transaction.PATIENCE_SECONDS
        with request.recording().span("settle", "settle") as span:
            span.decide("what the first request stored, once the primary has acknowledged a later commit")
            found = await settle.settle(self.shards, self.options.shard, self.key[1], until)
        if not found.is_committed:
            raise errors.NotCommitted("Idempotency-Key: the first request's commit was lost in a failover; run again")
        if found.at is not None:
            self.shards.wrote(found.at)
        result = self._stored(found)
        request.recording().decide("Idempotency-Key: a repeat, it gets the first request's result without running")
        return result

    def _stored(self, found: settle.Settled) -> Any:
        assert self.key is not None
        return idempotency.stored(self.fn, self.key[0], found)


def _key() -> tuple[request.IdempotencyKey, tokens.Token] | None:
    """The key of this request and the token of its next `run`, or None."""
    serving = request.current()
    if serving is None or serving.idempotency is None:
        return None
    key = serving.idempotency
    return key, tokens.of_key(key, key.take_number())


def _is_repeatable(argument: Any) -> bool:
    return not any(hasattr(argument, name) for name in ("__next__", "__anext__", "read"))


async def _execute_alone(
    shards: Shards,
    method: str,
    query: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: transaction.Options,
) -> Any:
    deadline = options.deadline()
    until = deadline if deadline is not None else _now() + transaction.PATIENCE_SECONDS
    lease = await shards.primary(options.shard, until)
    try:
        result = await getattr(lease.connection, method)(query, *args, **kwargs)
        at = await shards.flushed(lease)
    except asyncpg.PostgresConnectionError as error:
        lease.discard()
        raise errors.OutcomeUnknown(
            f"database: the connection was lost while {query[:40]!r} ran, which cannot run in a transaction; "
            "look whether it happened",
            token="",
        ) from error
    except BaseException:
        lease.discard()
        raise
    await lease.release(reset=True)
    if at is not None:
        await shards.ensure_held(at, until)
    return result


def _now() -> float:
    return asyncio.get_running_loop().time()
