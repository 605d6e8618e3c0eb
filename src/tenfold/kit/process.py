"""The one place that spawns. Processes are known by pid *and* start time, so that a reused pid is never taken for one.

Called by `runtime/supervise`, by one-shot programs of the runtime, and by the CLI. It decides nothing: no restarts, no
backoff. Long-lived processes are detached (own session, output appended to a file): they outlive whoever started them.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tenfold.kit import clock


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that cannot be mistaken: its pid and its start time in clock ticks since boot (proc(5), field 22)."""

    pid: int
    started: int

    @property
    def is_alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        seen = _stat(self.pid)
        return seen is not None and seen.started == self.started and seen.state not in "ZX"

    @property
    def is_ending(self) -> bool:
        """Whether it is dying and not dead yet: the first process of a PID namespace waits there for all the others."""
        seen = _stat(self.pid)
        return seen is not None and seen.started == self.started and bool(seen.flags & _EXITING)


@dataclass(frozen=True, slots=True)
class Finished:
    """How a one-shot program ended, with its output and errors in one text."""

    code: int
    output: str


def identify(pid: int) -> Identity | None:
    """The identity of a running process, or None when there is none."""
    seen = _stat(pid)
    return None if seen is None or seen.state in "ZX" else Identity(pid, seen.started)


def parent(pid: int) -> int:
    """Who started it, or took it over; 0 when it is gone."""
    seen = _stat(pid)
    return 0 if seen is None else seen.parent


def children(pid: int) -> tuple[int, ...]:
    """The direct children of a process: from the kernel's own lists (CONFIG_PROC_CHILDREN), else by a scan."""
    try:
        lists = [_read(f"/proc/{pid}/task/{task}/children").split() for task in os.listdir(f"/proc/{pid}/task")]
        return tuple(sorted(int(one) for each in lists for one in each))
    except (FileNotFoundError, ProcessLookupError):
        numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
        return tuple(sorted(one for one in numbers if (seen := _stat(one)) is not None and seen.parent == pid))


def descendants(pid: int) -> tuple[int, ...]:
    """Its children, theirs, and so on; the nearest first."""
    found = list(children(pid))
    for one in found:
        found += children(one)
    return tuple(found)


def cpu_seconds(pid: int) -> float:
    """The processor time that it has used, its children's left out; 0 when it is gone."""
    seen = _stat(pid)
    return seen.ticks / _TICKS_PER_SECOND if seen else 0.0


def program(pid: int) -> str:
    """The name of what it runs, at most 15 characters (proc(5), comm); empty when it is gone."""
    try:
        return _read(f"/proc/{pid}/comm").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_stopped(identity: Identity) -> bool:
    """Whether a signal (SIGSTOP) has stopped this very process."""
    seen = _stat(identity.pid)
    return seen is not None and seen.started == identity.started and seen.state == "T"


async def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    directory: Path | None = None,
    timeout_seconds: float = 60.0,
) -> Finished:
    """Run a program to its end. `env` is added to PATH, HOME and LANG.

    Killed with its process group when it takes longer (code -9) or when the caller is cancelled.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=environment(env or {}),
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), timeout_seconds)
    except TimeoutError:
        return Finished(-signal.SIGKILL, f"{argv[0]} did not end within {timeout_seconds:g} s")
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return Finished(process.returncode or 0, output.decode(errors="replace"))


async def attached(
    argv: Sequence[str], *, env: Mapping[str, str], directory: Path, keep: Sequence[int] = ()
) -> asyncio.subprocess.Process:
    """Start a program on our own terminal: it reads our input, and Ctrl-C reaches it as it reaches us.

    `env` is its whole environment; it inherits the descriptors in `keep`. Whoever starts it ends it.
    """
    return await asyncio.create_subprocess_exec(*argv, env=dict(env), cwd=directory, pass_fds=tuple(keep))


def environment(added: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program: PATH, HOME and LANG of ours, and what is added."""
    kept = {name: value for name in ("PATH", "HOME", "LANG") if (value := os.environ.get(name)) is not None}
    return {"LANG": "C.UTF-8", **kept, **added}


Child = subprocess.Popen[bytes]
"""A child of ours that is waited for."""


def start_held(
    argv: Sequence[str], *, stdin: int, log: Path, env: Mapping[str, str], directory: Path, keep: Sequence[int] = ()
) -> Child:
    """Start a program that reads from `stdin`, the end of a pipe by which it hears of our end (see kit/tether).

    In a session of its own, its output appended to `log`; it inherits the descriptors in `keep`.
    """
    with log.open("ab") as output:
        started = subprocess.Popen(
            list(argv),
            env=environment(env),
            cwd=directory,
            stdin=stdin,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=keep,
        )
    Detached.add(started)  # whoever lets go of it before its end leaves it to `reap`
    return started


class Detached:
    """A started process that outlives us. Its first child is reaped by `reap()` while we live."""

    _started: "list[subprocess.Popen[bytes]]" = []  # noqa: RUF012 - one list a process: who we must reap

    @classmethod
    def start(
        cls, argv: Sequence[str], *, log: Path, env: Mapping[str, str], directory: Path | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start a program in a session of its own, its output appended to `log`, and do not wait for it."""
        with log.open("ab") as output:
            started = subprocess.Popen(
                list(argv),
                env=environment(env),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        cls.add(started)
        return started

    @classmethod
    def add(cls, started: "subprocess.Popen[bytes]") -> None:
        """One more to reap."""
        cls._started.append(started)

    @classmethod
    def reap(cls) -> None:
        """Collect those that have ended, so that none stays a zombie."""
        cls._started[:] = [one for one in cls._started if one.poll() is None]


def send(identity: Identity, number: signal.Signals) -> bool:
    """Send a signal to this very process; False when it is gone."""
    if not identity.is_alive:
        return False
    with suppress(ProcessLookupError):
        os.kill(identity.pid, number)
        return True
    return False


async def gone(identity: Identity, seconds: float) -> bool:
    """True as soon as the process is gone, False when it still runs after `seconds`."""

    async def look() -> bool:
        Detached.reap()
        return not identity.is_alive

    return bool(await clock.until(look, seconds=seconds, pause_seconds=0.02))


async def stop(identity: Identity, number: signal.Signals, grace_seconds: float) -> bool:
    """Ask, wait, kill, wait. True when it is gone; False only if even SIGKILL did not end it within 5 s."""
    send(identity, number)
    if await gone(identity, grace_seconds):
        return True
    send(identity, signal.SIGKILL)
    return await gone(identity, 5.0)


READ_BYTES = 4096

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

_EXITING = 0x4
"""PF_EXITING in the kernel's include/linux/sched.h."""


@dataclass(frozen=True, slots=True)
class _Stat:
    state: str
    parent: int
    flags: int
    ticks: int
    """Of processor time, in user mode and in the kernel."""
    started: int


def _stat(pid: int) -> _Stat | None:
    """Fields of /proc/PID/stat; the command, in parentheses, may hold blanks and parentheses itself (proc(5))."""
    try:
        text = _read(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    return _Stat(fields[0].decode(), int(fields[1]), int(fields[6]), int(fields[11]) + int(fields[12]), int(fields[19]))


def _read(path: str) -> bytes:
    """A small file of the kernel's, with as few calls as there can be: the control loop reads hundreds in a second."""
    handle = os.open(path, os.O_RDONLY)
    try:
        found = os.read(handle, READ_BYTES)
        while len(found) % READ_BYTES == 0 and (more := os.read(handle, READ_BYTES)):
            found += more
        return found
    finally:
        os.close(handle)
