"""A set of processes that live and die together, as those of one machine do.

Called by `runtime/supervise`, one enclosure a server. A process group is not enough: PostgreSQL's backends are
sessions of their own and outlive a killed postmaster by seconds. A PID namespace is: killing its PID 1 ends everything
inside at once (pid_namespaces(7)), and inside a user namespace a root caller is not root, which PostgreSQL demands.
Where namespaces are forbidden, every process carries a marker in its environment and is hunted by it.
"""

import asyncio
import os
import signal
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenfold.kit import clock, process

MARKER = "TENFOLD_ENCLOSURE"
"""The environment variable that marks the processes of one enclosure."""

NAME = "TENFOLD_PROCESS"
"""The environment variable that names a process within its enclosure; its children inherit it."""

_INIT = "trap : TERM INT HUP; while :; do sleep 2147483647 & wait; done"
"""PID 1 of a namespace: collects orphans (a shell waits for all children) and costs a megabyte."""

_START_SECONDS = 5.0


class EnclosureError(Exception):
    """The kernel did not give a namespace, or a program did not start; the message says what was tried."""


@dataclass(frozen=True, slots=True)
class Enclosure:
    """One machine's worth of processes. Survives whoever made it; kept by `marker` and `init` alone."""

    marker: str
    init: process.Identity | None
    """PID 1 as seen from outside; None where namespaces are forbidden."""

    @property
    def is_alive(self) -> bool:
        """Whether it has power; not if its first process is dying. Without namespaces: whether any marked one runs."""
        if self.init is None:
            return bool(_marked(self.marker))
        return self.init.is_alive and not self.init.is_ending

    async def spawn(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str], log: Path, directory: Path
    ) -> process.Identity:
        """Start a detached program inside and return its identity, as seen from outside.

        Raises EnclosureError when the program could not be started or ended at once.
        """
        marked = {**env, MARKER: self.marker, NAME: name}
        if self.init is None:
            started = process.Detached.start(argv, log=log, env=marked, directory=directory)
            return _known(started.pid, argv)
        started = process.Detached.start([*_enter(self.init.pid), *argv], log=log, env=marked, directory=directory)
        return await _first_child(started.pid, argv)

    async def run(
        self, argv: Sequence[str], *, env: Mapping[str, str], directory: Path, timeout_seconds: float
    ) -> process.Finished:
        """Run a one-shot program inside, to its end."""
        entered = [*_enter(self.init.pid), *argv] if self.init else list(argv)
        return await process.run(
            entered, env={**env, MARKER: self.marker}, directory=directory, timeout_seconds=timeout_seconds
        )

    def find(self, name: str, argv: Sequence[str] = ()) -> process.Identity | None:
        """The process that was spawned under this name and still runs; `argv` is what it was spawned with.

        Its children inherit the name, and may outlive it: a PostgreSQL that Patroni started is not Patroni.
        """
        named = [one for one, variables in _marked(self.marker) if f"{NAME}={name}".encode() in variables]
        found = [one for one in named if self._is_spawned(one.pid, argv)]
        return min(found, key=lambda one: one.started, default=None)

    def _is_spawned(self, pid: int, argv: Sequence[str]) -> bool:
        """Inside a namespace only what we spawned has a parent outside; elsewhere the command line must do."""
        if self.init is None:
            return _arguments(pid)[len(_arguments(pid)) - len(argv[1:]) :] == list(argv[1:])
        inside = _namespace(self.init.pid)
        return _namespace(pid) == inside != _namespace(process.parent(pid))

    def outside(self, inner_pid: int) -> process.Identity | None:
        """The process that calls itself `inner_pid` inside, as seen from outside."""
        if self.init is None:
            return process.identify(inner_pid)
        namespace = _namespace(self.init.pid)
        for entry in Path("/proc").iterdir():
            is_inside = entry.name.isdecimal() and _namespace(int(entry.name)) == namespace != ""
            if is_inside and _inner_pid(int(entry.name)) == inner_pid:
                return process.identify(int(entry.name))
        return None

    async def cut(self, seconds: float = 5.0) -> bool:
        """A power cut: SIGKILL to everything inside. True when nothing is left, which is the proof of fencing."""
        if self.init is not None:
            process.send(self.init, signal.SIGKILL)
            self._thaw()
            return await process.gone(self.init, seconds)

        async def hunt() -> bool:
            found = _marked(self.marker)
            for identity, _ in found:
                process.send(identity, signal.SIGKILL)
            return not found and not _marked(self.marker)  # two scans: a fork may hide from one

        return bool(await clock.until(hunt, seconds=seconds, pause_seconds=0.02))

    def _thaw(self) -> None:
        """Nsenter stops itself when its child is stopped (SIGSTOP, a debugger) and stays so when that goes on: it would
        never collect its dead child, and PID 1 waits in the kernel until everybody inside is collected."""
        for identity, _ in _marked(self.marker):
            process.send(identity, signal.SIGCONT)


def new_marker() -> str:
    """A marker for an enclosure that is about to be made: record it first, and a crash in between leaves a trace."""
    return uuid.uuid4().hex


async def make(marker: str, log: Path) -> Enclosure:
    """A new enclosure with power: a PID namespace where the kernel gives one, else the marker alone.

    What an earlier, unfinished call with this marker left behind is killed first.
    """
    await Enclosure(marker, None).cut()
    if not await namespaces_work():
        return Enclosure(marker, None)
    argv = [*unshare(), "sh", "-c", _INIT]
    started = process.Detached.start(argv, log=log, env={MARKER: marker})
    return Enclosure(marker, await _first_child(started.pid, argv))


_works: bool | None = None


async def namespaces_work() -> bool:
    """Whether this kernel and container give unprivileged user and PID namespaces. Asked once."""
    global _works  # noqa: PLW0603 - a fact about the machine, the same for every caller
    if _works is None:
        try:
            _works = (await process.run([*unshare(), "true"], timeout_seconds=10)).code == 0
        except FileNotFoundError:
            _works = False
    return _works


def unshare() -> list[str]:
    """What starts a program in namespaces of its own, with little left to kill but itself.

    Root is mapped to an ordinary user, anyone else to themselves: files keep their owner either way.
    System V shared memory goes with its namespace: each PostgreSQL holds a segment, a power cut would leave it to the
    machine for good, and a machine has 4,096 (shmget(2), SHMMNI).
    """
    user = ["--map-user=1000", "--map-group=1000"] if os.getuid() == 0 else ["--map-current-user"]
    return ["unshare", "--user", *user, "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]


def _enter(pid: int) -> list[str]:
    # Another mount namespace begins at its root: `--wd=.` goes back to the directory that the program is started in.
    return ["nsenter", "-t", str(pid), "-U", "-m", "-i", "-p", "--wd=.", "--preserve-credentials", "--"]


async def _first_child(parent: int, argv: Sequence[str]) -> process.Identity:
    """The child that unshare or nsenter forks; they wait for it, so it is theirs as long as it runs."""

    async def look() -> process.Identity | None:
        process.Detached.reap()
        for pid in process.children(parent):
            return process.identify(pid)
        if process.identify(parent) is None:
            raise EnclosureError(f"{_program(argv)}: ended at once")
        return None

    found = await clock.until(look, seconds=_START_SECONDS, pause_seconds=0.002)
    if found is None:
        raise EnclosureError(f"{_program(argv)}: did not start within {_START_SECONDS:g} s")
    await asyncio.sleep(0)
    return found


def _known(pid: int, argv: Sequence[str]) -> process.Identity:
    identity = process.identify(pid)
    if identity is None:
        raise EnclosureError(f"{_program(argv)}: ended at once")
    return identity


def _program(argv: Sequence[str]) -> str:
    return next((word for word in argv if word.startswith("/")), argv[0])


def _arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _inner_pid(pid: int) -> int:
    """The last number of NSpid: the pid in the innermost namespace (proc(5))."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[-1]) for line in lines if line.startswith("NSpid:")), 0)


def _marked(marker: str) -> tuple[tuple[process.Identity, list[bytes]], ...]:
    """The processes that carry the marker, each with its environment."""
    wanted = f"{MARKER}={marker}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in variables and (identity := process.identify(int(entry.name))):
            found.append((identity, variables))
    return tuple(found)
