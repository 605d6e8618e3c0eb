"""Where a service keeps its state: `.tenfold/` beside tenfold.toml, 0700.

.tenfold/
  state.json       what the runtime remembers: network, servers, processes, the topology last applied
  secrets.json     generated passwords, 0600 (of both there is a .copy)
  applied.toml     tenfold.toml as it was applied last
  bindings.json    what apps are told, 0600
  events.jsonl     what happened, one line each
  runtime.log      the detached runtime's own output
  tls/             the certificate that the front door serves, with its key, 0600
  run/             control socket, lock, engines' sockets
  releases/VERSION/  the code of one release
  servers/NAME/    data/ config/ log/ run/ of one server
  dev/             the database, bindings and record of `tenfold dev`
"""

from dataclasses import dataclass
from pathlib import Path

from tenfold.kit import files


@dataclass(frozen=True, slots=True)
class Paths:
    """All paths of one service. `topology` is its tenfold.toml."""

    topology: Path

    @property
    def project(self) -> Path:
        """The folder of tenfold.toml."""
        return self.topology.parent

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.project / ".tenfold"

    @property
    def records(self) -> Path:
        """What the runtime remembers."""
        return self.state / "state.json"

    @property
    def applied(self) -> Path:
        """tenfold.toml as it was applied last, for a person."""
        return self.state / "applied.toml"

    @property
    def secrets(self) -> Path:
        """Generated passwords."""
        return self.state / "secrets.json"

    @property
    def bindings(self) -> Path:
        """What apps are told."""
        return self.state / "bindings.json"

    @property
    def tls(self) -> Path:
        """Checked copies of the front door's certificate, with their keys."""
        return self.state / "tls"

    @property
    def events(self) -> Path:
        """What happened."""
        return self.state / "events.jsonl"

    @property
    def dev(self) -> Path:
        """What `tenfold dev` keeps: nothing of the service's."""
        return self.state / "dev"

    @property
    def dev_bindings(self) -> Path:
        """What the app is told under `tenfold dev`."""
        return self.dev / "bindings.json"

    @property
    def log(self) -> Path:
        """The detached runtime's own output."""
        return self.state / "runtime.log"

    @property
    def run(self) -> Path:
        """Sockets and the lock; elsewhere when the project's path is too long for a socket address."""
        return files.socket_folder(self.state / "run")

    @property
    def control(self) -> Path:
        """The control socket."""
        return self.run / "control.sock"

    @property
    def lock(self) -> Path:
        """Held by the one runtime of this service."""
        return self.run / "lock"

    @property
    def releases(self) -> Path:
        """The folder of all releases."""
        return self.state / "releases"

    def server(self, name: str) -> Path:
        """One server's folder."""
        return self.state / "servers" / name

    def make(self) -> None:
        """Create the state folder and the sockets'. Raises PermissionError when one belongs to somebody else."""
        files.make_private(self.state)
        files.make_socket_folder(self.state / "run")


def find(start: Path, name: str = "tenfold.toml") -> Path | None:
    """The topology file in `start` or the nearest folder above it."""
    start = start.resolve()
    return next((folder / name for folder in (start, *start.parents) if (folder / name).is_file()), None)


def find_state(start: Path) -> Path | None:
    """Where the topology file was of a service that was started in `start` or the nearest folder above it."""
    start = start.resolve()
    places = (Paths(folder / "tenfold.toml") for folder in (start, *start.parents))
    return next((one.topology for one in places if one.records.is_file()), None)
