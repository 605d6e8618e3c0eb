"""Fresh databases on one PostgreSQL: a migrated template, and clones of it.

Used by `run` and `stage`, backstage. All tests of a process have the database of one name, so that its address never
changes: while a test runs its successor's clone is made under another name, and takes its place by a rename.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg

from tenfold import errors
from tenfold.engines.postgres import admin
from tenfold.runtime import lone_database, shared_database
from tenfold.sdk.db import schema

Prepare = Callable[[lone_database.Place, str], Awaitable[None]]
"""Migrates the database of this name on this PostgreSQL."""

Stamp = tuple[tuple[str, int, int], ...]
"""The migrations' names, times and sizes: another one, and their content is looked at."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a process's databases are called, and how their template is made."""

    name: str
    migrations: Path
    prepare: Prepare


class Databases:
    """The databases of one process on one PostgreSQL. `take` and `give_back` in turn; `close` in the end."""

    def __init__(self, place: lone_database.Place, recipe: Recipe) -> None:
        self.place = place
        self._name, self._migrations, self._prepare = recipe.name, recipe.migrations, recipe.prepare
        self._owner = admin.quoted_name(place.app().user)
        self._pool: asyncpg.Pool[Any] | None = None
        self._template = ""
        self._stamp: Stamp | None = None
        self._spare: asyncio.Task[str] | None = None
        self._spare_of = ""
        """The template that the spare is a clone of."""
        self._numbers = count(1)

    async def take(self) -> None:
        """On return the database is there, fresh and migrated. Raises what `prepare` raises."""
        template = await self._current_template()
        ready = await self._take_spare(template) or await self._clone(template)
        await self._drop(self._name)
        await self._run(f"alter database {admin.quoted_name(ready)} rename to {admin.quoted_name(self._name)}")

    def prepare_next(self) -> None:
        """Begin with the next test's clone, while this one runs."""
        if self._spare is None and self._template:
            self._spare = asyncio.create_task(self._clone(self._template))
            self._spare_of = self._template

    async def give_back(self) -> None:
        """End every session in the database, and delete it."""
        await self._drop(self._name)

    async def close(self) -> None:
        """Let go of the PostgreSQL."""
        if self._spare is not None:
            self._spare.cancel()
            await asyncio.gather(self._spare, return_exceptions=True)
            self._spare = None
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    async def _current_template(self) -> str:
        """The template for the migrations as they are now; made when there is none yet."""
        stamp = await asyncio.to_thread(_stamp, self._migrations)
        if self._template and stamp == self._stamp:
            return self._template
        name = f"{self.place.app().user[:30]}_template_{await asyncio.to_thread(_fingerprint, self._migrations)}"
        async with shared_database.locked(self.place.folder / "template"):
            if not await self._run("select exists (select from pg_database where datname = $1)", name):
                await self._make_template(name)
        self._template, self._stamp = name, stamp
        return name

    async def _make_template(self, name: str) -> None:
        """Until it is complete it has the name of the tests' database: `DATABASE_URL` leads migrations to it."""
        await self._drop(self._name)
        await self._run(f"create database {admin.quoted_name(self._name)} owner {self._owner}")
        await self._prepare(self.place, self._name)
        await self._run(f"alter database {admin.quoted_name(self._name)} rename to {admin.quoted_name(name)}")

    async def _take_spare(self, template: str) -> str:
        """The clone that was made ahead; empty when there is none of this template."""
        if self._spare is None:
            return ""
        spare, self._spare = self._spare, None
        ready = await spare
        return ready if self._spare_of == template else ""

    async def _clone(self, template: str) -> str:
        name = f"{self._name}_next_{next(self._numbers)}"
        await self._drop(name)
        copied = f"template {admin.quoted_name(template)} strategy file_copy"  # without WAL: a third of the time
        await self._run(f"create database {admin.quoted_name(name)} {copied} owner {self._owner}")
        return name

    async def _drop(self, name: str) -> None:
        await self._run(f"drop database if exists {admin.quoted_name(name)} with (force)")

    async def _run(self, statement: str, *arguments: Any) -> Any:
        """The first value of a statement that the superuser runs."""
        where = self.place.superuser()
        try:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    host=where.host, port=where.port, user=where.user, password=where.password,
                    database=where.database, ssl=False, timeout=10.0,
                    min_size=0, max_size=3, max_inactive_connection_lifetime=0,
                )  # fmt: skip
            return await self._pool.fetchval(statement, *arguments, timeout=120.0)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            raise errors.EngineFailed(f"PostgreSQL in {self.place.folder}: {error or type(error).__name__}") from error


def _files(migrations: Path) -> list[Path]:
    return sorted(migrations.glob("*.sql"))


def _stamp(migrations: Path) -> Stamp:
    return tuple((path.name, seen.st_mtime_ns, seen.st_size) for path in _files(migrations) for seen in [path.stat()])


def _fingerprint(migrations: Path) -> str:
    """The same for the same files, and the same version of tenfold's own tables."""
    digest = hashlib.sha256(schema.statements("").encode())
    for path in _files(migrations):
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:12]
