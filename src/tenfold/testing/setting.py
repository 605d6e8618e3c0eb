"""What the tests of this process find in their environment, before anything runs: names and addresses, no more.

Made by `plugin` when pytest starts, where there is a project. An app that reads `DATABASE_URL` when it is imported gets
the same value for the whole run: the address is a `wire`'s, of a socket that is bound now and answers once a test asks
for a database. Never starts anything.
"""

import os
import socket
import sys
import tempfile
import uuid
from pathlib import Path

import pytest

from tenfold.testing import project

MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of ours is made in it, private
LEAST_MEMORY_BYTES = 1024**3
"""A file system in memory that is smaller than this (a container's 64 MiB, say) is left alone."""

BINDINGS = "TENFOLD_BINDINGS"
URL = "DATABASE_URL"


class Setting:
    """One process's part of a test run."""

    def __init__(self, found: project.Project, run: str, worker: str) -> None:
        self.project = found
        self.run = run
        """What all workers of a run share; also the password of the app's role."""
        self.worker = worker
        """`gw0`, ... under pytest-xdist, else empty."""
        self.folder = fast_folder() / f"tenfold-tests-{os.getuid()}" / run[:16]
        self.door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        """Bound and not listening: connections are refused until a wire takes it over."""
        self.door.bind(("127.0.0.1", 0))
        self._patch = pytest.MonkeyPatch()

    @property
    def database(self) -> str:
        """The name of this process's database: the same in all of its tests."""
        return f"{self.project.name}_{self.worker}" if self.worker else self.project.name

    @property
    def bindings(self) -> Path:
        """What the app is told."""
        return self.folder / f"bindings-{self.worker or 'main'}.json"

    @property
    def url(self) -> str:
        """The database's address for code that does not use the SDK."""
        port = self.door.getsockname()[1]
        return f"postgresql://{self.project.name}:{self.run}@127.0.0.1:{port}/{self.database}"

    @property
    def app_url(self) -> str:
        """The same as the app's library wants it: `[database] url_scheme`."""
        return self.url.replace("postgresql", self.project.url_scheme, 1)

    def enter(self, *, may_replace_url: bool) -> None:
        """Put it all into the environment, and the app's folder where modules are looked for."""
        self._patch.setenv(BINDINGS, str(self.bindings))
        for name, value in project.environment(self.project).items():
            self._patch.setenv(name, value)
        if may_replace_url:
            self.replace_url()
        if str(self.project.directory) not in sys.path:
            self._patch.syspath_prepend(self.project.directory)

    def replace_url(self) -> None:
        """From now on `DATABASE_URL` is the tests'."""
        self._patch.setenv(URL, self.app_url)

    def leave(self) -> None:
        """Undo `enter`."""
        self._patch.undo()
        self.door.close()


def new_run() -> str:
    """The id of a new run."""
    return uuid.uuid4().hex


def fast_folder() -> Path:
    """In memory where there is room, else where temporary files go: a database is 300 files, and each test has one."""
    try:
        seen = os.statvfs(MEMORY)
    except OSError:
        return Path(tempfile.gettempdir())
    is_large = seen.f_blocks * seen.f_frsize >= LEAST_MEMORY_BYTES
    return MEMORY if is_large and os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())
