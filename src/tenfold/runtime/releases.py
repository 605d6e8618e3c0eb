"""Releases on disk and in the records: made of the code as it stands, kept to go back to, dropped.

Called by `runtime/service`, one change at a time. A release is an immutable copy of `service.directory` with what it is
started with (app, interpreter, variables): a web server that starts again, or joins, runs what its neighbours run.
"""

import asyncio
import errno
import re
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from tenfold import engines, errors
from tenfold.engines.granian import settings
from tenfold.kit import files, tree
from tenfold.planning import releases
from tenfold.runtime import certificates, events, paths, records
from tenfold.topology import tiers

VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


class Shelf:
    """All releases of one service."""

    def __init__(self, where: paths.Paths, store: records.Store, journal: events.Journal) -> None:
        self._where = where
        self._store = store
        self._journal = journal

    # What there is

    @property
    def wanted(self) -> releases.Wanted:
        """Which releases shall serve."""
        return self._store.records.wanted_releases

    @property
    def reached(self) -> releases.Wanted:
        """Which releases served when a change ended well for the last time."""
        return self._store.records.reached_releases

    def find(self, version: str) -> records.ReleaseRecord:
        """The release of this version. Raises BadInput when it is not kept (any more), or its folder is gone."""
        found = self._store.records.releases.get(version)
        if found is None:
            kept = ", ".join(self._store.records.releases) or "none"
            raise errors.BadInput(f"release {version}: not found; kept are: {kept} ([deploy] keep says how many)")
        if not self._is_there(version):
            gone = f"release {version}: its folder {self._where.releases / version} is gone"
            raise errors.BadInput(f"{gone}; make a release of the code as it is now: tenfold deploy")
        return found

    # What the files ask for

    async def look(self, topology: tiers.Topology) -> records.ReleaseRecord:
        """What a release of the code and the variables as they are now would hold. Makes nothing."""
        stands = settings.as_it_stands(topology, self._where.project)
        fingerprint = await _reading(self._tree(topology, stands).fingerprint)
        return _record(stands, fingerprint)

    async def serves(self, topology: tiers.Topology) -> bool:
        """Whether the release that is wanted is just what the files hold."""
        current = self._store.records.releases.get(self.wanted.current)
        found = await self.look(topology)
        return current is not None and self._is_there(current.version) and found.is_like(current)

    async def as_files_say(self, topology: tiers.Topology) -> releases.Wanted | None:
        """The releases that serve already, when nothing is new; None: a new one is needed.

        New is what differs from the release that is wanted and from the newest that has served: after a rollback the
        files still hold what was rolled back, and must not come back by themselves. A canary stays what it is.
        """
        found = await self.look(topology)
        proven = self._proven()
        newest = self._store.records.releases[proven[-1]] if proven else None
        is_known = newest is not None and found.is_like(newest)
        if self.wanted.canary:
            if is_known or found.is_like(self.find(self.wanted.canary)):
                return self.wanted
            raise errors.BadInput(
                f"release {self.wanted.canary} is a canary for {self.wanted.percent:g}% of the requests, and the code "
                "has changed since; first end it with: tenfold deploy --promote, or: tenfold deploy --rollback"
            )
        current = self._store.records.releases.get(self.wanted.current)
        if current is None or not self._is_there(current.version):
            return None
        if found.is_like(current) or (is_known and current.is_proven):
            return self.wanted
        return self.reached if is_known and self._is_there(self.reached.current) else None

    async def candidate(self, topology: tiers.Topology) -> engines.Release | None:
        """The release that the files ask for and that is not made yet, for a plan to look at; None: none is needed."""
        if await self.as_files_say(topology) is not None:
            return None
        return replace(settings.as_it_stands(topology, self._where.project), version=self._next_version())

    # Making and dropping

    async def make(self, topology: tiers.Topology, version: str = "") -> str:
        """Copy the code as it is now. On return the release is there and recorded; returns its version.

        Raises BadInput when the code cannot be read, or the version's name is taken or no good name for a folder.
        """
        name = version or self._next_version()
        self._ensure_free(name)
        stands = settings.as_it_stands(topology, self._where.project)
        files.make_private(self._where.releases)
        began = time.monotonic()
        copied = await _reading(partial(self._tree(topology, stands).copy, self._where.releases / name))
        known = self._store.records
        known.released += 1
        made = _record(stands, copied)
        made.version, made.former, made.made_at = name, self.reached.current, time.time()
        known.releases[name] = made
        self._store.save()
        text, seconds = f"release {name} is a copy of {stands.directory}", time.monotonic() - began
        self._journal.say("release_made", text, subject=name, seconds=seconds)
        return name

    def want(self, wanted: releases.Wanted) -> None:
        """Record which releases shall serve."""
        self._store.records.wanted_releases = wanted
        self._store.save()

    def settle(self) -> None:
        """What is wanted is reached."""
        known = self._store.records
        known.reached_releases = known.wanted_releases
        for version in (known.wanted_releases.current, known.wanted_releases.canary):
            if version in known.releases:
                known.releases[version].is_proven = True
        self._store.save()

    async def sweep(self, keep: int) -> None:
        """Drop releases that never served, and old ones; never one that is in use or that a rollback would take."""
        known = self._store.records
        processes = (one for server in known.servers.values() for one in server.processes.values())
        used = {one.release for one in processes if one.is_expected or one.is_alive}
        used |= {self.wanted.current, self.wanted.canary, self.reached.current, self.reached.canary}
        used |= {one.former for version in tuple(used) if (one := known.releases.get(version)) is not None}
        used |= set(self._proven()[-keep:])
        for version in [one for one in known.releases if one not in used]:
            del known.releases[version]
            self._journal.say("release_dropped", f"release {version} is dropped", subject=version)
        self._store.save()
        left = [one for one in self._where.releases.glob("*") if one.name not in known.releases]
        for folder in left:
            await asyncio.to_thread(files.remove_tree, folder)

    # Details

    def _proven(self) -> list[str]:
        """The releases that have served, the oldest first."""
        return [version for version, one in self._store.records.releases.items() if one.is_proven]

    def _is_there(self, version: str) -> bool:
        return bool(version) and (self._where.releases / version).is_dir()

    def _no_code(self, topology: tiers.Topology) -> tuple[Path, ...]:
        """The topology's file, and the certificate's: a renewed one makes no release, and no copy of its key."""
        return (self._where.topology.resolve(), *certificates.files_of(topology, self._where))

    def _tree(self, topology: tiers.Topology, stands: engines.Release) -> tree.Tree:
        if not stands.directory.is_dir():
            raise errors.BadInput(f"service.directory: {stands.directory} not found, the folder of the app expected")
        return tree.Tree(stands.directory, topology.deploy.exclude, besides=self._no_code(topology))

    def _next_version(self) -> str:
        number = self._store.records.released + 1
        while str(number) in self._store.records.releases:
            number += 1
        return str(number)

    def _ensure_free(self, version: str) -> None:
        if not VERSION.fullmatch(version):
            form = "letters, digits and . _ + -, at most 64, beginning with a letter or digit"
            raise errors.BadInput(f"--version: {version!r} found, a name for a folder expected: {form}")
        if version in self._store.records.releases:
            raise errors.BadInput(
                f"--version: release {version} exists already; choose another name, or go back to it with: "
                f"tenfold deploy --rollback --to {version}"
            )


async def _reading(act: Callable[[], str]) -> str:
    """Walk through the code, in a thread: it may be large. Raises BadInput, naming a file that cannot be read."""
    try:
        return await asyncio.to_thread(act)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise errors.BadInput(
            f"{error.filename}: cannot be made part of a release ({error.strerror}); let it be read, "
            "or leave it out with [deploy] exclude"
        ) from error


def _record(stands: engines.Release, fingerprint: str) -> records.ReleaseRecord:
    return records.ReleaseRecord(
        version="",
        former="",
        fingerprint=fingerprint,
        app=stands.app,
        factory=stands.factory,
        groups=dict(stands.groups),
        python=stands.python,
        env=dict(stands.env),
    )
