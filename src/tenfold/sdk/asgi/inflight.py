"""The requests that one process works on: whether another one may come in, and when one has taken too long.

Owned by `Tenfold`, shared by all apps that it wraps. A request counts until its response begins: streams, server-sent
events and WebSockets may stay open for hours and are no work. One timer looks after the deadlines of all requests,
because a timer for each costs more than the rest of the middleware.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from tenfold import request
from tenfold.kit import home
from tenfold.sdk.asgi import door, meter, settings
from tenfold.sdk.cdn import serving

if TYPE_CHECKING:
    from tenfold.sdk.asgi import exchange, road

WAITING_FACTOR = 8
"""Requests that wait for a new primary do not count, up to this many times `max_requests` in all: a bound still."""

LOOK_SECONDS = 0.05
"""How late a deadline may be noticed."""


Entering = Callable[[request.Request], Awaitable[None]]

Leaving = Callable[[request.Request, request.Headers], Awaitable[request.Headers]]


class Phase(StrEnum):
    """The life of a process that serves."""

    STARTING = "starting"
    OPEN = "open"
    DRAINING = "draining"


class InFlight:
    """Open requests. Used by one event loop at a time, from `open` to `close`."""

    def __init__(self, setup: settings.Settings) -> None:
        self.settings = setup
        """Replaced when the bindings change."""
        self.phase = Phase.STARTING
        self.working: set[exchange.Exchange] = set()
        """Requests whose response has not begun."""
        self.entered: set[exchange.Exchange] = set()
        """Requests and WebSockets whose app has not returned, streams too."""
        self.meter = meter.Meter(time.monotonic())
        self.door = door.Door()
        """Requests that wait for a place."""
        self._emptied: asyncio.Event | None = None
        """Set when the last one has left, while someone waits for that."""
        self.home = home.Home()
        """The loop that requests run on; nobody's before `open` and after `close`."""
        self._timer: asyncio.TimerHandle | None = None
        self.entering: Entering | None = None
        """What is done with each request and WebSocket before the app sees it: its session is loaded ahead."""
        self.static: serving.Static | None = None
        """The static files, which are served before the app is asked; None: there are none."""
        self.leaving: Leaving | None = None
        """What is done with a response that edges are concerned with: its headers as they are sent."""
        self.road: road.Road | None = None
        """The way to the home region, for requests that turn out to write; None: this is the home."""
        self.messages: Callable[[], dict[str, Any]] = dict
        """What this process does for the queue, for `/-/load`."""

    def open(self) -> None:
        """Let requests in, on the running loop."""
        self.home.settle()
        self.phase = Phase.OPEN

    def drain(self) -> None:
        """Say `not ready` from now on; requests that still come are served."""
        self.phase = Phase.DRAINING

    async def drained(self, timeout_seconds: float) -> bool:
        """True as soon as nothing is open, False when something still is after `timeout_seconds`."""
        self._emptied = asyncio.Event()
        if not self.entered and not self.door.granted:
            return True
        try:
            await asyncio.wait_for(self._emptied.wait(), timeout_seconds)
        except TimeoutError:
            return False
        return True

    def cut(self) -> None:
        """Cancel streams and WebSockets: they end only when they are made to. Requests have their own deadline."""
        for one in self.entered - self.working:
            one.cut()

    def close(self) -> None:
        """Nothing is let in and no deadline is watched any more."""
        self.phase = Phase.STARTING
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.home.leave()

    def deadline(self) -> float:
        """The deadline of a request that has its whole time from now on, in `loop.time()`."""
        return asyncio.get_running_loop().time() + self.settings.request_seconds

    def is_full(self) -> bool:
        """Whether one more request is one too many.

        Requests that wait for a new primary are left out: they need no more than patience, and reads that could be
        answered must not be refused because writes wait.
        """
        max_requests = self.settings.max_requests
        if len(self.working) < max_requests:
            return False
        if len(self.working) >= max_requests * WAITING_FACTOR:
            return True
        return sum(not one.is_waiting for one in self.working) >= max_requests

    async def has_place(self) -> bool:
        """Wait for a place, where that is allowed; whether there is one."""
        service = self.settings.service
        if len(self.door) >= service.most_waiting:
            return False
        return await self.door.wait(service.request_seconds * door.PATIENCE)

    def admit(self, one: "exchange.Exchange") -> None:
        """A request comes in; its deadline is watched from now on."""
        self.working.add(one)
        self.entered.add(one)
        if self._timer is None and self.home.loop is not None:
            self._timer = self.home.loop.call_later(LOOK_SECONDS, self._look)

    def leave(self, one: "exchange.Exchange") -> None:
        """The app has returned from a request or a WebSocket."""
        if one in self.working:
            self.working.discard(one)
            self.door.open()
        self.entered.discard(one)
        if self._emptied is not None and not self.entered and not self.door.granted:
            self._emptied.set()

    def _look(self) -> None:
        """Cancel what is late; look again while anything is open."""
        self._timer = None
        loop = self.home.loop
        if loop is None or not self.working:
            return
        now = loop.time()
        for one in [one for one in self.working if one.expires <= now]:
            one.expire()
        if len(self.door) and not self.is_full():
            self.door.open()  # those that began to wait for a primary do not count any more
        self._timer = loop.call_later(LOOK_SECONDS, self._look)
