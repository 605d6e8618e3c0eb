"""The app's process as `tenfold dev` sees it: started, ready or failed, replaced by a newer one.

Owned by `session`. One at a time: a second copy of an app would meet the first in its lifespan. It knows nothing of
files and databases.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

from tenfold.kit import process

ENTRY = "tenfold.runtime.develop.app"

GRACE_SECONDS = 2.0
"""Between asking it to end and SIGKILL: a debugger's prompt or a busy loop hears nothing."""


class Phase(StrEnum):
    """How far the process is."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"


class Report(msgspec.Struct):
    """What the process says of itself, once."""

    state: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """How the process is started."""

    interpreter: str
    env: Mapping[str, str]
    directory: Path


class Web:
    """At most one process of the app. `said` is called when it became ready, or failed, with the seconds it took."""

    def __init__(self, sockets: Path, listen: str, said: Callable[["Web", float], None], *, colours: bool) -> None:
        self._sockets = sockets
        self._listen = listen
        self._said = said
        self._colours = colours
        self._running: _Running | None = None
        self._number = 0
        self._turned = asyncio.Event()
        self.phase = Phase.STARTING
        self.message = ""
        """Why it failed."""
        self.has_said_why = False
        """Whether the process has told the terminal itself."""

    @property
    def socket(self) -> Path:
        """Where the newest process serves."""
        return self._sockets / f"dev-{os.getpid()}-{self._number}.sock"

    async def settled(self) -> Phase:
        """READY or FAILED, as soon as it is one of them."""
        while self.phase is Phase.STARTING:
            await self._turned.wait()
        return self.phase

    def wait(self) -> None:
        """From now on whoever asks waits for the next process."""
        self._turn(Phase.STARTING)

    def fail(self, message: str) -> None:
        """There will be none until something changes."""
        self._turn(Phase.FAILED, message)

    async def start(self, how: Start) -> None:
        """Start a process, in the place of the one before, which has ended first. Returns before it is ready."""
        await self.stop()
        self._number += 1
        self.wait()
        began = time.monotonic()
        reading, writing = os.pipe()
        try:
            child = await process.attached(
                self._argv(how.interpreter, writing), env=how.env, directory=how.directory, keep=(writing,)
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        watching = asyncio.create_task(self._watch(child, reading, began), name="tenfold-dev-web")
        self._running = _Running(child, watching)

    async def stop(self) -> None:
        """Ask, wait, kill. On return no process of the app is left. Twice is once."""
        running, self._running = self._running, None
        if running is not None:
            running.watching.cancel()
            with suppress(asyncio.CancelledError):
                await running.watching
            await _end(running.child)
            self.socket.unlink(missing_ok=True)

    def _argv(self, interpreter: str, report: int) -> Sequence[str]:
        return (
            *(interpreter, "-m", ENTRY, "--report", str(report), "--parent", str(os.getpid())),
            *("--socket", str(self.socket), "--listen", self._listen, *(["--colours"] if self._colours else [])),
        )

    async def _watch(self, child: asyncio.subprocess.Process, reading: int, began: float) -> None:
        """Until it has ended: hear whether it is ready, and what it ended with."""
        report = await _report(reading)
        if report is not None and report.state == "ready":
            self._turn(Phase.READY)
            self._said(self, time.monotonic() - began)
        code = await child.wait()
        what = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        self.has_said_why = report is not None and report.state == "failed"
        self._turn(Phase.FAILED, report.message if report and self.has_said_why else f"the app's process {what}")
        self._said(self, time.monotonic() - began)

    def _turn(self, phase: Phase, message: str = "") -> None:
        self.phase = phase
        self.message = message
        self._turned.set()
        self._turned = asyncio.Event()


@dataclass(frozen=True, slots=True)
class _Running:
    child: asyncio.subprocess.Process
    watching: "asyncio.Task[None]"


async def _report(reading: int) -> Report | None:
    """The line that the process writes; None when it ends without a word."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb")
    )
    try:
        line = await reader.readline()
        return msgspec.json.decode(line, type=Report) if line else None
    except (msgspec.DecodeError, ValueError):
        return None
    finally:
        transport.close()


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    with suppress(ProcessLookupError):
        child.terminate()
    try:
        async with asyncio.timeout(GRACE_SECONDS):
            await child.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()
