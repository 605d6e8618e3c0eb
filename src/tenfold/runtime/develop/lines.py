"""One calm line a request, and the traceback of what an app has raised. Around the wrapped app in `tenfold dev`.

Prints to the terminal. It changes nothing about a request, but for who its client is: behind the door's socket nobody
has an address.
"""

import sys
import time
import traceback
from pathlib import Path
from typing import TextIO

from tenfold.sdk.asgi import protocol

_RESET, _DIM = "\x1b[0m", "\x1b[2m"
_COLOURS = {"2": "\x1b[32m", "3": "\x1b[36m", "4": "\x1b[33m", "5": "\x1b[31m"}

STREAM = b"text/event-stream"


class Lines:
    """An ASGI app that serves `app` and says what it answered. `listen` is the front door, `directory` the code's."""

    def __init__(self, app: protocol.App, listen: str, directory: Path, out: TextIO, *, has_colours: bool) -> None:
        self._app = app
        host, _, port = listen.rpartition(":")
        self._server = (host.strip("[]"), int(port))
        self._directory = directory
        self._out = out
        self._has_colours = has_colours

    async def __call__(self, scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        """Serve one scope."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        scope["server"] = self._server
        scope["client"] = ("127.0.0.1", 0)
        one = _Spoken(self, scope, send)
        try:
            await self._app(scope, receive, one.send)
        except Exception as error:
            one.end(500)
            self.say(story(error, self._directory))
            raise
        one.end(0)

    def line(self, scope: protocol.Scope, status: int, seconds: float, note: str = "") -> None:
        """`GET    /path                 200    3 ms`"""
        method = scope.get("method", "WS")
        query = scope.get("query_string", b"").decode("latin-1")
        path = scope["path"] + (f"?{query}" if query else "")
        shown = _printable(path)
        code = self._coloured(str(status), _COLOURS.get(str(status)[0], ""))
        took = self._coloured(f"{1000 * seconds:.0f} ms{note}", _DIM)
        self.say(f"{method:<6} {shown:<40} {code}  {took}")

    def say(self, text: str) -> None:
        """Print it at once; a terminal that is gone is no reason to fail a request."""
        try:
            print(text, file=self._out, flush=True)
        except (OSError, ValueError):
            return

    def _coloured(self, text: str, colour: str) -> str:
        return f"{colour}{text}{_RESET}" if self._has_colours and colour else text


class _Spoken:
    """One request until its line is said: once."""

    def __init__(self, lines: Lines, scope: protocol.Scope, transport: protocol.Send) -> None:
        self._lines = lines
        self._scope = scope
        self._transport = transport
        self._began = time.monotonic()
        self._status = 0
        self._is_said = False

    async def send(self, message: protocol.Message) -> None:
        await self._transport(message)
        kind = message["type"]
        if kind == "http.response.start":
            self._status = message["status"]
            if any(name.lower() == b"content-type" and STREAM in value for name, value in message.get("headers", ())):
                self.end(self._status, " until the stream began")
        elif kind == "http.response.body" and not message.get("more_body", False):
            self.end(self._status)
        elif kind == "websocket.accept":
            self._status = 101

    def end(self, status: int, note: str = "") -> None:
        """Say the line unless it was said. A status of 0: what was sent, or what a server makes of nothing."""
        if not self._is_said:
            self._is_said = True
            known = status or self._status or (403 if self._scope["type"] == "websocket" else 500)
            self._lines.line(self._scope, known, time.monotonic() - self._began, note)


def story(error: BaseException, directory: Path) -> str:
    """The traceback from the app's own first line on, also of each error behind it; all of it when the app's code is
    not in it."""
    told = traceback.TracebackException.from_exception(error)
    _begin_with_own(told, directory)
    return "".join(told.format()).rstrip()


def _begin_with_own(told: traceback.TracebackException, directory: Path) -> None:
    first = next((n for n, frame in enumerate(told.stack) if _is_own(frame.filename, directory)), 0)
    del told.stack[:first]
    for one in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if one is not None:
            _begin_with_own(one, directory)


def _is_own(filename: str, directory: Path) -> bool:
    path = Path(filename)
    return path.is_relative_to(directory) and "site-packages" not in path.parts


def _printable(text: str) -> str:
    """No control character of a request reaches the terminal."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def on(out: TextIO = sys.stdout) -> bool:
    """Whether a person reads this."""
    return out.isatty()
