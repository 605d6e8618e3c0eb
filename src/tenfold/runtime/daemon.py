"""The runtime as a process: in the foreground, detached, or for a moment when none runs.

Called by `tenfold up`, `down`, `status` and `server kill`.
"""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from tenfold import errors
from tenfold.kit import clock, process
from tenfold.runtime import client, control, events, guard, opening, paths, service, supervise

Say = Callable[[events.Event], None]

START_SECONDS = 15.0
"""The longest that a runtime may take to answer, and one that leaves to be gone."""


@asynccontextmanager
async def running(where: paths.Paths, text: str | None, say: Say) -> AsyncIterator[asyncio.Event]:
    """A runtime that serves its control socket and guards the service. With `text`, the service is up on entry.

    Yields an event that is set when it should end: by `down`, by SIGTERM (everything keeps serving), or by Ctrl-C,
    which stops the service too.
    """
    async with opening.opened(where) as runtime:
        stop = asyncio.Event()
        _forward(runtime.journal, say)
        interrupted = _on_signals(stop)
        async with control.serving(runtime, str(where.control), stop), _guarding(runtime):
            if text is not None:
                await runtime.up(text)
            yield stop
            if interrupted.is_set():
                await runtime.down()


async def start_detached(where: paths.Paths, say: Say) -> None:
    """Leave a runtime in the background that guards what runs. Its output goes to runtime.log.

    Raises EngineFailed when it does not answer in time.
    """
    where.make()
    began = where.log.stat().st_size if where.log.exists() else 0
    argv = [sys.executable, "-m", "tenfold.runtime.daemon", str(where.topology)]
    started = process.Detached.start(argv, log=where.log, env={}, directory=where.project)
    answers = client.Client(where.control)

    async def look() -> bool:
        if started.poll() is not None:
            return True
        try:
            await answers.hello()
        except errors.NotRunning:
            return False
        return True

    await clock.until(look, seconds=START_SECONDS)
    if started.poll() is not None:
        lines = supervise.last_lines(where.log, began)
        raise errors.EngineFailed(f"the runtime ended; last lines of {where.log}:\n{lines}")
    say(events.Event(time.time(), "runtime_started", f"the runtime runs in the background (pid {started.pid})"))


async def end(where: paths.Paths) -> None:
    """Let the runtime that answers leave; everything keeps serving. On return the way is free for another one.

    Raises RuntimeFailure while it applies a change.
    """
    runtime = client.Client(where.control)
    if (await runtime.status())["is_changing"]:
        raise errors.RuntimeFailure(
            "the runtime applies a change, and is of another version of tenfold than this command; wait for the end of "
            "the change (tenfold events -f), and try again"
        )
    await runtime.leave()
    async with opening.opened(where, wait_seconds=START_SECONDS):
        pass


async def down_without_runtime(where: paths.Paths, say: Say) -> None:
    """`tenfold down` when no runtime runs: be one for a moment."""
    async with opening.opened(where, wait_seconds=2.0) as runtime:
        if runtime.store.records.topology:
            _forward(runtime.journal, say)
            await runtime.down()


async def kill_without_runtime(where: paths.Paths, name: str, say: Say) -> None:
    """`tenfold server kill` when no runtime runs."""
    async with opening.opened(where, wait_seconds=2.0) as runtime:
        _forward(runtime.journal, say)
        await runtime.kill_server(name)


async def status_without_runtime(where: paths.Paths) -> dict[str, Any]:
    """`tenfold status` when no runtime runs: looks, and changes nothing. Raises NotRunning before the first `up`."""
    if not where.records.exists():
        raise errors.NotRunning(f"{where.project}: nothing was ever started here; start it with: tenfold up -d")
    async with opening.looked_at(where) as runtime:
        return await runtime.status()


async def cdn_without_runtime(where: paths.Paths) -> dict[str, Any]:
    """`tenfold cdn` when no runtime runs: looks, and changes nothing. Raises NotRunning before the first `up`."""
    if not where.records.exists():
        raise errors.NotRunning(f"{where.project}: nothing was ever started here; start it with: tenfold up -d")
    async with opening.looked_at(where) as runtime:
        return await runtime.cdn()


@asynccontextmanager
async def _guarding(runtime: service.Runtime) -> AsyncIterator[None]:
    sampling = asyncio.create_task(runtime.sampler.watch(lambda: runtime.seats))
    scaling = asyncio.create_task(runtime.autoscaler.watch())
    watching = asyncio.create_task(guard.watch(runtime.supervisor, lambda: runtime.seats, runtime.where))
    try:
        yield
    finally:
        for task in (scaling, watching, sampling):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def _forward(journal: events.Journal, say: Say) -> None:
    journal.listeners.append(say)


def _on_signals(stop: asyncio.Event) -> asyncio.Event:
    """SIGINT: stop the service and end. SIGTERM: end, and leave everything running."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        interrupted.set()
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)  # a second Ctrl-C ends at once, everything keeps serving

    loop.add_signal_handler(signal.SIGINT, interrupt)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    return interrupted


async def _detached_main(where: paths.Paths) -> None:
    async with running(where, None, lambda event: None) as stop:
        await stop.wait()


if __name__ == "__main__":
    from pathlib import Path

    try:
        asyncio.run(_detached_main(paths.Paths(Path(sys.argv[1]))))
    except (errors.TenfoldError, OSError) as failure:
        sys.exit(f"tenfold: {failure}")
