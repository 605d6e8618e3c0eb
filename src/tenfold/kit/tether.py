"""A program that cannot outlive its owner: not when the owner is killed, nor when the owner's thread ends.

Called by `runtime/lone_database`. The owner holds one end of a pipe, a shell beside the program the other; the kernel
closes ours however we end (a signal that asks for a parent's death, PR_SET_PDEATHSIG, would fire when the *thread* that
started the program ends, and not for a program that changes its user). In a PID namespace everything inside ends with
the shell; where there are none, the program gets SIGQUIT, which PostgreSQL and its backends obey at once.
"""

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
  kill -"$orphaned" "$program"; } <&3 2>/dev/null &
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
class Tether:
    """One program and the pipe that holds it. Inside, an ordinary user: PostgreSQL refuses root."""

    _shell: process.Piped

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
    ) -> "Tether":
        """Start the program, output appended to `log`. It and its children inherit the descriptors in `keep`: a lock
        on one of them is held for exactly as long as any of them lives."""
        has_namespaces = await enclosure.namespaces_work()
        orphaned = SIGKILL if has_namespaces else SIGQUIT
        shell = ["sh", "-c", _SCRIPT, "sh", str(int(stop_signal)), str(int(orphaned)), *argv]
        command = [*enclosure.unshare(), *shell] if has_namespaces else shell
        return cls(process.start_on_a_pipe(command, log=log, env=env, directory=directory, keep=keep))

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
        pipe = self._shell.stdin
        assert pipe is not None
        try:
            if not pipe.closed:
                with suppress(BrokenPipeError):  # it has ended by itself
                    pipe.write(b"stop\n")
                    pipe.flush()
                await self.ended(grace_seconds)
        finally:
            await self.cut()

    async def cut(self) -> None:
        """Kill it: nothing of it is left on return. Twice is once."""
        self.let_go()
        if await self.ended(10.0) is None:
            self._shell.kill()
            await self.ended(5.0)

    def let_go(self) -> None:
        """What our own end would do: it dies by itself now, and nobody waits for it."""
        pipe = self._shell.stdin
        assert pipe is not None
        with suppress(BrokenPipeError):
            pipe.close()
