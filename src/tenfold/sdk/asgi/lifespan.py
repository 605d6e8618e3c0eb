"""The lifespan: ours around the app's. tf.db is there before the app starts and until after it has stopped.

Called by `wrap` for the server's lifespan scope. Apps without a lifespan are welcome: Django raises on the scope, a
plain ASGI function asserts or returns. An app that has taken the startup event and *then* raises has crashed, and its
message goes to the server, which gives up.
"""

import asyncio
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Protocol

from tenfold.sdk.asgi import protocol, raised

LAST_SECONDS = 1.0
"""After an app has said that it is shut down, how long it may still take to return."""


class Service(Protocol):
    """What is started before the app and stopped after it."""

    async def start(self) -> None: ...
    async def drain(self) -> None: ...
    async def stop(self) -> None: ...


class Startup(StrEnum):
    """How far the app has come with its own lifespan."""

    WAITING = "waiting"
    COMPLETE = "complete"
    FAILED = "failed"
    ABSENT = "absent"


async def run(
    app: protocol.App, service: Service, scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send
) -> None:
    """Serve one lifespan scope. Returns after shutdown, or after a start that failed, which leaves nothing behind."""
    await receive()
    try:
        await service.start()
    except Exception:  # noqa: BLE001 - whatever it is, the server must hear of it
        await send({"type": "lifespan.startup.failed", "message": traceback.format_exc()})
        return
    try:
        async with _running(app, scope) as inner:
            if inner.startup is Startup.FAILED:
                await send({"type": "lifespan.startup.failed", "message": inner.message})
                return
            raised.listen()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await service.drain()
            await inner.shut_down()
    finally:
        await service.stop()
    await send(inner.last_word())


class _Inner:
    """The app's own lifespan, spoken to from outside."""

    def __init__(self) -> None:
        self.startup = Startup.WAITING
        self.message = ""
        self.has_failed_to_stop = False
        self._events: asyncio.Queue[protocol.Message] = asyncio.Queue()
        self._heard = asyncio.Event()
        self._ended = asyncio.Event()
        self._has_listened = False

    async def serve(self, app: protocol.App, scope: protocol.Scope) -> None:
        """Run the app on the scope until it returns or raises."""
        try:
            await app(scope, self._receive, self._send)
        except Exception:  # noqa: BLE001 - an app may raise anything here; what it means is decided below
            self._raised(traceback.format_exc())
        finally:
            if self.startup is Startup.WAITING:
                self.startup = Startup.ABSENT
            self._heard.set()
            self._ended.set()

    async def start_up(self) -> None:
        """Send the startup event and wait for the app's word."""
        await self._events.put({"type": "lifespan.startup"})
        await self._heard.wait()

    async def shut_down(self) -> None:
        """Send the shutdown event and wait until the app has ended."""
        await self._events.put({"type": "lifespan.shutdown"})
        await self._ended.wait()

    def last_word(self) -> protocol.Message:
        """What the server is told at the end."""
        if self.has_failed_to_stop:
            return {"type": "lifespan.shutdown.failed", "message": self.message}
        return {"type": "lifespan.shutdown.complete"}

    @property
    def has_stopped(self) -> bool:
        """Whether the app has said its last word."""
        return self._ended.is_set()

    def _raised(self, text: str) -> None:
        if self.startup is Startup.WAITING:
            self.startup = Startup.FAILED if self._has_listened else Startup.ABSENT
            self.message = text
        elif self.startup is Startup.COMPLETE and not self.has_failed_to_stop:
            self.has_failed_to_stop = True
            self.message = text

    async def _receive(self) -> protocol.Message:
        message = await self._events.get()
        self._has_listened = True
        return message

    async def _send(self, message: protocol.Message) -> None:
        word = message["type"]
        if word == "lifespan.startup.complete":
            self.startup = Startup.COMPLETE
            self._heard.set()
        elif word == "lifespan.startup.failed":
            self.startup = Startup.FAILED
            self.message = message.get("message", "")
            self._heard.set()
        elif word == "lifespan.shutdown.failed":
            self.has_failed_to_stop = True
            self.message = message.get("message", "")
            self._ended.set()
        elif word == "lifespan.shutdown.complete":
            self._ended.set()


@asynccontextmanager
async def _running(app: protocol.App, scope: protocol.Scope) -> AsyncIterator[_Inner]:
    """The app's lifespan as a task that ends with this block, whatever happens."""
    inner = _Inner()
    task = asyncio.create_task(inner.serve(app, scope), name="tenfold-lifespan")
    try:
        await inner.start_up()
        yield inner
    finally:
        await asyncio.wait([task], timeout=LAST_SECONDS if inner.has_stopped else 0)
        task.cancel()
        await asyncio.wait([task])
