"""One HTTP request on its way through the app: its state, and the `send` that the app writes its response to.

Made by `wrap` for every request. It sits on the hot path of everything: no coroutine, task or timer of its own where
a plain call will do (`benchmarks/middleware.py` holds it to that).
"""

import asyncio
import dataclasses
import logging
import math
import sys
from contextlib import aclosing
from time import monotonic
from typing import Any, cast

from tenfold import bindings, errors, request
from tenfold.sdk import counters
from tenfold.sdk.asgi import (
    answers,
    cookies,
    homeward,
    idempotency,
    incoming,
    inflight,
    protocol,
    road,
    tokens,
    tracing,
)

log = logging.getLogger("tenfold.asgi")

MOST_HELD_BYTES = 64 * 1024
"""A 500 whose body is larger than this is no error page to be replaced."""

PARTING_SECONDS = 0.25
"""After its deadline: how long an app that listens for its client's leaving gets to end by itself."""


ENDS = (asyncio.CancelledError, KeyboardInterrupt, SystemExit)
"""What ends a request whatever has become of it."""


class Exchange(incoming.Incoming):
    """A request, and its response so far. What is below the app sees the `request.Request` in it.

    Most requests never change most of its fields, so their first values live on the class (the loop below adds those
    of `Request`), and making one sets only what is its own.
    """

    seen = tokens.NOTHING
    cuts = 0
    """How often we have cancelled the app's task."""
    is_told = False
    """Whether the app was told that its client has left, because its time is over."""
    raised: BaseException | None = None
    """What a framework that answers every error itself has made a 500 of."""
    queued_seconds = 0.0
    """How long it had waited at the balancer before it came here."""
    cancelled_before = 0
    """How often others had cancelled the task when we did: only our own cancellation is taken back."""
    brought: frozenset[int] = frozenset()
    """The slots of the position cookies that came with the request."""
    place = homeward.Place.UNDECIDED
    """Where its writes are made."""
    is_held_back = False
    """Whether what the app answers from now on is not to be sent as it is: its time is over, or home answers."""
    held: list[protocol.Message] | None = None
    """A 500 that is not sent yet: an error of ours may be on its way behind it, which has a better answer."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __init__(
        self,
        scope: protocol.Scope,
        transport: protocol.Send,
        tracker: inflight.InFlight,
        trace: str,
        deadline: float,
        watched: "asyncio.Task[Any] | None",
    ) -> None:
        self.scope = scope
        self.transport = transport
        self.tracker = tracker
        self.trace = trace
        self.deadline = deadline
        self.expires = deadline
        self.watched = watched
        """The task to cancel at the deadline."""
        self.pinned = {}
        self.began = monotonic()

    def send(self, message: protocol.Message) -> Any:
        """The app's `send`. Returns an awaitable, the server's own wherever possible."""
        if self.has_responded:
            return self.transport(message)
        if message["type"] == "http.response.start":
            if message["status"] < 200:
                return _done()  # a hint (103): web servers would take it for the answer, edges take none
            if message["status"] == 500 or self.is_held_back:
                self.held = [message]
                self.raised = self.raised or sys.exception()
                return _done()
            return self._begin(message)
        if self.held is not None:
            return self._hold(message)
        return self.transport(message)

    def expire(self) -> None:
        """The deadline has passed: cancel the app, once.

        An app that has another task listen for its client's leaving is told of that first: Django ends its view then,
        and would leave it running for ever if it were cancelled itself. A sync view cannot be ended, and Django waits
        for its thread in two places, so it takes two cancellations to have an answer in time.
        """
        self.has_expired = self.is_held_back = True
        if not self.is_told and self.tell():
            self.is_told = True
            self.expires = asyncio.get_running_loop().time() + PARTING_SECONDS
            return
        self.cut()
        if self.is_told and self.cuts == 1:
            self.expires = asyncio.get_running_loop().time() + PARTING_SECONDS

    def cut(self) -> None:
        """Cancel the app."""
        self.expires = math.inf
        if self.watched is not None:
            if not self.cuts:
                self.cancelled_before = self.watched.cancelling()
            self.cuts += 1
            self.watched.cancel()

    async def finish(self) -> None:
        """The app has returned without an answer that was sent: send what is held."""
        if self.has_expired and self.is_our_doing():
            await self._give_up()
        elif self.place is homeward.Place.HOME:
            await self._go_home()
        elif self.held is not None:
            answer = None if self.raised is None else _answer(self.raised)
            await (self.release() if answer is None else self._say(answer))

    async def fail(self, error: BaseException) -> None:
        """The app has raised. Answers when the error is ours and nothing was sent, else raises it again."""
        if isinstance(error, idempotency.DisconnectedError):
            return
        if self.has_expired and not self.has_responded and self.is_our_doing():
            await self._give_up()
            return
        if self.place is homeward.Place.HOME and not isinstance(error, ENDS):
            await self._go_home()
            return
        answer = None if self.has_responded else _answer(error)
        if answer is None:
            if isinstance(error, Exception):
                await self._release_or_count()
            raise error
        await self._say(answer)

    def about_to_write(self) -> None:
        """The first time it is decided where this request writes; from then on it stays so.

        Raises GoHomeError when it is at home, as a whole: then nothing that the app says is sent.
        """
        if self.place is homeward.Place.UNDECIDED:
            self.place = homeward.Place.HOME if self._may_go_home() else homeward.Place.HERE
            self.is_held_back = self.is_held_back or self.place is homeward.Place.HOME
        if self.place is not homeward.Place.HERE:
            raise homeward.GoHomeError("this request writes: the home region does all of it")

    async def release(self) -> None:
        """Send what is held as it is."""
        held, self.held = self.held, None
        for message in held or ():
            await (self.transport(message) if self.has_responded else self._begin(message))

    def _begin(self, message: protocol.Message, transport: protocol.Send | None = None) -> Any:
        """The response begins: from here on the request is no longer watched, and positions cannot travel."""
        if self.before_response is not None:
            return self._begin_after(self.before_response, message, transport)
        if self.edge is not None and self.tracker.leaving is not None:
            return self._begin_at_the_edge(self.tracker.leaving, message, transport)
        if self.has_written:
            message = {**message, "headers": [*message.get("headers", ()), *self._position_headers()]}
        if self.recorder is not None:
            message = tracing.onto(message, self)
        self.has_responded = True
        self.deadline = None
        tracker = self.tracker
        tracker.working.discard(self)
        if tracker.door:
            tracker.door.open()
        now = monotonic()
        tracker.meter.answered(message["status"], now - self.began, self.queued_seconds, now)
        return (transport or self.transport)(message)

    async def _begin_after(
        self, before: request.BeforeResponse, message: protocol.Message, transport: protocol.Send | None
    ) -> None:
        """Begin once what must come first is done. What that raises is raised to the app, whose response it ends."""
        self.before_response = None
        headers = await before(message["status"])
        await self._begin({**message, "headers": [*message.get("headers", ()), *headers]}, transport)

    async def _begin_at_the_edge(
        self, leaving: inflight.Leaving, message: protocol.Message, transport: protocol.Send | None
    ) -> None:
        """Begin with what edges have to hear, and with what they must not keep left out."""
        headers = await leaving(self, list(message.get("headers", ())))
        self.edge = None
        await self._begin({**message, "headers": headers}, transport)

    async def _release_or_count(self) -> None:
        """Send what is held before an error goes on to the server; without any, the server's own 500 is the answer."""
        if self.held is None and not self.has_responded:
            now = monotonic()
            self.tracker.meter.answered(500, now - self.began, self.queued_seconds, now)
        await self.release()

    def _position_headers(self) -> protocol.Headers:
        setup = self.tracker.settings
        token = setup.positions.write(self.seen)
        is_secure = self.scope["scheme"] in ("https", "wss")
        carried = cookies.write(token, self.brought, setup, is_secure=is_secure)
        return [(b"x-tenfold-position", token.encode()), *carried]

    def _hold(self, message: protocol.Message) -> Any:
        if self.place is homeward.Place.HOME:
            return _done()
        held = cast("list[protocol.Message]", self.held)
        held.append(message)
        if message.get("more_body", False) or len(message.get("body", b"")) > MOST_HELD_BYTES:
            return self.release()
        return _done()

    def is_our_doing(self) -> bool:
        """Take our own cancellation back; False when somebody else has cancelled the task too, and must be obeyed."""
        if self.watched is None or not self.cuts:
            return True
        for _ in range(self.cuts):
            self.watched.uncancel()
        return self.watched.cancelling() <= self.cancelled_before

    def _may_go_home(self) -> bool:
        if self.tracker.road is None or self.has_written or self.has_responded or self.is_held_back:
            return False
        return self.held is None and homeward.may_go(self.scope)

    async def _go_home(self) -> None:
        """Let the home region answer. What was done here was reading, and is thrown away."""
        self.is_waiting = True
        left_at = monotonic()
        try:
            reply = await self._ask_home()
        except road.UnreachableError as error:
            log.warning("request %s: not sent to the home region: %s; answered 503", self.trace, error)
            await self._say(answers.home_is_away())
        except road.BrokenOffError as error:
            log.warning("request %s: sent to the home region and not answered: %s; answered 502", self.trace, error)
            await self._say(answers.home_broke_off())
        except asyncio.CancelledError:
            if not self.has_expired or not self.is_our_doing():
                raise
            await self._give_up()
        else:
            self.began += monotonic() - left_at  # the home region's time is none of this process's work
            if reply is not None:
                await self._pass_on(reply)
        finally:
            self.is_waiting = False

    async def _ask_home(self) -> road.Reply | None:
        """The home region's answer, once its head is here; None when the client has left before it could be asked."""
        way, scope = self.tracker.road, self.scope
        if way is None:
            raise road.UnreachableError("this region has become the home meanwhile")
        body: bytes | None = b""
        if not incoming.has_no_body(scope):
            kept = self.kept or incoming.Kept(self.source)
            body = await kept.whole()
        if body is None:
            return None
        link = await way.link(self.expires)
        self.place = homeward.Place.SENT
        counters.add("regions.sent_home")
        return await link.ask(scope["method"], homeward.head(scope, body, self._key_of_trace()) + body)

    def _key_of_trace(self) -> protocol.Headers:
        """A request that is traced is traced at home; its header was taken away when it came in."""
        if self.recorder is None:
            return []
        return [(tracing.DEBUG, bindings.debug_key(self.tracker.settings.service.secret).encode())]

    async def _pass_on(self, reply: road.Reply) -> None:
        self.held = self.before_response = self.edge = self.recorder = None
        transport, self.transport = self.transport, _nowhere
        async with aclosing(reply.parts()) as parts:  # type: ignore[type-var]
            start = {"type": "http.response.start", "status": reply.status, "headers": reply.headers}
            await self._begin(start, transport)
            async for part in parts:
                await transport({"type": "http.response.body", "body": part, "more_body": True})
            await transport({"type": "http.response.body", "body": b"", "more_body": False})

    async def _give_up(self) -> None:
        if self.place is homeward.Place.SENT:
            log.warning("request %s: no answer of the home region within its time; answered 504", self.trace)
            await self._say(answers.home_is_late())
            return
        log.warning("request %s: no response within its time; answered 503", self.trace)
        await self._say(answers.too_late(has_written=self.has_written))

    async def _say(self, answer: answers.Answer) -> None:
        """Our own answer, in the place of whatever is held. Nothing that the app still sends comes after it."""
        self.held = self.before_response = None
        transport, self.transport = self.transport, _nowhere
        await self._begin(answer.start, transport)
        await transport(answer.end)


for _field in dataclasses.fields(request.Request):
    if _field.default is not dataclasses.MISSING:
        setattr(Exchange, _field.name, _field.default)


async def _done() -> None:
    """Nothing to wait for."""


async def _nowhere(_: protocol.Message) -> None:
    """Where messages go that come too late."""


def _answer(error: BaseException) -> answers.Answer | None:
    """The answer to an error of ours, which is noted in the log; None for any other."""
    if isinstance(error, answers.RefusedError):
        return error.answer
    answer = answers.to(error)
    if answer is not None:
        own = answers.unwrapped(error)
        level = logging.ERROR if isinstance(own, errors.OutcomeUnknown) else logging.WARNING
        log.log(level, "answered %d: %s: %s", answer.status, type(own).__name__, own)
    return answer
