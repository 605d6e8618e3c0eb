"""What can be asked of PostgreSQL while it runs, and of its folder while it does not. Called by `runtime/actions`.

The orders in which the runtime asks (`command.X` are one-shot programs that it runs on the server):

    a new database      begin_copy, command.initialise, finish_copy, start, create_roles_and_database
    a standby           create_slot(source), begin_copy, command.base_backup, finish_standby, start
    the planned switch  checkpoint(old), fence(old), drain(old), stop old, command.control_data(old) ->
                        parse_control_data -> was_shut_down, has_replayed(new, its checkpoint), promote(new)
                        before old is stopped it is undone by unfence(old)
    out of Patroni      (patroni.admin says what comes before) render, reload, drop_slots

Every function may be called twice. Errors are EngineFailed with the server's name.
"""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from tenfold import engines, errors
from tenfold.engines import database
from tenfold.engines.postgres import connection, settings, watcher
from tenfold.kit import clock
from tenfold.position import format_lsn, parse_lsn

Watcher = watcher.Watcher
"""Keeps a connection to one node and says what it is: `look`, `is_synchronous`, `close`."""

_REWIND_FUNCTIONS = (
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
)
"""What pg_rewind calls on the source when its role is not a superuser (PostgreSQL's manual, pg_rewind)."""

_FENCE = "default_transaction_read_only"


# A new cluster, a copy


def holds_data(seat: engines.Seat) -> bool:
    """Whether the server holds a complete cluster."""
    return database.holds_data(seat)


def clear_after_power_cut(seat: engines.Seat) -> None:
    """Remove the lock file of the dead server and a copy that was never finished. Nothing runs on the server yet."""
    database.clear_lock_of_dead_server(seat)
    shutil.rmtree(settings.partial_directory(seat), ignore_errors=True)


def begin_copy(seat: engines.Seat) -> None:
    """Make room for a new cluster or a copy: what an interrupted one left is removed."""
    partial = settings.partial_directory(seat)
    partial.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(partial, ignore_errors=True)


def finish_copy(seat: engines.Seat) -> None:
    """Give the finished cluster its place, in one rename. Raises EngineFailed when another one is there."""
    partial, data = settings.partial_directory(seat), settings.data_directory(seat)
    if not (partial / "global" / "pg_control").exists():
        raise errors.EngineFailed(f"{partial}: no complete cluster found; see the log of initdb or pg_basebackup")
    try:
        partial.rename(data)  # replaces an empty folder, and only that (rename(2))
    except OSError as error:
        raise errors.EngineFailed(f"{data}: holds a database already; remove the server first") from error
    _sync(data.parent)


def finish_standby(seat: engines.Seat, source: engines.Seat) -> None:
    """Make the finished copy a standby of `source`, and give it its place. A fence of the source is left behind."""
    partial = settings.partial_directory(seat)
    file = partial / "postgresql.auto.conf"
    conninfo = settings.primary_conninfo(seat, source)
    file.write_text(standby_settings(file.read_text(), conninfo, database.slot_name(seat.server.name)))
    (partial / "standby.signal").touch()
    finish_copy(seat)


def is_standby_of(seat: engines.Seat, source: engines.Seat) -> bool:
    """Whether what is here is a copy that `finish_standby` made a standby of `source`, running or not."""
    data = settings.data_directory(seat)
    file = data / "postgresql.auto.conf"
    if not (data / "standby.signal").exists() or not file.exists():
        return False
    return _quoted(settings.primary_conninfo(seat, source)) in file.read_text()


def _quoted(conninfo: str) -> str:
    return "'" + conninfo.replace("'", "''") + "'"


def standby_settings(copied: str, conninfo: str, slot: str) -> str:
    """postgresql.auto.conf of a standby: the source's own settings, but for its fence and whom it followed."""
    dropped = re.compile(rf"\s*({_FENCE}|primary_conninfo|primary_slot_name|recovery_target\w*)\s*=", re.IGNORECASE)
    kept = [line for line in copied.splitlines() if not dropped.match(line)]
    return "\n".join([*kept, f"primary_conninfo = {_quoted(conninfo)}", f"primary_slot_name = '{slot}'", ""])


# Roles


async def create_roles_and_database(seat: engines.Seat) -> None:
    """Make or correct the roles (replicator, rewind, the app's) and the service's database. Asks the primary.

    Passwords and rights are set anew each time, so that what a person changed by hand is put right.
    """
    app = seat.topology.service.name
    async with connection.connected(seat) as superuser:
        await _role(superuser, database.REPLICATOR, "login replication", seat.secrets.replicator)
        await _role(superuser, database.REWIND, "login", seat.secrets.replicator)
        for function in _REWIND_FUNCTIONS:
            await superuser.execute(f"grant execute on function pg_catalog.{function} to {database.REWIND}")
        await _role(superuser, app, "login", seat.secrets.app)
        await superuser.execute(f"grant pg_monitor to {quoted_name(app)}")
        if not await superuser.fetchval("select exists (select from pg_database where datname = $1)", app):
            await superuser.execute(f"create database {quoted_name(app)} owner {quoted_name(app)}")


async def _role(superuser: "asyncpg.Connection[asyncpg.Record]", name: str, rights: str, password: str) -> None:
    if not await superuser.fetchval("select exists (select from pg_roles where rolname = $1)", name):
        await superuser.execute(f"create role {quoted_name(name)}")
    statement = await superuser.fetchval(
        f"select format('alter role %I {rights} password %L', $1::text, $2::text)", name, password
    )
    await superuser.execute(statement)


def quoted_name(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


# Slots


async def create_slot(seat: engines.Seat, standby: str) -> None:
    """Keep the WAL that the standby on this server needs, from now on."""
    name = database.slot_name(standby)
    async with connection.connected(seat) as superuser:
        await superuser.execute(
            "select pg_create_physical_replication_slot($1, true)"
            " where not exists (select from pg_replication_slots where slot_name = $1)",
            name,
        )


async def drop_slots(seat: engines.Seat, servers: tuple[str, ...] | None = None) -> None:
    """Drop the physical slots of these servers, or all: a slot of a standby that is gone fills the disk with WAL.

    A walsender that still uses one is ended first.
    """
    names = None if servers is None else [database.slot_name(one) for one in servers]
    async with connection.connected(seat) as superuser:

        async def none_left() -> bool:
            await superuser.execute(
                "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_type = 'physical'"
                " and active_pid is not null and ($1::text[] is null or slot_name = any($1))",
                names,
            )
            await superuser.execute(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_type = 'physical'"
                " and active_pid is null and ($1::text[] is null or slot_name = any($1))",
                names,
            )
            return not await superuser.fetchval(
                "select count(*) from pg_replication_slots where slot_type = 'physical'"
                " and ($1::text[] is null or slot_name = any($1))",
                names,
            )

        if not await clock.until(none_left, seconds=10.0, pause_seconds=0.1):
            raise errors.EngineFailed(
                f"{seat.server.name}: slots are still in use after 10 s; stop their standbys first"
            )


# The planned switch


async def checkpoint(seat: engines.Seat) -> None:
    """Write a checkpoint now, so that the one at shutdown is short."""
    async with connection.connected(seat) as superuser:
        await superuser.execute("checkpoint", timeout=600.0)


async def fence(seat: engines.Seat) -> None:
    """Make every new transaction read-only (SQLSTATE 25006 at its first write). True on return for all sessions.

    Lasts over a restart, until `unfence`. Transactions that are open now may still write: `drain` waits for them.
    """
    await _set_fence(seat, is_on=True)


async def unfence(seat: engines.Seat) -> None:
    """Let new transactions write again."""
    await _set_fence(seat, is_on=False)


async def _set_fence(seat: engines.Seat, *, is_on: bool) -> None:
    async with connection.connected(seat) as superuser:
        await superuser.execute(f"alter system set {_FENCE} = on" if is_on else f"alter system reset {_FENCE}")
        await superuser.execute("select pg_reload_conf()")

    async def is_in_force() -> bool:
        """The server reads its files, tells all sessions, and only then takes another connection: a new one that
        knows proves that everyone was told."""
        async with connection.connected(seat) as fresh:
            return bool(await fresh.fetchval(f"select current_setting('{_FENCE}') = $1", "on" if is_on else "off"))

    if not await clock.until(is_in_force, seconds=5.0, pause_seconds=0.01):
        raise errors.EngineFailed(f"{seat.server.name}: {_FENCE} did not change within 5 s; see pg_file_settings")


_OPEN = """
select pid from pg_stat_activity
where backend_type = 'client backend' and pid <> pg_backend_pid() and xact_start <= $1
  and (backend_xid is not null or state like 'idle in transaction%' or $2)
"""


async def drain(seat: engines.Seat, seconds: float, reader_seconds: float = 0.5) -> int:
    """Wait until the transactions that were open when this began have ended; end the sessions of those that have
    not after `seconds`. Returns how many were ended.

    A statement that runs without having written is waited for only `reader_seconds`: a long report must not keep
    writers waiting. Ended sessions lose a transaction that did not commit; the SDK repeats it on the new primary.
    """
    async with connection.connected(seat) as superuser:
        began = await superuser.fetchval("select clock_timestamp()")

        async def is_quiet() -> bool:
            return not await superuser.fetch(_OPEN, began, True)

        async def has_no_writers() -> bool:
            return not await superuser.fetch(_OPEN, began, False)

        if await clock.until(is_quiet, seconds=min(seconds, reader_seconds), pause_seconds=0.005):
            return 0
        if await clock.until(has_no_writers, seconds=max(0.0, seconds - reader_seconds), pause_seconds=0.01):
            return 0
        ended = await superuser.fetch(f"select pg_terminate_backend(pid, 2000) from ({_OPEN}) as open", began, False)
        return len(ended)


@dataclass(frozen=True, slots=True)
class ControlData:
    """What pg_controldata says of a cluster that does not run."""

    state: str
    checkpoint: int
    """Where its latest checkpoint record begins."""
    timeline: int
    max_connections: int = 0
    """Those of its primary, as far as it has replayed: a standby does not start with fewer. 0: it does not say."""

    @property
    def was_shut_down(self) -> bool:
        """Whether it was stopped cleanly, as a primary: everything it ever acknowledged is before `checkpoint`."""
        return self.state == "shut down"


def parse_control_data(output: str) -> ControlData:
    """From `command.control_data`'s output. Raises EngineFailed when it is not one."""
    fields = dict(line.split(":", 1) for line in output.splitlines() if ":" in line)
    try:
        return ControlData(
            state=fields["Database cluster state"].strip(),
            checkpoint=parse_lsn(fields["Latest checkpoint location"].strip()),
            timeline=int(fields["Latest checkpoint's TimeLineID"]),
            max_connections=int(fields.get("max_connections setting", 0)),
        )
    except (KeyError, ValueError) as error:
        raise errors.EngineFailed(f"pg_controldata: {error} not found in its output: {output[-500:]}") from error


async def has_replayed(seat: engines.Seat, lsn: int) -> bool:
    """Whether the standby has replayed the record that begins at `lsn`."""
    async with connection.connected(seat) as superuser:
        return bool(await superuser.fetchval(f"select pg_last_wal_replay_lsn() > '{format_lsn(lsn)}'::pg_lsn"))


async def promote(seat: engines.Seat, seconds: float = 60.0) -> None:
    """Make the standby a primary that accepts writes. On a primary nothing but the fence changes.

    Only for databases without Patroni, and only when the old primary is stopped: nothing here checks that.
    """
    await unfence(seat)
    async with connection.connected(seat) as superuser:
        if not await superuser.fetchval("select pg_is_in_recovery()"):
            return
        if not await superuser.fetchval("select pg_promote(true, $1)", int(seconds), timeout=seconds + 5):
            raise errors.EngineFailed(f"{seat.server.name}: was not promoted within {seconds:g} s; see its log")
        await superuser.execute("alter system reset primary_conninfo")
        await superuser.execute("alter system reset primary_slot_name")
        await superuser.execute("select pg_reload_conf()")


# After a change of manager


async def reload(seat: engines.Seat) -> tuple[str, ...]:
    """Read the configuration files again. Returns the names of settings that would need a restart; expected: none."""
    async with connection.connected(seat) as superuser:
        before = await superuser.fetchval("select pg_conf_load_time()")
        await superuser.execute("select pg_reload_conf()")

        async def is_read() -> bool:
            return bool(await superuser.fetchval("select pg_conf_load_time() > $1", before))

        await clock.until(is_read, seconds=5.0, pause_seconds=0.01)
        rows = await superuser.fetch("select name from pg_settings where pending_restart order by name")
        return tuple(row["name"] for row in rows)


async def is_replicating_to(seat: engines.Seat, servers: tuple[str, ...]) -> bool:
    """Whether all these servers stream from this primary, by its own account."""
    async with connection.connected(seat) as superuser:
        rows = await superuser.fetch("select application_name from pg_stat_replication where state = 'streaming'")
        return set(servers) <= {row["application_name"] for row in rows}


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
