"""One subscription's messages from its consumers on the servers: asked for in batches, as many as can be held.

Made by `transport`. Every request has a heartbeat: a consumer that falls silent (its server died, its stream was lost)
is asked anew after a few seconds, whatever the connection looks like. What is held is kept alive by `keep`, what waits
here unseen by ourselves. Acknowledgements are sent with all else that a turn of the loop says.
"""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from tenfold.kit import backoff
from tenfold.sdk import counters
from tenfold.sdk.queue import messages, transport
from tenfold.sdk.queue.nats import enveloping, link, streams, succession, wire

HEARTBEAT_SECONDS = 2.0
"""How often the servers say of a request for which there is no message that they still know it."""

SILENCE_SECONDS = 5.0
"""Without a word for so long a request is taken for lost."""

ASK_SECONDS = 30.0
"""How long a request waits for messages before it is made again."""

LOOK_SECONDS = 1.0

FLUSH_SECONDS = 2.0

LANE_MESSAGES = 8
"""Asked of a lane at once. The servers give one, and the next when that is settled."""

LONG_SECONDS = 20.0
"""What is to be tried again later than this waits in the database: the servers would count it as under way."""

PAUSE = backoff.Backoff(first_seconds=0.1, most_seconds=5.0)

ACKNOWLEDGE, KEEP, GIVE_BACK = b"", b"+WPI", b"-NAK"

ENDED = frozenset(("404", "408"))
"""A request's time is over, or it found nothing. Every other status is trouble: the consumer or its leader is gone."""

Repair = Callable[[], Awaitable[None]]
"""Makes sure that the stream and the consumers are there. Raises what `streams.TROUBLE` names."""

Postpone = Callable[[messages.Taken, float], Awaitable[bool]]
"""Puts a message into the database until so many seconds have passed; False when it could not."""


class Pulled(messages.Taken):
    """A message of ours, with the subject that settles it."""

    __slots__ = ("came_at", "is_settled", "reply")

    def __init__(self, envelope: messages.Envelope, source: enveloping.Source, reply: bytes, came_at: float) -> None:
        super().__init__(envelope, source.attempt, source.published_at)
        self.reply = reply
        self.came_at = came_at
        self.is_settled = False


class Consuming:
    """The messages of one consumer, or of a group's lanes; `transport.Consumer` says what each method promises."""

    handled = transport.INBOX

    def __init__(
        self,
        connection: link.Link,
        stream: str,
        consumers: Sequence[str],
        most: int,
        repair: Repair,
        postpone: Postpone | None = None,
    ) -> None:
        self._link = connection
        self._most = most
        self._repair = repair
        self._postpone = postpone
        self._loop = asyncio.get_running_loop()
        self._lanes = [_Lane(one, stream, connection, self._heard) for one in consumers]
        self._waiting: deque[Pulled] = deque()
        """Here, and not taken yet."""
        self._held = 0
        """Taken, and not settled yet."""
        self._arrived = asyncio.Event()
        self._acknowledged: list[bytes] = []
        """Said since the server has last confirmed that it heard us: said again on the next connection."""
        self._confirming: asyncio.Task[None] | None = None
        self._postponing: set[asyncio.Task[None]] = set()
        self._repairing: asyncio.Task[None] | None = None
        self._troubles = 0
        """Repairs since a consumer has last answered as it should."""
        self._is_closing = False
        connection.on_up.append(self._came_up)
        connection.on_down.append(self._went_down)
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)
        self._repair_soon()

    @property
    def ready(self) -> int:
        """How many messages are here and not taken."""
        return len(self._waiting)

    async def take(self, most: int) -> Sequence[messages.Taken]:
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        self._held += len(taken)
        return taken

    def acknowledge(self, taken: messages.Taken) -> None:
        self._settle(taken, ACKNOWLEDGE)

    def give_back(self, taken: messages.Taken, after_seconds: float) -> None:
        if self._postpone is not None and after_seconds > LONG_SECONDS:
            task = self._loop.create_task(self._put_off(taken, after_seconds), name="tenfold-queue-postpone")
            self._postponing.add(task)
            task.add_done_callback(self._postponing.discard)
        else:
            self._settle(taken, _give_back(after_seconds))

    def keep(self, held: Sequence[messages.Taken]) -> None:
        for taken in held:
            if isinstance(taken, Pulled) and not taken.is_settled:
                self._say(taken.reply, KEEP)

    async def settled(self) -> None:
        if self._postponing:
            await asyncio.wait(list(self._postponing))
        while self._confirming is not None:  # it may have begun before the last words
            await asyncio.wait([self._confirming])
        await asyncio.wait([self._begin_confirming()])

    async def close(self) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        self._timer.cancel()
        if self._repairing is not None:
            self._repairing.cancel()
        for lane in self._lanes:
            lane.leave()
        while self._waiting:
            self._say(self._waiting.popleft().reply, GIVE_BACK)
        await self.settled()  # the servers have heard that we left: nothing comes after their answer
        for lane in self._lanes:
            lane.forget()
        with suppress(link.LostError, TimeoutError):
            await self._link.flush(FLUSH_SECONDS)
        self._link.on_up.remove(self._came_up)
        self._link.on_down.remove(self._went_down)

    def _heard(self, lane: "_Lane", delivered: wire.Delivered) -> None:
        """A message, or a word about a request of ours."""
        lane.heard_at = self._loop.time()
        status = wire.status(delivered.head) if delivered.head else ""
        if status:
            self._heard_status(lane, status, delivered)
            return
        lane.asked = max(0, lane.asked - 1)
        self._troubles = 0
        if self._is_closing:
            self._say(delivered.reply, GIVE_BACK)
            return
        source = enveloping.source(delivered.reply)
        envelope = enveloping.unpacked(delivered, source)
        self._waiting.append(Pulled(envelope, source, delivered.reply, lane.heard_at))
        self._arrived.set()

    def _heard_status(self, lane: "_Lane", status: str, delivered: wire.Delivered) -> None:
        if status == "100":
            self._troubles = 0
            return
        left = wire.headers(delivered.head).get("nats-pending-messages", "")
        lane.asked = max(0, lane.asked - int(left)) if left.isdecimal() else 0
        if status in ENDED:
            self._ask()
        else:
            counters.add("queue.nats_asked_anew")
            self._repair_soon()

    def _settle(self, taken: messages.Taken, word: bytes) -> None:
        assert isinstance(taken, Pulled)
        if taken.is_settled:
            return
        taken.is_settled = True
        self._held -= 1
        self._say(taken.reply, word)
        self._ask()

    def _say(self, reply: bytes, word: bytes) -> None:
        """Only what ends a message for good can be said twice: what was given back may be in other hands already."""
        data = wire.publish(reply, word)
        if word == ACKNOWLEDGE:
            self._acknowledged.append(data)
        if self._link.is_up:
            self._link.say(data)

    def _ask(self) -> None:
        """Ask for as many as may come: when there is room for half of them, or nothing is asked for."""
        if self._is_closing or self._repairing is not None or not self._link.is_up:
            return
        if len(self._lanes) > 1:
            for lane in self._lanes:
                if not lane.asked:
                    lane.ask(LANE_MESSAGES, self._loop.time())
            return
        lane = self._lanes[0]
        room = self._most - self._held - len(self._waiting) - lane.asked
        if room > 0 and (not lane.asked or room * 2 >= self._most):
            lane.ask(room, self._loop.time())

    def _look(self) -> None:
        """Once a second: is what we asked for still known, is what waits here still ours?"""
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)
        now = self._loop.time()
        silent = [one for one in self._lanes if one.asked and now - one.heard_at > SILENCE_SECONDS]
        if silent and self._link.is_up and self._repairing is None:
            counters.add("queue.nats_silences")
            for lane in silent:
                lane.renew()
            self._repair_soon()
        for waiting in self._waiting:
            if now - waiting.came_at > transport.KEEP_SECONDS:
                waiting.came_at = now
                self._say(waiting.reply, KEEP)
        if self._acknowledged and self._confirming is None:
            self._begin_confirming()
        self._ask()

    def _begin_confirming(self) -> asyncio.Task[None]:
        """Never two at once: each takes away as many as it has counted."""
        self._confirming = self._loop.create_task(self._confirm(), name="tenfold-queue-confirm")
        return self._confirming

    async def _confirm(self) -> None:
        """What was said before the server's answer needs not to be said again."""
        count = len(self._acknowledged)
        try:
            with suppress(link.LostError, TimeoutError):
                await self._link.flush(FLUSH_SECONDS)
                del self._acknowledged[:count]
        finally:
            self._confirming = None

    def _came_up(self) -> None:
        for data in self._acknowledged:
            self._link.say(data)
        self._repair_soon()

    def _went_down(self) -> None:
        for lane in self._lanes:
            lane.asked = 0

    def _repair_soon(self) -> None:
        if self._repairing is None and not self._is_closing:
            self._repairing = self._loop.create_task(self._until_repaired(), name="tenfold-queue-repair")

    async def _until_repaired(self) -> None:
        """Until stream and consumers are there, however long that takes; then ask again."""
        try:
            while True:
                if self._troubles:
                    await asyncio.sleep(PAUSE.seconds(self._troubles))
                self._troubles += 1
                with suppress(*streams.TROUBLE):
                    await self._repair()
                    break
        finally:
            self._repairing = None
        self._ask()

    async def _put_off(self, taken: messages.Taken, after_seconds: float) -> None:
        assert self._postpone is not None
        is_kept = await self._postpone(taken, after_seconds)
        self._settle(taken, ACKNOWLEDGE if is_kept else _give_back(after_seconds))


class _Lane:
    """One consumer on the servers, and what we have asked of it."""

    __slots__ = ("_heard", "_inbox", "_link", "_sid", "_subject", "asked", "heard_at")

    def __init__(
        self,
        consumer: str,
        stream: str,
        connection: link.Link,
        heard: Callable[["_Lane", wire.Delivered], None],
    ) -> None:
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}".encode()
        self._link = connection
        self._heard = heard
        self._inbox = b""
        self._sid = 0
        self.asked = 0
        """Messages that the servers may still send without being asked again."""
        self.heard_at = 0.0
        self.renew()

    def ask(self, most: int, now: float) -> None:
        """Ask for up to `most` messages more."""
        if not self.asked:
            self.heard_at = now
        self.asked += most
        self._link.say(wire.publish(self._subject, _request(most), self._inbox))

    def renew(self) -> None:
        """What was asked for counts no more, and what is still sent for it goes to nobody."""
        self._link.unlisten(self._sid)
        self.asked = 0
        self._inbox = self._link.inbox()
        self._sid = self._link.listen(self._inbox, self._take)

    def leave(self) -> None:
        """Let the servers send no more. What is on its way still arrives."""
        with suppress(link.LostError):
            self._link.say(wire.unsubscribe(self._sid))

    def forget(self) -> None:
        """Nothing is on its way any more."""
        self._link.unlisten(self._sid)

    def _take(self, delivered: wire.Delivered) -> None:
        self._heard(self, delivered)


_requests: dict[int, bytes] = {}


def _request(most: int) -> bytes:
    """The body of a request for so many messages; there are few different ones."""
    if most not in _requests:
        nanoseconds = succession.SECOND
        body = {
            "batch": most,
            "expires": int(ASK_SECONDS * nanoseconds),
            "idle_heartbeat": int(HEARTBEAT_SECONDS * nanoseconds),
        }
        _requests[most] = json.dumps(body).encode()
    return _requests[most]


def _give_back(after_seconds: float) -> bytes:
    if after_seconds <= 0:
        return GIVE_BACK
    return b'-NAK {"delay": %d}' % int(after_seconds * succession.SECOND)
