"""One real PostgreSQL that belongs to the process that started it, and dies with it: for `tenfold dev` and for tests.

    async with lone_database.running(folder, topology) as database:   # or `start`, and `database.stop` in the end
        await database.migrate(migrations)                              # the schema `tenfold`, then the folder's files
        bindings.Bindings(service=..., database=database.bound)

The same engine adapters as everywhere (`engines/postgres`), but no server of the runtime, no records, no supervision:
who restarts a PostgreSQL that died is its owner's affair (`is_alive`). `folder` holds everything and is kept: a second
start finds its data. Two never run on one folder: a lock on `folder/lock` is held by the owner and by every process of
PostgreSQL itself, and so is free exactly when nothing is left of an earlier one.
"""

import dataclasses
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from tenfold import bindings, engines, errors
from tenfold.engines import database
from tenfold.engines.postgres import admin, command, probe, render
from tenfold.kit import address, clock, files, lock, process, tether
from tenfold.runtime import migrate, passwords, publish
from tenfold.topology import layout, tiers

UNDURABLE = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "512MB",
    "checkpoint_timeout": "1h",
}
"""For data that may be lost with the machine: nothing waits for the disk."""

LOCK = "lock"

SECRETS = "secrets.json"
"""The passwords' file in the folder."""

DYING_SECONDS = 5.0
"""How long the PostgreSQL of an owner that was killed a moment ago may still hold the folder."""


class Place:
    """Where a PostgreSQL is, and the ways in."""

    def __init__(self, seat: engines.Seat) -> None:
        self.seat = seat

    @property
    def folder(self) -> Path:
        """Everything of it: data, configuration, log, passwords."""
        return self.seat.root

    @property
    def node(self) -> bindings.DatabaseNode:
        """As bindings name it."""
        return bindings.DatabaseNode(name=self.seat.server.name, host=self.seat.address, port=database.PORT)

    @property
    def bound(self) -> bindings.Database:
        """What an app is told."""
        return publish.database(self.seat.topology, self.seat.secrets, (self.node,))

    def app(self, name: str = "") -> migrate.Address:
        """The app's role, in the service's database or the one that is named."""
        own = publish.database_name(self.seat.topology.service.name)
        return migrate.Address(self.seat.address, own, self.seat.secrets.app, name or own, database.PORT)

    def superuser(self, name: str = "postgres") -> migrate.Address:
        """The superuser, in the database that is named."""
        password = self.seat.secrets.superuser
        return migrate.Address(self.seat.address, database.SUPERUSER, password, name, database.PORT)

    async def migrate(self, migrations: Path, name: str = "") -> tuple[str, ...]:
        """Bring the schema `tenfold` and the service's own up to date in this database. Returns the files that ran.

        Raises what `migrate.run` raises.
        """
        app = self.app(name)
        await migrate.prepare(self.superuser(app.database), app.user)
        return await migrate.run(app, migrations)


class LoneDatabase(Place):
    """A PostgreSQL that runs. Its owner ends it with `stop` or `cut`; when the owner ends, it ends."""

    def __init__(self, seat: engines.Seat, held: int, tethered: tether.Tether) -> None:
        super().__init__(seat)
        self._lock = held
        self._tether = tethered

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._tether.is_alive

    async def stop(self) -> None:
        """A clean shutdown: sessions are ended, everything is on disk. Twice is once."""
        await self._tether.stop(command.command(self.seat).grace_seconds)
        self._unlock()

    async def cut(self) -> None:
        """A power cut: everything of it dies at once. What was committed is there at the next start, if durable."""
        await self._tether.cut()
        self._unlock()

    def let_go(self) -> None:
        """Let it die by itself, at once, without waiting: for an owner that is at its end."""
        self._tether.let_go()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


@asynccontextmanager
async def running(folder: Path, topology: tiers.Topology, *, durable: bool = True) -> AsyncIterator[LoneDatabase]:
    """`start`, and `stop` at the end of the block."""
    started = await start(folder, topology, durable=durable)
    try:
        yield started
    finally:
        await started.stop()


async def start(
    folder: Path, topology: tiers.Topology, *, durable: bool = True, line: tether.Line | None = None
) -> LoneDatabase:
    """A primary in this folder, with the service's roles and database; the data are made when there are none.

    The address is a private one of its own, on a 127.N.0.0/16 that the folder claims. With `durable=False` nothing
    waits for the disk: for data that is worth nothing after a crash of the machine. Not for a folder that was
    durable before, nor the other way round. `line`: for several owners (`shared_database`).

    Raises AlreadyRunning when another one runs on the folder, EngineMissing without PostgreSQL, EngineFailed when it
    does not start (its last log lines are in the message); nothing is left running then.
    """
    folder = _absolute(folder)
    held = await _locked(folder)
    try:
        seat = seat_in(folder, topology)
        if not admin.holds_data(seat):
            _render(seat, durable=durable)
            await _one_shot(seat, command.initialise(seat), held, durable=durable)
            admin.finish_copy(seat)
        started = await _start(seat, held, durable=durable, line=line)
    except BaseException:
        os.close(held)
        raise
    try:
        await admin.create_roles_and_database(seat)
    except BaseException:
        await started.cut()
        raise
    return started


async def start_standby(folder: Path, primary: LoneDatabase, number: int) -> LoneDatabase:
    """A standby of `primary` in an empty folder, on the same network: `database-NUMBER`. On return it streams.

    Raises like `start`.
    """
    folder = _absolute(folder)
    held = await _locked(folder)
    source = primary.seat
    try:
        seat = _seat(folder, source.topology, source.secrets, source.network, number)
        _render(seat, durable=False)
        await admin.create_slot(source, seat.server.name)
        await _one_shot(seat, command.base_backup(seat, source), held, durable=False)
        admin.finish_standby(seat, source)
        started = await _start(seat, held, durable=False)
    except BaseException:
        os.close(held)
        raise

    async def is_streaming() -> bool:
        return await admin.is_replicating_to(source, (seat.server.name,))

    if not await clock.until(is_streaming, seconds=30.0, pause_seconds=0.02):
        await started.cut()
        raise errors.EngineFailed(f"{seat.server.name}: does not stream from {source.server.name}; see {seat.log}")
    return started


def give_password(folder: Path, app: str) -> None:
    """In a folder that is still empty: the app's role gets this password, in the place of a generated one."""
    files.make_private(folder)
    if not (folder / SECRETS).exists():
        files.write_atomically(folder / SECRETS, msgspec.json.encode({"app": app}))


async def promote(standby: LoneDatabase) -> None:
    """Make a primary of the standby; its old primary must be dead. Raises EngineFailed when it does not become one."""
    await admin.promote(standby.seat)


async def until_dead(folder: Path) -> bool:
    """Wait until nothing of a PostgreSQL that was let go is left in the folder; False when it takes too long."""
    handle = lock.opened(folder / LOCK)
    try:
        return await lock.take(handle, DYING_SECONDS)
    finally:
        os.close(handle)


def seat_in(folder: Path, topology: tiers.Topology) -> engines.Seat:
    """The seat of the primary in this folder, with the network and the passwords that the folder has or now gets."""
    network = address.claim(folder, address.claims_folder())
    return _seat(folder, topology, passwords.load_or_make(folder / SECRETS), network, 1)


def _seat(folder: Path, topology: tiers.Topology, secrets: engines.Secrets, network: int, number: int) -> engines.Seat:
    """Where a PostgreSQL without a server of the runtime sits."""
    host = layout.FIRST_HOST["database"] + number - 1
    server = layout.Server(f"database-{number}", topology.home, 1, "database", number, host, (layout.POSTGRES,))
    return engines.Seat(
        process=layout.POSTGRES,
        server=server,
        topology=topology,
        layout=layout.Layout((server,)),
        network=network,
        root=folder,
        project=folder,
        bindings=folder / "bindings.json",
        secrets=secrets,
        run=folder / "run",
    )


def _absolute(folder: Path) -> Path:
    return Path(os.path.abspath(folder))


async def _one_shot(seat: engines.Seat, wanted: engines.Command, held: int, *, durable: bool) -> None:
    """Run initdb or pg_basebackup to its end; it dies with us too. Raises EngineFailed with its last lines."""
    admin.begin_copy(seat)
    if not durable:
        wanted = dataclasses.replace(wanted, argv=(*wanted.argv, "--no-sync"))
    running = await _tethered(seat, wanted, held)
    try:
        code = await running.ended(wanted.start_seconds)
    finally:
        await running.cut()
    if code != 0:
        raise errors.EngineFailed(f"{Path(wanted.argv[0]).name}: ended with {code}\n{_last_lines(seat)}")


async def _start(seat: engines.Seat, held: int, *, durable: bool, line: tether.Line | None = None) -> LoneDatabase:
    _render(seat, durable=durable)
    _begin_log(seat)
    admin.clear_after_power_cut(seat)
    wanted = command.command(seat)
    made = await _tethered(seat, wanted, held, line)

    async def look() -> bool:
        return not made.is_alive or (await probe.probe(seat)).is_ready

    try:
        await clock.until(look, seconds=wanted.start_seconds, pause_seconds=0.01)
        if not made.is_alive or not (await probe.probe(seat)).is_ready:
            raise errors.EngineFailed(f"PostgreSQL in {seat.root} did not start\n{_last_lines(seat)}")
    except BaseException:
        await made.cut()
        raise
    return LoneDatabase(seat, held, made)


async def _tethered(
    seat: engines.Seat, wanted: engines.Command, held: int, line: tether.Line | None = None
) -> tether.Tether:
    return await tether.Tether.start(
        wanted.argv,
        log=seat.log,
        env=wanted.env,
        directory=seat.root,
        keep=(held,),
        stop_signal=wanted.stop_signal,
        line=line,
    )


def _render(seat: engines.Seat, *, durable: bool) -> None:
    for name in ("data", "config", "log", "run"):
        (seat.root / name).mkdir(mode=0o700, exist_ok=True)
    texts = dict(render.render(seat))
    texts["postgresql.conf"] += _lines({} if durable else UNDURABLE)
    for path, text in texts.items():
        files.write_if_changed(seat.config / path, text)


def _lines(parameters: Mapping[str, str]) -> str:
    return "".join(f"{name} = {render.quote(value)}\n" for name, value in parameters.items())


async def _locked(folder: Path) -> int:
    """The lock of the folder, as a descriptor. Waits for an earlier PostgreSQL whose owner died just now."""
    files.make_private(folder)
    handle = lock.opened(folder / LOCK)
    try:
        owner = lock.signer(handle)
        patience_seconds = 0.0 if owner and process.identify(owner) else DYING_SECONDS
        if not await lock.take(handle, patience_seconds):
            raise errors.AlreadyRunning(
                f"{folder}: a PostgreSQL of process {lock.signer(handle) or 'unknown'} runs here; "
                "end that process first"
            )
        lock.sign(handle)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _begin_log(seat: engines.Seat) -> None:
    """The log of this start alone; that of the last one is kept beside it."""
    with suppress(FileNotFoundError):
        seat.log.replace(seat.log.with_name(f"{seat.log.name}.1"))


def _last_lines(seat: engines.Seat, count: int = 15) -> str:
    try:
        lines = seat.log.read_text(errors="replace").splitlines()
    except OSError:
        return f"(no log at {seat.log})"
    return "\n".join(lines[-count:])
