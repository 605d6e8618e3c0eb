"""The app's process as `tenfold dev` sees it: started, ready or failed, replaced by a newer one.

Owned by `session`. One at a time: a second copy of an app would meet the first in its lifespan. But the next one is
made in advance, so that at a change it has its libraries and loads the app alone. Nothing here knows of files that
change, nor of databases.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from tenfold.kit import process
from tenfold.runtime.develop import terminal

ENTRY = "tenfold.runtime.develop.app"

GRACE_SECONDS = 2.0
"""Between asking it to end and SIGKILL: a debugger's prompt or a busy loop hears nothing."""


SPARE_AFTER_SECONDS = 0.3
"""After the app has become ready, when its successor is made: the first requests come first."""

MOST_BYTES = 1024 * 1024


class Phase(StrEnum):
    """How far the process is."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"


class Report(msgspec.Struct):
    """What the process says of itself, once."""

    state: str
    message: str = ""
    loaded: list[str] = []
    """Libraries that the next process may load before its turn."""


@dataclass(frozen=True, slots=True)
class Start:
    """How the process is started."""

    interpreter: str
    env: Mapping[str, str]
    directory: Path


class Web:
    """At most one process of the app, and a spare one that waits for its turn.

    `said` is called when the app became ready, or failed, with the seconds it took.
    """

    def __init__(self, sockets: Path, listen: str, said: Callable[["Web", float], None], *, colours: bool) -> None:
        self._sockets = sockets
        self._listen = listen
        self._said = said
        self._colours = colours
        self._running: _Process | None = None
        self._spare: _Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._number = 0
        self._restore_terminal = terminal.remembered()
        self._turned = asyncio.Event()
        self.phase = Phase.STARTING
        self.message = ""
        """Why it failed."""
        self.has_said_why = False
        """Whether the process has told the terminal itself."""

    @property
    def socket(self) -> Path:
        """Where the newest process serves."""
        assert self._running is not None
        return self._running.socket

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
        self.wait()
        began = time.monotonic()
        spare, self._spare = self._spare, None
        if spare is not None and (spare.how != how or spare.child.returncode is not None):
            await spare.end()
            spare = None
        self._running = spare or await self._spawn(how)
        self._running.say({"turn": True})
        self._watching = asyncio.create_task(self._watch(self._running, began), name="tenfold-dev-web")

    async def stop(self) -> None:
        """Ask, wait, kill. On return no process of the app is left but the spare. Twice is once."""
        watching, self._watching = self._watching, None
        running, self._running = self._running, None
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        if running is not None:
            await running.end()
            self._restore_terminal()

    def hush(self) -> None:
        """It is about to end, and on a terminal it hears Ctrl-C itself: from now on that is no news."""
        if self._watching is not None:
            self._watching.cancel()

    async def close(self) -> None:
        """On return nothing is left."""
        spare, self._spare = self._spare, None
        if spare is not None:
            await spare.end()
        await self.stop()

    async def _spawn(self, how: Start) -> "_Process":
        self._number += 1
        socket = self._sockets / f"dev-{os.getpid()}-{self._number}.sock"
        reading, report = os.pipe()
        turn, saying = os.pipe()
        argv = (
            *(how.interpreter, "-m", ENTRY, f"--report={report}", f"--turn={turn}", f"--parent={os.getpid()}"),
            *(f"--socket={socket}", f"--listen={self._listen}", *(["--colours"] if self._colours else [])),
        )
        try:
            child = await process.attached(argv, env=how.env, directory=how.directory, keep=(report, turn))
        except BaseException:
            os.close(reading)
            os.close(saying)
            raise
        finally:
            os.close(report)
            os.close(turn)
        return _Process(how, child, socket, reading, saying)

    async def _watch(self, running: "_Process", began: float) -> None:
        """Until it has ended: hear whether it is ready, get a spare ready, and hear what it ended with."""
        report = await running.report()
        if report is not None and report.state == "ready":
            self._turn(Phase.READY)
            self._said(self, time.monotonic() - began)
            await asyncio.sleep(SPARE_AFTER_SECONDS)
            if self._spare is None:
                self._spare = await self._spawn(running.how)
                self._spare.say({"turn": False, "load": report.loaded})
        code = await running.child.wait()
        what = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        self.has_said_why = report is not None and report.state == "failed"
        self._turn(Phase.FAILED, report.message if report and self.has_said_why else f"the app's process {what}")
        self._said(self, time.monotonic() - began)

    def _turn(self, phase: Phase, message: str = "") -> None:
        self.phase = phase
        self.message = message
        self._turned.set()
        self._turned = asyncio.Event()


@dataclass(slots=True)
class _Process:
    """One process and our ends of its pipes."""

    how: Start
    child: asyncio.subprocess.Process
    socket: Path
    _reading: int
    _saying: int

    def say(self, word: Mapping[str, Any]) -> None:
        """Tell it; one that has ended does not hear."""
        with suppress(OSError):
            os.write(self._saying, msgspec.json.encode(word) + b"\n")

    async def report(self) -> Report | None:
        """The line that the process writes; None when it ends without a word."""
        descriptor, self._reading = self._reading, -1
        reader = asyncio.StreamReader(limit=MOST_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
        )
        try:
            line = await reader.readline()
            return msgspec.json.decode(line, type=Report) if line else None
        except (msgspec.DecodeError, ValueError):
            return None
        finally:
            transport.close()

    async def end(self) -> None:
        """Ask, wait, kill; what waits for its turn ends at once."""
        self._close()
        if self.child.returncode is None:
            with suppress(ProcessLookupError):
                self.child.terminate()
            try:
                async with asyncio.timeout(GRACE_SECONDS):
                    await self.child.wait()
            except TimeoutError:
                with suppress(ProcessLookupError):
                    self.child.kill()
                await self.child.wait()
        self.socket.unlink(missing_ok=True)

    def _close(self) -> None:
        for descriptor in (self._reading, self._saying):
            if descriptor >= 0:
                os.close(descriptor)
        self._reading = self._saying = -1
