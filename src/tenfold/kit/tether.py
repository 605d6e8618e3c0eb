"""A program that cannot outlive its owner: not when the owner is killed, nor when the owner's thread ends.

Called by `runtime/lone_database`. The owner holds one end of a pipe, a shell beside the program the other; the kernel
closes ours however we end (a signal that asks for a parent's death, PR_SET_PDEATHSIG, would fire when the *thread* that
started the program ends, and not for a program that changes its user). In a PID namespace everything inside ends with
the shell; where there are none, the program gets SIGQUIT, which PostgreSQL and its backends obey at once.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGQUIT, Signals

from tenfold.kit import clock, enclosure, process

_SCRIPT = """
asked=$1 orphaned=$2
shift 2
exec 3<&0
"$@" 3<&- </dev/null &
program=$!
{ read -r _ && kill -"$asked" "$program" && while read -r _; do :; done
  kill -"$orphaned" "$program"; sleep 2; kill -9 "$program"; } <&3 2>/dev/null &
reader=$!
exec 3<&-
wait "$program"
code=$?
kill -9 "$reader"
exit "$code"
"""
"""A line on the pipe asks the program to stop, the pipe's end kills it. The shell ends with the program's own code."""

_PAUSE_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Line:
    """The pipe that holds a program: it lives as long as anybody has the near end."""

    far: int
    """What the program reads from."""
    near: int
    """What the owner keeps open."""

    @classmethod
    def make(cls) -> "Line":
        """For one owner."""
        return cls(*os.pipe())

    @classmethod
    def at(cls, path: Path) -> "Line":
        """For several owners, who `join`: a named pipe."""
        with suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        far = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        near = os.open(path, os.O_WRONLY)
        os.set_blocking(far, True)
        return cls(far, near)


def join(path: Path) -> int | None:
    """The near end of the named pipe of a program that runs, for one more owner; None when there is none."""
    try:
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except (FileNotFoundError, OSError):  # ENXIO: nobody reads
        return None


@dataclass(slots=True)
class Tether:
    """One program and our end of the line that holds it. Inside, an ordinary user: PostgreSQL refuses root."""

    _shell: process.Child
    _near: int

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str],
        directory: Path,
        keep: Sequence[int] = (),
        stop_signal: Signals = SIGINT,
        line: Line | None = None,
    ) -> "Tether":
        """Start the program, output appended to `log`. It and its children inherit the descriptors in `keep`: a lock
        on one of them is held for exactly as long as any of them lives."""
        has_namespaces = await enclosure.namespaces_work()
        orphaned = SIGKILL if has_namespaces else SIGQUIT
        shell = ["sh", "-c", _SCRIPT, "sh", str(int(stop_signal)), str(int(orphaned)), *argv]
        command = [*enclosure.unshare(), *shell] if has_namespaces else shell
        line = line or Line.make()
        try:
            child = process.start_held(command, stdin=line.far, log=log, env=env, directory=directory, keep=keep)
        except BaseException:
            os.close(line.near)
            raise
        finally:
            os.close(line.far)
        return cls(child, line.near)

    @property
    def is_alive(self) -> bool:
        """Whether the program still runs."""
        return self._shell.poll() is None

    async def ended(self, seconds: float) -> int | None:
        """The program's exit code, or None when it still runs after `seconds`."""

        async def look() -> bool:
            return not self.is_alive

        await clock.until(look, seconds=seconds, pause_seconds=_PAUSE_SECONDS)
        return self._shell.poll()

    async def stop(self, grace_seconds: float) -> None:
        """Ask, wait, cut. Twice is once."""
        try:
            if self._near >= 0:
                with suppress(BrokenPipeError):  # it has ended by itself
                    os.write(self._near, b"stop\n")
                await self.ended(grace_seconds)
        finally:
            await self.cut()

    async def cut(self) -> None:
        """Kill it, unless somebody else holds it too: nothing of it is left on return. Twice is once."""
        self.let_go()
        if await self.ended(10.0) is None:
            self._shell.kill()
            await self.ended(5.0)

    def let_go(self) -> None:
        """What our own end would do: it dies by itself now, if nobody else holds it, and nobody waits for that."""
        if self._near >= 0:
            os.close(self._near)
            self._near = -1
