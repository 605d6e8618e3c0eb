"""Which files `tenfold dev` watches, and what counts as a change.

Called by `session`. It watches folders one by one: the state folder, in which a database writes all day, virtual
environments and caches are left out, and never looked at. Nothing is read.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import watchfiles

from tenfold.runtime.develop import code

STEP_MILLISECONDS = 20
"""Saves that follow each other faster than this are one change: an editor writes a file in several steps."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What is watched: the code's folder with all below it, the migrations, and single files."""

    directory: Path
    migrations: Path
    files: tuple[Path, ...]
    """`tenfold.toml`, and the `env_file`."""

    def folders(self) -> tuple[Path, ...]:
        """Every folder that may hold something of it now."""
        found = {*code.folders(self.directory), *(one.parent for one in self.files)}
        if self.migrations.is_dir():
            found.add(self.migrations)
        return tuple(sorted(one for one in found if one.is_dir()))

    def counts(self, path: Path) -> bool:
        """Whether a change of this path is one: code, a template, a migration, a file of settings."""
        if path in self.files or (path.parent == self.migrations and path.suffix == ".sql"):
            return True
        return path.name.endswith(code.SUFFIXES) and path.is_relative_to(self.directory)


async def watch(scope: Scope) -> AsyncIterator[tuple[Path, ...]]:
    """What has changed, each time something that counts has; files that came together with their folder included."""
    folders = scope.folders()
    while True:
        async for batch in watchfiles.awatch(
            *folders, watch_filter=None, recursive=False, step=STEP_MILLISECONDS, debounce=1000
        ):
            paths = {Path(path) for _, path in batch}
            counted = {path for path in paths if scope.counts(path)}
            now = scope.folders() if any(_may_be_a_folder(path) for path in paths) else folders
            counted |= {path for new in set(now) - set(folders) for path in new.iterdir() if scope.counts(path)}
            if counted:
                yield tuple(sorted(counted))
            if now != folders:
                folders = now
                break


def _may_be_a_folder(path: Path) -> bool:
    """Something that has gone may have been one."""
    return path.is_dir() or not path.exists()
