"""The process of `tenfold dev` that runs the app: `python -m tenfold.runtime.develop.app`, started by `web` alone.

It runs under the app's own interpreter, on the terminal of whoever typed `tenfold dev`, and serves on the socket that
the door knows of. It begins with a pause: started before it is needed, it loads libraries that take long, and waits on
a pipe for its turn. On another one it tells its parent, by a line of JSON, how its start went. It dies with its parent.
"""

import argparse
import asyncio
import atexit
import contextlib
import ctypes
import importlib
import json
import logging
import os
import signal
import sys
import sysconfig
import traceback
from pathlib import Path
from typing import Any, NoReturn

import granian.errors
import uvloop
from granian.constants import Interfaces
from granian.server import embed

from tenfold import errors
from tenfold.runtime.develop import lines
from tenfold.sdk import hosting
from tenfold.sdk.asgi import protocol, wrap

HEAVY = frozenset(
    {"aiohttp", "anyio", "asyncpg", "fastapi", "httpx", "jinja2", "litestar", "msgspec", "psycopg", "pydantic"}
    | {"pydantic_core", "redis", "sqlalchemy", "starlette"}
)
"""Libraries that take long to load, and do the same whenever that is: nothing of the app, and nothing that asks about
the app's settings, may be loaded before its turn."""

FINISHING_SECONDS = 0.4
"""When new code waits: how long open requests get to end, and then streams that were cut."""


class Told:
    """The pipe to the parent: `ready`, or `failed` with words. Said once."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor
        self._is_said = False

    def ready(self) -> None:
        """With what the next process may load before its turn."""
        loaded = sorted(name for name in sys.modules if name.partition(".")[0] in HEAVY)
        self._say({"state": "ready", "loaded": loaded})

    def failed(self, message: str) -> None:
        """The parent shows it to browsers; the terminal gets it here."""
        if not self._is_said:
            print(f"\n{message}\n", file=sys.stderr, flush=True)
            self._say({"state": "failed", "message": message})

    def _say(self, what: dict[str, Any]) -> None:
        if not self._is_said:
            self._is_said = True
            with contextlib.suppress(OSError):
                os.write(self._descriptor, json.dumps(what).encode() + b"\n")


class Reporting:
    """An ASGI app around the whole: tells the parent how the lifespan's start went."""

    def __init__(self, app: protocol.App, told: Told) -> None:
        self._app = app
        self._told = told

    async def __call__(self, scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        """Serve one scope."""

        async def listening(message: protocol.Message) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self._told.ready()
            elif message["type"] == "lifespan.startup.failed":
                self._told.failed(message.get("message", "").rstrip() or "the app's lifespan did not start")

        await self._app(scope, receive, listening if scope["type"] == "lifespan" else send)


def main() -> None:
    """Import the app, serve it until SIGTERM or Ctrl-C. Exit code 1 when it does not start."""
    known = _arguments()
    _die_with(known.parent)
    _wait_for_its_turn(known.turn)
    told = Told(known.report)
    _log_to_the_terminal()
    try:
        served = hosting.wrapped(hosting.load())
    except errors.TenfoldError as error:
        told.failed(str(error))
        raise SystemExit(1) from None
    speaking = lines.Lines(served, known.listen, Path.cwd(), sys.stdout, has_colours=known.colours)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_serve(Reporting(speaking, told), served, known.socket))
        except granian.errors.FatalError:  # the lifespan did not start, which has been said
            raise SystemExit(1) from None
    _leave()


def _log_to_the_terminal() -> None:
    """What nobody else prints: a logger with a handler of its own (Django's) would say everything twice."""

    def is_unsaid(record: logging.LogRecord) -> bool:
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None and logger is not logging.root:
            if any(isinstance(one, logging.StreamHandler) for one in logger.handlers):
                return False
            logger = logger.parent
        return True

    handler = logging.StreamHandler()
    handler.addFilter(is_unsaid)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", handlers=[handler])
    logging.getLogger("asyncio").setLevel(logging.WARNING)


async def _serve(app: protocol.App, served: wrap.Wrapped, socket: Path) -> None:
    server = embed.Server(app, interface=Interfaces.ASGI, uds=socket, log_enabled=False, websockets=True)
    stopping: list[asyncio.Task[None]] = []

    async def stop() -> None:
        """Open requests end, streams are cut, then the server stops and the lifespan with it."""
        inflight = served.service.inflight
        inflight.drain()
        if not await inflight.drained(FINISHING_SECONDS):
            inflight.cut()
            await inflight.drained(FINISHING_SECONDS)
        server.stop()  # type: ignore[no-untyped-call]

    def begin() -> None:
        if not stopping:
            stopping.append(asyncio.create_task(stop(), name="tenfold-stop"))

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, begin)
    await server.serve()


def _wait_for_its_turn(descriptor: int) -> None:
    """Load what the parent names, until it says that the turn has come. Ctrl-C is for those who run.

    Begins again, without loading anything, when packages were installed meanwhile.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    packages = Path(sysconfig.get_path("purelib"))
    installed = packages.stat().st_mtime_ns
    with os.fdopen(descriptor) as pipe:
        for line in pipe:
            word = json.loads(line)
            if word["turn"]:
                break
            _load(word["load"])
        else:
            raise SystemExit(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if packages.stat().st_mtime_ns != installed:
        _begin_again()


def _load(names: list[str]) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001 - the app will say what is wrong with it, if it matters
            return


def _begin_again() -> None:
    reading, writing = os.pipe()
    os.write(writing, b'{"turn": true}\n')
    os.close(writing)
    os.set_inheritable(reading, True)
    arguments = [f"--turn={reading}" if one.startswith("--turn=") else one for one in sys.argv[1:]]
    os.execv(sys.executable, [sys.executable, "-m", "tenfold.runtime.develop.app", *arguments])  # noqa: S606


def _leave() -> NoReturn:
    """End without taking every module apart first: that takes a third of a second, and new code waits for it."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--report", type=int, required=True, help="descriptor of the pipe to the parent")
    parser.add_argument("--turn", type=int, required=True, help="descriptor of the pipe that says when")
    parser.add_argument("--parent", type=int, required=True, help="the parent's pid")
    parser.add_argument("--socket", type=Path, required=True, help="where to serve")
    parser.add_argument("--listen", required=True, help="the front door, as the app is to see it")
    parser.add_argument("--colours", action="store_true")
    return parser.parse_args()


def _die_with(parent: int) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(hosting.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:  # noqa: BLE001 - the boundary: a person at a terminal reads it
        traceback.print_exc()
        sys.exit(1)
