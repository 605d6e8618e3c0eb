"""A program on a terminal of its own, as a person has it: what it prints, keys, Ctrl-C."""

import asyncio
import fcntl
import os
import pty
import signal
import subprocess
import termios
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tenfold.kit import clock

SECONDS = 40.0
"""The longest wait for a text: slow machines run these tests too."""

CTRL_C = "\x03"


class Terminal:
    """One program in the foreground of a pseudo-terminal."""

    def __init__(self, argv: list[str], folder: Path, env: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, False)
        self.text = ""
        self.process = subprocess.Popen(
            argv,
            cwd=folder,
            env={**os.environ, "TERM": "dumb", **env},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_the_terminal,  # noqa: PLW1509 - calls to the kernel, no lock is taken
        )
        os.close(slave)

    def look(self) -> str:
        """Everything that was printed until now, with plain line ends."""
        with suppress(BlockingIOError, OSError):
            while chunk := os.read(self._master, 65536):
                self.text += chunk.decode(errors="replace").replace("\r\n", "\n")
        return self.text

    async def until(self, wanted: str, *, after: int = 0) -> int:
        """Wait for a text; returns where it ends, for the next `after`."""

        async def is_there() -> bool:
            return wanted in self.look()[after:]

        assert await clock.until(is_there, seconds=SECONDS, pause_seconds=0.01), f"no {wanted!r} in:\n{self.text}"
        return self.text.index(wanted, after) + len(wanted)

    @property
    def echoes(self) -> bool:
        """Whether it shows what is typed."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    def type(self, keys: str) -> None:
        """As a person types."""
        os.write(self._master, keys.encode())

    async def ended(self) -> float:
        """Wait until the program has ended; the seconds that took."""
        began = time.monotonic()

        async def has_ended() -> bool:
            self.look()
            return self.process.poll() is not None

        assert await clock.until(has_ended, seconds=SECONDS, pause_seconds=0.01), self.text
        return time.monotonic() - began

    def close(self) -> None:
        """Kill what is left."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)


def _take_the_terminal() -> None:
    """Standard input is the terminal of the new session, and Ctrl-C is heard: background shells switch it off."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@asynccontextmanager
async def running(argv: list[str], folder: Path, **env: str) -> AsyncIterator[Terminal]:
    """The program, until the block ends."""
    made = await asyncio.to_thread(Terminal, argv, folder, env)
    try:
        yield made
    finally:
        await asyncio.to_thread(made.close)
