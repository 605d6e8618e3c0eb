"""What may be said about a granian: worked out from its seat, once, for `render` and `command`.

Pure but for the app's `env_file`, which is read here and nowhere else; its values are never logged.
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path

from tenfold import bindings, engines, errors
from tenfold.topology import layout, tiers

SHUTDOWN_SECONDS = 8.0
"""After open requests have had their time: how long streams that were cut, and the app's shutdown, get."""

MESSAGES_SECONDS = 30.0
"""How long the messages that a stopping worker has begun may take at most; what is left is given back to others."""

WORKER = "worker"
"""The engine, and the role, of a server that handles messages and no requests."""

RESERVED = "TENFOLD_"
"""Environment variables with this beginning are the runtime's."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One web server's or worker's settings."""

    role: str
    """`worker`, or empty: it serves requests."""
    address: str
    port: int
    app: str
    factory: str
    directory: Path
    interpreter: Path
    workers: int
    kill_seconds: int
    """After SIGTERM, when granian kills a worker that has not ended."""
    release: str
    """The version of the release that it runs; empty: the files as they stand."""
    env: dict[str, str]
    database_url: str
    """For code that does not use the SDK. The app's own `DATABASE_URL` in `env` wins over it."""

    def __repr__(self) -> str:
        return f"Settings({self.address}:{self.port}, {self.app or self.factory})"


def settings(seat: engines.Seat) -> Settings:
    """The settings of this seat's process. Raises BadInput when the `env_file` cannot be used."""
    is_worker = seat.process.engine == WORKER
    group = seat.topology.web_groups.get(seat.process.group)
    release = seat.release or as_it_stands(seat.topology, seat.project)
    app, factory = _app(release, seat.process.group, group)
    last_seconds = MESSAGES_SECONDS if is_worker else seat.topology.service.request_seconds
    return Settings(
        role=WORKER if is_worker else "",
        address=seat.address,
        port=seat.process.port,
        app=app,
        factory=factory,
        directory=release.directory,
        workers=_processes(seat.topology) if is_worker else (group or seat.topology.web).workers_per_server,
        kill_seconds=math.ceil(last_seconds + SHUTDOWN_SECONDS),
        release=release.version,
        interpreter=interpreter(seat.project, release.python),
        env=dict(release.env),
        database_url=database_url(seat),
    )


def database_url(seat: engines.Seat) -> str:
    """Names every address that the database may ever have: a process keeps its environment while the service grows."""
    name = seat.topology.service.name
    hosts = layout.database_addresses(seat.topology, seat.network, seat.server.region)
    return bindings.database_url(hosts, name, seat.secrets.app, name, seat.topology.database.url_scheme)


def as_it_stands(topology: tiers.Topology, project: Path) -> engines.Release:
    """What the project would run at this moment: its files, its variables. Raises BadInput, see `variables`."""
    service = topology.service
    return engines.Release(
        version="",
        directory=(project / service.directory).resolve(),
        app=service.app,
        factory=service.factory,
        groups={name: (group.app, group.factory) for name, group in topology.web_groups.items()},
        python=str(interpreter(project, service.python)) if service.python else "",
        env=variables(project, service),
    )


def variables(project: Path, service: tiers.Service) -> dict[str, str]:
    """The app's variables: the `env_file`'s, and over them those of `env`."""
    found = read_env_file(project / service.env_file) if service.env_file else {}
    merged = {**found, **service.env}
    reserved = sorted(name for name in merged if name.startswith(RESERVED))
    if reserved:
        raise errors.BadInput(
            f"service.env: {', '.join(reserved)} found, names that do not begin with {RESERVED} expected; rename them"
        )
    return merged


def _processes(topology: tiers.Topology) -> int:
    """One for a worker that is about to leave: the topology says nothing of it any more."""
    return topology.workers.processes if topology.workers else 1


def _app(release: engines.Release, name: str, group: tiers.WebGroup | None) -> tuple[str, str]:
    """The app and factory of a group; a group that came after the release is known from the topology alone."""
    own = release.groups.get(name, (group.app, group.factory) if group else ("", ""))
    return own if any(own) else (release.app, release.factory)


def interpreter(project: Path, python: str) -> Path:
    """The app's interpreter: `service.python`, relative to the project, a program or a virtual environment's folder;
    empty: the one that runs tenfold. Links are kept: an environment is known by the name that it is called by.
    """
    if not python:
        return Path(sys.executable)
    path = project / Path(python).expanduser()
    return path / "bin" / "python" if path.is_dir() else path


def read_env_file(path: Path) -> dict[str, str]:
    """NAME=value lines; blank lines and # comments are skipped, `export` and quotes around a value are taken off."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise errors.BadInput(f"service.env_file: {path} cannot be read ({error.strerror})") from error
    found = {}
    for number, line in enumerate(lines, 1):
        text = line.strip().removeprefix("export ").strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier():
            raise errors.BadInput(
                f"{path}:{number}: no NAME=value found; write one on each line, or # before a comment"
            )
        found[name.strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    is_quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if is_quoted else value
