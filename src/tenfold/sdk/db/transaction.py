"""A write transaction on the primary: begins with its token, ends with a COMMIT whose outcome is known.

`tf.db.transaction()` is one; `run` makes one a try. It never runs a user's statement twice: trying again is `run`'s.

    NEW ── start ──> OPEN ── commit ──> ENDING ──> ENDED
                       └──── rollback ────┘

A transaction that only read has inserted its token too, which does no harm; `readonly=True` saves it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Any, NoReturn, TypeVar

import asyncpg

from tenfold import errors, position, request, spans
from tenfold.kit import backoff
from tenfold.sdk.db import commit, connect, late, outward, prune, settle, shield, statements, tokens, witness
from tenfold.sdk.db.commit import Answer
from tenfold.sdk.db.primary import Lease, Shards

log = logging.getLogger("tenfold.db")

PATIENCE_SECONDS = 30.0
"""Without any deadline (a script), how long a transaction waits for a primary, and for the outcome of its COMMIT."""

GRACE_SECONDS = 1.0
"""A COMMIT sent just before the deadline still gets so long: better a little late than unknown."""

ANSWER_SECONDS = 2.0
"""A BEGIN or ROLLBACK not answered within this is given up with its connection; neither can do harm later."""

HOOK_SECONDS = 1.0
"""How long one after-commit callback may take."""

PAUSE = backoff.Backoff(first_seconds=0.005, most_seconds=0.25)

CONFLICTS = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
"""With a key, the row may have been taken by another request of the same key a moment ago."""

A_TRANSACTION = "a transaction"

AfterCommit = Callable[[position.Position | None], Awaitable[None]]

Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class Options:
    """How a transaction is made. `timeout` (seconds) bounds the whole of it, waits and repeats included."""

    isolation: tokens.Isolation | None = None
    readonly: bool = False
    deferrable: bool = False
    timeout: float | None = None
    shard: int = 0

    def deadline(self) -> float | None:
        """The earlier of `timeout` from now and the request's deadline, which ends when the response begins."""
        own = None if self.timeout is None else asyncio.get_running_loop().time() + self.timeout
        serving = request.current()
        given = None if serving is None or serving.has_responded else serving.deadline
        return given if own is None else own if given is None else min(own, given)


class State(Enum):
    """Where a transaction is in its life."""

    NEW = "new"
    OPEN = "open"
    ENDING = "ending"
    ENDED = "ended"


open_transaction: "ContextVar[Transaction | None]" = ContextVar("tenfold_open_transaction", default=None)


def current() -> "Transaction | None":
    """The transaction that this very task has open. A task started inside one is not inside it."""
    found = open_transaction.get()
    return found if found is not None and found.is_open and found.task is asyncio.current_task() else None


def ensure_none_open(what: str) -> None:
    """Raise `InsideTransaction` when this task has one open: `what` would wait for its locks, or be lost with it."""
    if current() is not None:
        raise errors.InsideTransaction(
            f"{what} found inside an open transaction of the same task; write `{_instead(what)}`, with its `tx`"
        )


def _instead(what: str) -> str:
    if what == A_TRANSACTION:
        return "async with tx.transaction():"
    if what == "tf.db.run":
        return "await function(tx, ...)"
    return f"await {what.replace('tf.db', 'tx').replace('tf.queue', 'tx')}(...)"


class Transaction(outward.Outward, statements.Statements):
    """One transaction, for one `async with`. asyncpg's own `start`, `commit` and `rollback` are there too.

    Beginning waits, up to the deadline, for a writable primary: nothing has run yet, so a failover or a fenced primary
    costs time and nothing else. Once a statement ran there is no second try: a lost connection is `NotCommitted`, a
    COMMIT whose answer is lost is settled: it returns normally, or raises `NotCommitted`, or `OutcomeUnknown`.
    """

    __slots__ = (
        "_after",
        "_deadline",
        "_given_deadline",
        "_lease",
        "_options",
        "_previous",
        "_reset",
        "_shards",
        "_state",
        "at",
        "settled",
        "task",
        "token",
        "work",
    )

    def __init__(
        self,
        shards: Shards,
        options: Options = Options(),
        *,
        token: tokens.Token | None = None,
        deadline: float | None = None,
    ) -> None:
        super().__init__()
        self._shards = shards
        self._options = options
        self._given_deadline = deadline
        self._deadline: float | None = deadline
        self._state = State.NEW
        self._lease: Lease | None = None
        self._reset = False
        self._after: list[AfterCommit] = []
        self._previous: Transaction | None = None
        self.task: asyncio.Task[Any] | None = None
        self.work: Callable[..., Any] | None = None
        """What `tf.db.run` runs in it: the name of the place when the stack does not show it."""
        self.token: tokens.Token | None = token or (None if options.readonly else tokens.fresh())
        """What settles an unknown outcome; None in a read-only transaction, where there is nothing to settle."""
        self.at: position.Position | None = None
        """After the commit: the position that covers this write."""
        self.settled: settle.Settled | None = None
        """Set when the COMMIT's answer was lost and its outcome had to be found out."""

    @property
    def is_open(self) -> bool:
        """Whether statements can run."""
        return self._state is State.OPEN

    @property
    def _takers(self) -> outward.Takers:
        return self._shards.takers

    @property
    def connection(self) -> "asyncpg.Connection[Any]":
        """asyncpg's connection itself, for what this surface lacks. Never end the transaction on it."""
        self._reset = True
        return self._raw

    @property
    def _raw(self) -> "asyncpg.Connection[Any]":
        if self._state is not State.OPEN or self._lease is None:
            raise errors.MisuseError(
                f"transaction: {self._state.value} found, an open one expected; "
                "use it inside `async with tf.db.transaction() as tx:`"
            )
        return self._lease.connection

    def after_commit(self, callback: AfterCommit) -> None:
        """Call `callback(position)` once it is certain that this transaction was committed, not otherwise.

        What it raises is logged: the write stays written.
        """
        self._after.append(callback)

    def awaiting_commit(self, kind: type[Kind]) -> Kind | None:
        """The callback of this type that waits for the commit already: for one that gathers what belongs together."""
        return next((one for one in self._after if isinstance(one, kind)), None)

    def __enter__(self) -> NoReturn:
        raise errors.MisuseError("transaction: `with` found; write `async with tf.db.transaction() as tx:`")

    def __exit__(self, *_: object) -> None:
        """Never called: `with` says so at its beginning."""

    async def __aenter__(self) -> "Transaction":
        await self.start()
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self._state is not State.OPEN:
            return
        if error is None:
            await self.commit()
        else:
            await self.rollback(error)

    async def start(self) -> bool:
        """Begin, on whoever is primary. False when the token is a key's and the key's first request has committed.

        Raises `NoPrimary`, `Overloaded`, `DeadlineExceeded`, or `KeyInUse` while a request of the same key runs.
        """
        if self._state is not State.NEW:
            raise errors.MisuseError(f"transaction: {self._state.value} found, a new one expected; make one a try")
        ensure_none_open(A_TRANSACTION)
        request.about_to_write()
        self._deadline = self._given_deadline or self._options.deadline()
        self._recording = request.recording().span("transaction", self._options.isolation or "")
        lease, status = await self._begin()
        if status == tokens.IS_TAKEN:
            self._state = State.ENDED
            await shield.undisturbed(self._undo(lease))
            self._recording.decide("the key's row is taken: its first request has committed", where=lease.node)
            self._recording.end()
            return False
        self._lease, self._state = lease, State.OPEN
        self.task, self._previous = asyncio.current_task(), open_transaction.get()
        open_transaction.set(self)
        return True

    async def commit(self) -> None:
        """Commit. On return it is committed; what is raised says that it is not, or `OutcomeUnknown`.

        Never cut short by a cancellation: that is delivered afterwards.
        """
        lease = self._close()
        try:
            with self._recording.span("commit", "commit", lease.node) as span:
                await shield.undisturbed(self._commit(lease, span))
        finally:
            self._recording.end()
        if self.token is not None:
            late.warn(self.work)

    async def rollback(self, error: BaseException | None = None) -> None:
        """Roll back. `error` is why: a lost connection becomes `NotCommitted`, all else is the caller's to raise."""
        lease = self._close()
        is_lost = error is not None and _is_lost(lease, error)
        try:
            with self._recording.span("rollback", "rollback", lease.node):
                await shield.undisturbed(self._undo(lease))
        finally:
            if error is not None:
                self._recording.fail(error)
            self._recording.end()
        if is_lost:
            raise errors.NotCommitted(
                f"transaction: the connection to {lease.node} was lost before COMMIT ({error}); nothing was written"
            ) from error

    async def restart(self) -> None:
        """Undo everything and begin again: the same connection, the same token. Raises `NotCommitted`."""
        try:
            status = await self._raw.execute(f"rollback; {self._opening}", timeout=ANSWER_SECONDS)
        except connect.ANSWERS as error:
            raise errors.NotCommitted(
                f"transaction: it could not begin again ({error}); nothing was written"
            ) from error
        if status == tokens.IS_TAKEN:
            raise errors.NotCommitted("Idempotency-Key: another request of the same key was faster; run again")

    def abandon(self) -> None:
        """End it without I/O, where nobody can wait: the connection is closed, nothing is written."""
        if self._state is State.OPEN:
            self._close().discard()
            self._state = State.ENDED
            self._recording.end()

    def _close(self) -> Lease:
        """No statement from now on."""
        self._raw  # noqa: B018 - raises when it is not open
        lease = self._lease
        assert lease is not None
        self._state = State.ENDING
        if open_transaction.get() is self:
            open_transaction.set(self._previous)
        return lease

    async def _begin(self) -> tuple[Lease, str]:
        """A transaction on whoever is primary, and what the server said to its first message."""
        try:
            with self._recording.span("begin", "begin") as span:
                lease, status = await self._open(span)
        except BaseException as error:
            self._recording.fail(error)
            self._recording.end()
            raise
        why = "the primary: it writes" if self.token is not None else "the primary: a read-only transaction"
        self._recording.decide(why, where=lease.node)
        return lease, status

    async def _open(self, span: spans.Recording) -> tuple[Lease, str]:
        """BEGIN and the token in one message; tried again until the deadline: nothing else has run."""
        until = self._until()
        tries = 0
        while True:
            if self.token is not None and (watching := self._shards.witness_of(self._options.shard)) is not None:
                await watching.ensure_followed(until)
            lease = await self._shards.primary(self._options.shard, until)
            try:
                seconds = min(ANSWER_SECONDS, max(0.05, until - _now()))
                return lease, await lease.connection.execute(self._opening, timeout=seconds)
            except asyncpg.ReadOnlySQLTransactionError as error:
                lease.demoted()
                seen: BaseException = error
            except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError) as error:
                lease.discard()
                raise errors.MisuseError(
                    f"database: {error}; tenfold's own tables were expected: run `tenfold migrate`"
                ) from error
            except BaseException as error:
                lease.discard()
                if not (connect.is_trouble(error) or isinstance(error, CONFLICTS)):
                    raise
                seen = error
            tries += 1
            span.note("retry", lease.node, f"it did not let a transaction begin ({type(seen).__name__}): tried again")
            await self._pause(tries, until, seen)

    @property
    def _opening(self) -> str:
        return tokens.begin(self.token, self._options.isolation, is_deferrable=self._options.deferrable)

    async def _pause(self, tries: int, until: float, seen: BaseException) -> None:
        pause = PAUSE.seconds(tries)
        if _now() + pause < until:
            await asyncio.sleep(pause)
        elif self.token is not None and self.token.fingerprint is not None and isinstance(seen, TimeoutError):
            raise errors.KeyInUse(
                "Idempotency-Key: the first request with this key was still running at the deadline of this one; "
                "repeat it later, with the same key"
            ) from seen
        else:
            raise errors.NotCommitted(
                f"transaction: no primary let it begin before the deadline ({seen}); nothing was written"
            ) from seen

    async def _commit(self, lease: Lease, span: spans.Recording) -> None:
        if self._deadline is not None and _now() >= self._deadline:
            await self._undo(lease)
            raise errors.DeadlineExceeded("transaction: its deadline passed before COMMIT; nothing was written")
        await self._ensure_hope(lease)
        now = _now()
        until = max(self._until(), now + GRACE_SECONDS)
        answer = await commit.send(lease, now + (until - now) / 2)
        if answer.verdict is commit.Verdict.ROLLED_BACK:
            assert answer.error is not None
            await self._undo(lease)
            raise answer.error
        if answer.verdict is commit.Verdict.UNKNOWN:
            lease.discard()
            span.decide(f"its answer was lost ({type(answer.error).__name__}): settled by its token")
            with span.span("settle", "settle") as settling:
                await self._settle(answer, until, settling)
        else:
            self.at = answer.at
            span.decide(f"committed at {self.at}" if self.token is not None else "nothing to write")
            if self.token is not None:
                await prune.sometimes(lease)
            await lease.release(reset=self._reset)
        self._state = State.ENDED
        if answer.verdict is commit.Verdict.COMMITTED:
            await self._await_witness(until, span)
        await self._announce()

    async def _ensure_hope(self, lease: Lease) -> None:
        """No COMMIT whose wait for another region is known to be in vain: it is rolled back instead of unknown."""
        watching = self._shards.witness_of(self._options.shard) if self.token is not None else None
        if watching is None:
            return
        try:
            watching.ensure_hope()
        except errors.NoOtherRegion:
            await self._undo(lease)
            raise

    async def _await_witness(self, until: float, span: spans.Recording) -> None:
        """Where a commit counts only in two regions: another one has it on return. Its connection serves others."""
        watching = self._shards.witness_of(self._options.shard)
        if watching is None or self.token is None:
            return
        with span.span("wait", "another region") as waiting:
            held = witness.Held.MOVED
            if self.at is not None:
                self._shards.wrote(self.at)  # it may become part of what this session has seen, whatever comes of it
                held = await watching.until_held(self.at, until)
            if held is witness.Held.MOVED:
                waiting.decide("the primary is another one by now, or other regions count: settled by its token")
                seen = errors.TenfoldError("what is at home changed while another region was waited for")
                await self._settle(Answer(commit.Verdict.UNKNOWN, error=seen), until, waiting)
            elif held is witness.Held.NOT_IN_TIME:
                look = f"look for token {self.token} in tenfold.commit"
                raise errors.OutcomeUnknown(witness.NOT_HELD.format(at=self.at, look=look), str(self.token))

    async def _settle(self, answer: Answer, until: float, settling: spans.Recording) -> None:
        """Find out. The other half of the time was kept for this; the server may still be working on that COMMIT."""
        if self.token is None:
            return
        self._state = State.ENDED
        self.settled = await settle.settle(self._shards, self._options.shard, self.token, until)
        proven = "was committed" if self.settled.is_committed else "was not committed, and never will be"
        settling.decide(f"the token proves that it {proven}")
        if not self.settled.is_committed:
            raise errors.NotCommitted(
                f"transaction: the answer to COMMIT was lost ({answer.error}); "
                "its token proves that it was not committed: nothing was written"
            ) from answer.error
        self.at = self.settled.at

    async def _announce(self) -> None:
        """The write is certain: whoever must know is told."""
        if self.token is not None and self.at is not None:
            self._shards.wrote(self.at)
        for callback in self._after:
            try:
                async with asyncio.timeout(HOOK_SECONDS):
                    await callback(self.at)
            except Exception:
                log.exception("an after-commit callback failed; the write stays written")

    async def _undo(self, lease: Lease) -> None:
        """Roll back and give the connection back as it was found, or close it, within `ANSWER_SECONDS`."""
        self._state = State.ENDED
        connection = lease.connection
        timer = asyncio.get_running_loop().call_later(ANSWER_SECONDS, lease.discard)
        try:
            await connection.execute(f"rollback; {connection.get_reset_query()}")
        except connect.ANSWERS:
            lease.discard()
        else:
            await lease.release(reset=self._reset)
        finally:
            timer.cancel()

    def _until(self) -> float:
        return self._deadline if self._deadline is not None else _now() + PATIENCE_SECONDS


def _now() -> float:
    return asyncio.get_running_loop().time()


def _is_lost(lease: Lease, error: BaseException) -> bool:
    """Whether `error` is the connection's end, and not one of the app's own (an HTTP client's OSError, say)."""
    return lease.connection.is_closed() and connect.is_trouble(error)
