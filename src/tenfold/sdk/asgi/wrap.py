"""The door: an app with tenfold's lifespan and middleware around it.

Made by `Tenfold.wrap` (and `sdk/hosting`, where the app has not done it). Pure ASGI, outermost, once: an app inside one
that is wrapped already is passed by.
"""

import asyncio
import math
import secrets
import time
from contextlib import suppress
from itertools import count
from typing import Any, Protocol

from tenfold import errors, request
from tenfold.sdk.asgi import answers, arrival, exchange, idempotency, inflight, lifespan, private, protocol
from tenfold.sdk.cdn import serving

READY = "/-/ready"
LIVE = "/-/live"
LOAD = "/-/load"
OUR_OWN = frozenset((READY, LIVE, LOAD))
"""Paths that the app never sees."""

RESTARTING: protocol.Message = {"type": "websocket.close", "code": 1012, "reason": "service restart"}
"""What a WebSocket's client hears when this process has to end: connect again (RFC 6455's registry of codes)."""

MARK = "tenfold"
"""The scope's key that says that a request has passed a door."""


class Service(lifespan.Service, Protocol):
    """What the door needs to know of the service behind it."""

    inflight: inflight.InFlight


OWN_ATTRIBUTES = frozenset(("app", "service", "_inflight", "_trace_prefix", "_numbers"))


class Wrapped:
    """An ASGI app that serves `app` with everything a request needs around it. Its other attributes are the app's."""

    def __init__(self, app: protocol.App, service: Service) -> None:
        self.app = app
        self.service = service
        self._inflight = service.inflight
        self._trace_prefix = secrets.token_hex(6) + "-"
        self._numbers = map(str, count(1))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "app":
            raise AttributeError(name)
        return getattr(self.app, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """`app.dependency_overrides = {...}`, say, is meant for the app."""
        if name in OWN_ATTRIBUTES:
            super().__setattr__(name, value)
        else:
            setattr(self.app, name, value)

    async def __call__(self, scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        """Serve one scope: a request, a WebSocket, or the lifespan."""
        if MARK in scope or scope["type"] != "http":
            await self._serve_other(scope, receive, send)
            return
        tracker = self._inflight
        setup = tracker.settings
        loop = tracker.home.here()
        if loop is None or scope["path"] in OUR_OWN or len(tracker.working) >= setup.max_requests:
            answer = await self._answer_at_the_door(scope)
            if answer is not None:
                await answer.give(send)
                return
            loop = asyncio.get_running_loop()
        scope[MARK] = True
        deadline = loop.time() + setup.request_seconds
        trace = self._trace_prefix + next(self._numbers)
        one = exchange.Exchange(scope, send, tracker, trace, deadline, asyncio.current_task(loop))
        one.source = receive
        found = arrival.note(scope["headers"])
        token = request.enter(one)
        tracker.admit(one)
        try:
            if found is not None:
                arrival.apply(found, one)
                if arrival.KEY in found and scope["method"] not in idempotency.SAFE:
                    one.idempotency, one.source = await idempotency.read(scope, receive, setup.principal(scope))
            app = self.app if tracker.static is None else self._asked(scope["path"], tracker.static)
            if tracker.entering is not None and app is self.app:
                await tracker.entering(one)
            await app(scope, one.receive, one.send)
            if not one.has_responded:
                await one.finish()
        except BaseException as error:  # noqa: BLE001 - raised again unless it is ours to answer
            await one.fail(error)
        finally:
            if one.gone is not None:
                one.close()
            tracker.leave(one)
            request.leave(token)

    def _asked(self, path: str, static: serving.Static) -> protocol.App:
        """Who answers for this path."""
        return static.serve if path.startswith(static.path) else self.app

    async def _answer_at_the_door(self, scope: protocol.Scope) -> answers.Answer | None:
        """The answer to what does not reach the app: health checks, and more requests than there is room for."""
        tracker = self._inflight
        if scope["path"] == READY:
            is_open = tracker.phase is inflight.Phase.OPEN
            return answers.text(200 if is_open else 503, "ready" if is_open else str(tracker.phase))
        if scope["path"] == LIVE:
            return answers.text(200, "live")
        if scope["path"] == LOAD:
            return private.load(scope, tracker)
        _ensure_started(scope, tracker)
        if tracker.is_full() and not await tracker.has_place():
            tracker.meter.refused(time.monotonic())
            return answers.overloaded()
        return None

    async def _serve_other(self, scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        if MARK in scope:
            await self.app(scope, receive, send)
        elif scope["type"] == "lifespan":
            scope[MARK] = True
            await lifespan.run(self.app, self.service, scope, receive, send)
        elif scope["type"] == "websocket":
            await self._serve_websocket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _serve_websocket(self, scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        """A WebSocket is a request without a deadline; its messages pass untouched."""
        tracker = self._inflight
        _ensure_started(scope, tracker)
        scope[MARK] = True
        trace = self._trace_prefix + next(self._numbers)
        one = exchange.Exchange(scope, send, tracker, trace, math.inf, asyncio.current_task())
        found = arrival.note(scope["headers"])
        if found is not None:
            arrival.apply(found, one)
        one.deadline = None
        token = request.enter(one)
        tracker.entered.add(one)
        try:
            if tracker.entering is not None:
                await tracker.entering(one)
            await self.app(scope, receive, send)
        except asyncio.CancelledError:
            if not one.cuts or not one.is_our_doing():
                raise
            with suppress(Exception):  # it has closed it by itself, or its client is gone
                await send(RESTARTING)
        finally:
            tracker.leave(one)
            request.leave(token)


def _ensure_started(scope: protocol.Scope, tracker: inflight.InFlight) -> None:
    """Raise when no lifespan runs, or one on another event loop; the message says how requests came here so."""
    what = f"{scope.get('method', 'WebSocket')} {scope['path']}"
    if tracker.home.loop is None and scope.get("root_path"):
        raise errors.NotStarted(
            f"{what}: came before the lifespan began, to an app below {scope['root_path']}: the lifespan of a mounted "
            "app does not run; wrap the outermost app: `app = tf.wrap(app)`"
        )
    if tracker.home.loop is None:
        raise errors.NotStarted(
            f"{what}: came before the lifespan began; serve the wrapped app with a server that runs the lifespan "
            "(granian --interface asgi); in a test write `with TestClient(app) as client:`, or put `async with tf:` "
            "around httpx.ASGITransport, which runs none"
        )
    if tracker.home.here() is None:
        raise errors.WrongLoop(
            f"{what}: came on another event loop than the one that this Tenfold was started on; start it where "
            "requests run: `with TestClient(app) as client:` in a sync test, `async with tf:` in an async one"
        )
