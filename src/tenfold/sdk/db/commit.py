"""Sending a COMMIT and judging its answer: committed, rolled back, or unknown.

Called by `transaction` and `settle`, from inside `shield.undisturbed`. A COMMIT is never cancelled and never repeated:
when its answer does not come in time the connection is cut, which leaves the server to finish what it began.
"""

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import asyncpg

from tenfold import errors, position
from tenfold.sdk.db import connect

if TYPE_CHECKING:
    from tenfold.sdk.db.primary import Lease  # which imports us, through `following`

COMMIT = "set local client_min_messages = warning; commit; {reset} select tenfold.report_position()"
"""One message. The first part keeps a cancelled wait for replicas audible, the others save two round trips: the
session is reset for its next user, and the position is read after the commit has returned."""

POSITION_REPORTED = "TF001"
"""The SQLSTATE of the notice by which `tenfold.report_position()` answers."""

WRITE_REPORTED = "TF002"
"""The SQLSTATE of the notice by which `tenfold.report_write()` says that this transaction has written."""

NEVER_COMMITTED = ("23", "40", "44", "P0")
"""Classes of errors that only a transaction that is being rolled back raises at its COMMIT: deferred constraints and
triggers, conflicts. What else goes wrong may have gone wrong after it."""


class Verdict(Enum):
    """What an answer proves."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict; `at` when it was committed; why not, when it was not; what was seen, when nobody knows."""

    verdict: Verdict
    at: position.Position | None = None
    error: BaseException | None = None


class Notices:
    """What the server said beside its answer. asyncpg delivers it before it wakes who waits for the answer."""

    __slots__ = ("has_written", "lsn", "warning")

    def __init__(self) -> None:
        self.has_written = False
        self.lsn: int | None = None
        self.warning = ""

    def __call__(self, _: Any, message: Any) -> None:
        if message.sqlstate == POSITION_REPORTED:
            self.lsn = position.parse_lsn(message.message)
        elif message.sqlstate == WRITE_REPORTED:
            self.has_written = True
        elif message.severity_en == "WARNING":
            self.warning = message.message


async def send(lease: "Lease", until: float) -> Answer:
    """Commit the lease's open transaction, reset its session, and say what became of it.

    Waits for the answer until `until` (`loop.time()`), and cuts the connection then. The lease stays the caller's.
    """
    connection, notices = lease.connection, Notices()
    if connection.is_closed():  # it went away between the last statement and this: no COMMIT was ever sent
        why = f"transaction: the connection to {lease.node} was lost before COMMIT; nothing was written"
        return Answer(Verdict.ROLLED_BACK, error=errors.NotCommitted(why))
    timer = asyncio.get_running_loop().call_at(until, lease.discard)
    connection.add_log_listener(notices)
    try:
        await connection.execute(COMMIT.format(reset=connection.get_reset_query()))
    except asyncpg.PostgresError as error:
        return judge(error)
    except connect.ANSWERS as error:
        return Answer(Verdict.UNKNOWN, error=error)
    finally:
        timer.cancel()
        if not connection.is_closed():
            connection.remove_log_listener(notices)
    if notices.warning:
        return Answer(Verdict.UNKNOWN, error=errors.TenfoldError(f"COMMIT came with a warning: {notices.warning}"))
    return Answer(Verdict.COMMITTED, at=await _position(lease, notices.lsn, until))


def judge(error: asyncpg.PostgresError) -> Answer:
    """An ERROR of a transaction that failed before proves the rollback; a FATAL one, or any other, proves nothing."""
    if isinstance(error, asyncpg.InFailedSQLTransactionError):
        reason = (
            "transaction: a statement failed, its error was not passed on, and so COMMIT would have been a ROLLBACK; "
            "nothing was written; put statements that may fail into `async with tx.transaction():`"
        )
        return Answer(Verdict.ROLLED_BACK, error=errors.RolledBack(reason))
    state, severity = error.sqlstate or "", getattr(error, "severity_en", None)
    if severity == "ERROR" and state.startswith(NEVER_COMMITTED):
        return Answer(Verdict.ROLLED_BACK, error=error)
    return Answer(Verdict.UNKNOWN, error=error)


async def _position(lease: "Lease", lsn: int | None, until: float) -> position.Position | None:
    """Where the log was flushed after the commit; asked again if the notice did not come, None if that fails too."""
    if lsn is None:
        try:
            timeout = max(0.1, until - asyncio.get_running_loop().time())
            lsn = await lease.connection.fetchval("select pg_current_wal_flush_lsn()", timeout=timeout)
        except connect.ANSWERS:
            lease.discard()
            return None
    assert lsn is not None
    return lease.position(lsn)
