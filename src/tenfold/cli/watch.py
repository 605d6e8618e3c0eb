"""`tenfold status --watch`: the screen again every second, until q or Ctrl-C, whatever happens to the runtime.

Called by `status`. On a terminal one screen that is drawn over itself; elsewhere a line a second, or with `--json` an
object a line. While no runtime answers it looks by itself, and says so: what serves goes on without one.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.live import Live

from tenfold import errors
from tenfold.cli import output, screen

Json = dict[str, Any]

PERIOD_SECONDS = 1.0
PATIENCE_SECONDS = 5.0

KEPT = 120
"""Seconds of the sparkline that are remembered."""

Look = Callable[[], Awaitable[Json]]


async def watch(look: Look, *, as_json: bool) -> None:
    """Show what `look` sees, once a second, until q is pressed or the caller cancels."""
    if as_json or not sys.stdout.isatty():
        async for body, note in _looks(look):
            print(json.dumps(body) if as_json else screen.line(body, note), flush=True)
        return
    over = asyncio.Event()
    with _keys(over), Live(console=output.console, screen=True, auto_refresh=False, transient=True) as live:
        rates: deque[float] = deque(maxlen=KEPT)
        async for body, note in _until(over, _looks(look)):
            rates.append(float(body["traffic"]["requests_per_second"]))
            size = output.console.size
            live.update(screen.draw(body, list(rates), note, size.width, size.height), refresh=True)


async def _looks(look: Look) -> AsyncIterator[tuple[Json, str]]:
    """What is seen, and why it is not the whole truth: nobody answers, or no runtime runs."""
    body: Json | None = None
    while True:
        began = time.monotonic()
        note = ""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                body = await look()
            note = without_runtime(body)
        except (TimeoutError, errors.RuntimeFailure, OSError) as error:
            if body is None:
                raise
            note = f"no answer: {_words(error)}; this is what was seen last"
        yield body, note
        await asyncio.sleep(max(0.0, PERIOD_SECONDS - (time.monotonic() - began)))


def without_runtime(body: Json) -> str:
    """What it means that no runtime runs; empty when one does."""
    if body["runtime"] == "running":
        return ""
    if any(one["state"] == "running" for one in body["servers"]):
        return "no runtime runs; what runs keeps serving: take it over with tenfold up -d"
    return "the service is stopped, its data is kept: start it with tenfold up -d"


def _words(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else f"none within {PATIENCE_SECONDS:g} s"


async def _until(over: asyncio.Event, looks: AsyncIterator[tuple[Json, str]]) -> AsyncIterator[tuple[Json, str]]:
    ended = asyncio.ensure_future(over.wait())
    try:
        while True:
            following = asyncio.ensure_future(anext(looks))
            await asyncio.wait((following, ended), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
                return
            yield following.result()
    finally:
        ended.cancel()


@contextmanager
def _keys(over: asyncio.Event) -> Iterator[None]:
    """`q` ends it. Keys are read one by one and not shown; Ctrl-C stays what it is."""
    if not sys.stdin.isatty():
        yield
        return
    import termios  # not on every system
    import tty

    handle = sys.stdin.fileno()
    former = termios.tcgetattr(handle)
    loop = asyncio.get_running_loop()

    def read() -> None:
        if os.read(handle, 64).lower()[:1] in (b"q", b""):
            over.set()

    tty.setcbreak(handle)
    loop.add_reader(handle, read)
    try:
        yield
    finally:
        loop.remove_reader(handle)
        termios.tcsetattr(handle, termios.TCSADRAIN, former)
