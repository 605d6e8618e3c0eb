"""What the runtime remembers across its own death: servers, their enclosures, processes and how each was started.

Owned by `runtime/supervise`. Saved before and after every act, atomically, so that a runtime killed at any moment
finds again what it started. Holds environments of processes: 0600, never logged.
"""

from pathlib import Path
from typing import Literal

import msgspec

from tenfold import errors
from tenfold.kit import enclosure as enclosures
from tenfold.kit import files, process
from tenfold.planning import releases as planned
from tenfold.topology import layout, nearest

Power = Literal["on", "off", "killed"]


class ProcessRecord(msgspec.Struct):
    """One process: how it was started, and which one it is."""

    name: str
    engine: str
    argv: tuple[str, ...]
    env: dict[str, str]
    directory: str
    stop_signal: int
    grace_seconds: float
    start_seconds: float
    pid_file: str = ""
    identity: process.Identity | None = None
    is_expected: bool = True
    """Whether it should run: the control loop starts it again when it does not."""
    was_ready: bool = False
    revision: str = ""
    release: str = ""
    """Of a web server, the release that it was started with."""
    restarts: int = 0
    next_start_at: float = 0.0
    """`time.time()` before which it is not started again."""

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.identity is not None and self.identity.is_alive


class ServerRecord(msgspec.Struct):
    """One server: what it was made for, its enclosure, and its processes by name."""

    spec: layout.Server
    power: Power = "off"
    marker: str = ""
    """The marker of the enclosure that was made last, recorded before it was."""
    enclosure: enclosures.Enclosure | None = None
    processes: dict[str, ProcessRecord] = msgspec.field(default_factory=dict)
    restarts: int = 0
    next_start_at: float = 0.0

    @property
    def is_alive(self) -> bool:
        """Whether it has power now."""
        return self.power == "on" and self.enclosure is not None and self.enclosure.is_alive


class ReleaseRecord(msgspec.Struct):
    """One release: the code in `releases/VERSION/`, and what it is started with."""

    version: str
    former: str
    """The release that served when it was made: what a rollback goes back to; empty: none did."""
    fingerprint: str
    app: str
    factory: str
    groups: dict[str, tuple[str, str]]
    python: str
    env: dict[str, str]
    made_at: float = 0.0
    is_proven: bool = False
    """Whether it has served: one that never did is dropped when it is no longer wanted."""

    def __repr__(self) -> str:
        return f"ReleaseRecord({self.version})"

    def is_like(self, other: "ReleaseRecord") -> bool:
        """Whether both run the same: a group of web servers that only one of them knows does not count."""
        shared = self.groups.keys() & other.groups.keys()
        return (self.fingerprint, self.app, self.factory, self.python, self.env) == (
            *(other.fingerprint, other.app, other.factory, other.python, other.env),
        ) and all(self.groups[name] == other.groups[name] for name in shared)


class Records(msgspec.Struct):
    """The whole file."""

    version: int = 1
    network: int = 0
    topology: str = ""
    """The text of the topology that is wanted: applied, or being applied."""
    applied: str = ""
    """The text of the topology that was reached last: what a change that fails goes back to."""
    decided: dict[str, int] = msgspec.field(default_factory=dict)
    """By tier (`web`, `workers`, `web_groups.NAME`), the number of servers that was decided on for a range."""
    releases: dict[str, ReleaseRecord] = msgspec.field(default_factory=dict)
    """By version, the oldest first."""
    released: int = 0
    """The number that the newest release got, or would have got."""
    wanted_releases: planned.Wanted = planned.NOTHING
    """Which releases shall serve."""
    reached_releases: planned.Wanted = planned.NOTHING
    """Those that served when a change ended well: what a change that fails goes back to."""
    servers: dict[str, ServerRecord] = msgspec.field(default_factory=dict)
    has_data: bool = False
    """Whether a database was ever initialised: then an empty folder is a loss, never a fresh start."""


class Store:
    """The records in memory and on disk."""

    def __init__(self, path: Path, records: Records) -> None:
        self._path = path
        self._written = b""
        self.records = records

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Read the file, or begin a new one. Raises RuntimeFailure when it cannot be understood."""
        if not path.exists():
            return cls(path, Records())
        try:
            return cls(path, msgspec.json.decode(path.read_bytes(), type=Records))
        except msgspec.DecodeError as error:
            raise errors.RuntimeFailure(
                f"{path}: {error}, a state file of version 1 expected; what runs keeps serving. "
                f"Put its copy back: cp {files.copy_of(path)} {path}"
            ) from error

    def save(self) -> None:
        """Write the file when something changed."""
        content = msgspec.json.encode(self.records)
        if content != self._written:
            files.write_twice(self._path, content)
            self._written = content

    def server(self, name: str) -> ServerRecord:
        """The record of this server. Raises BadInput when there is none."""
        record = self.records.servers.get(name)
        if record is None:
            names = sorted(self.records.servers)
            known = f"{', '.join(names) or 'none'}{nearest.hint(name, names)}"
            raise errors.BadInput(f"server {name}: not found; known servers: {known}")
        return record
