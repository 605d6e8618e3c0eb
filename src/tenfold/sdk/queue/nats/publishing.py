"""Messages to the stream: all that are there at once on their way, each acknowledged by the servers' majority.

Owned by `transport`. A message counts as sent when its acknowledgement is there and not before; whoever sent the others
sends them again, and the stream knows a message's id for two minutes.
"""

import asyncio
import json
from collections.abc import Sequence
from itertools import count

from tenfold import errors
from tenfold.sdk.db import deadline
from tenfold.sdk.queue import messages
from tenfold.sdk.queue.nats import enveloping, link, naming, streams, wire

SEND_SECONDS = 5.0
"""How long a batch may take until its last acknowledgement; a request's deadline may be earlier."""

MOST_UNDER_WAY = 8192
"""Messages without their acknowledgement yet; whoever wants to send more waits for room."""

RESERVED_BYTES = 1024
"""Of the largest message that the servers take, what is left to the line around it."""

Outcome = int | Exception
"""Of one message: the stream's number for it when it is durable (0: nobody asked), else why it may not be."""


class Publishing:
    """Sends batches over one link."""

    def __init__(self, connection: link.Link, names: naming.Names) -> None:
        self._link = connection
        self._names = names
        self.domain = b""
        """The JetStream whose word counts, as answers name it; empty: any. One of another region may hear us, too."""
        self.is_numbering = False
        """Whether anybody wants to know the stream's numbers: to read them costs time."""
        self._inbox = connection.inbox() + b"."
        self._sid = 0
        self._numbers = count(1)
        self._waiting: dict[bytes, tuple[_Batch, int]] = {}
        self._room = asyncio.Event()

    def start(self) -> None:
        """Listen for acknowledgements."""
        self._sid = self._link.listen(self._inbox + b"*", self._answered)
        self._link.on_down.append(self._lost)

    def stop(self) -> None:
        """Listen no more; whoever waits hears that the outcome is not known."""
        self._link.unlisten(self._sid)
        self._link.on_down.remove(self._lost)
        self._lost()

    def fits(self, envelope: messages.Envelope) -> bool:
        """Whether the servers would take it; they end the connection of who sends more."""
        return len(envelope.payload) + _most_head(envelope) + RESERVED_BYTES <= self._link.most_bytes

    async def send(self, batch: Sequence[messages.Envelope]) -> list[Outcome]:
        """The outcome of each message, in order. Raises `TooLarge` before anything is sent; nothing else."""
        for envelope in batch:
            if not self.fits(envelope):
                raise errors.TooLarge(
                    f"message {envelope.id} of {envelope.subject}: a payload of {len(envelope.payload)} bytes and up "
                    f"to {_most_head(envelope)} of headers found, at most {self._link.most_bytes} together expected; "
                    "publish less, or where to find it"
                )
        under_way = _Batch(len(batch))
        try:
            async with asyncio.timeout_at(deadline.limits(SEND_SECONDS).wait):
                await self._say_all(batch, under_way)
                await under_way.ended
        except TimeoutError:
            under_way.give_up(link.LostError("they did not acknowledge it in time"))
        except link.LostError as error:
            under_way.give_up(error)
        finally:
            self._forget(under_way)
        return under_way.outcomes

    async def _say_all(self, batch: Sequence[messages.Envelope], under_way: "_Batch") -> None:
        if not self._link.is_up:
            await self._link.up(SEND_SECONDS)
        for number, envelope in enumerate(batch):
            while len(self._waiting) >= MOST_UNDER_WAY or not self._link.has_room:
                await self._until_room()
            subject, head = enveloping.packed(envelope, self._names)
            reply = b"%b%d" % (self._inbox, next(self._numbers))
            self._link.say(wire.publish(subject, envelope.payload, reply, head))
            self._waiting[reply] = (under_way, number)
            under_way.replies.append(reply)

    async def _until_room(self) -> None:
        """Until an acknowledgement came: with each of them something was written, and something is not awaited."""
        if not self._link.is_up:
            raise link.LostError("the connection broke")
        self._room.clear()
        await self._room.wait()

    def _answered(self, answer: wire.Delivered) -> None:
        if self.domain and b'"domain":"' in answer.payload and self.domain not in answer.payload:
            return
        found = self._waiting.pop(answer.subject, None)
        self._room.set()
        if found is not None:
            under_way, number = found
            if not answer.payload or b'"error"' in answer.payload:
                under_way.ended_one(number, _refusal(answer))
            else:
                under_way.ended_one(number, _sequence(answer.payload) if self.is_numbering else 0)

    def _lost(self) -> None:
        """The connection broke: what it had not acknowledged may be there or not."""
        waiting, self._waiting = self._waiting, {}
        self._room.set()
        for under_way, number in waiting.values():
            under_way.ended_one(number, link.LostError("the connection broke before they acknowledged it"))

    def _forget(self, under_way: "_Batch") -> None:
        if under_way.left:
            for reply in under_way.replies:
                self._waiting.pop(reply, None)
            self._room.set()


class _Batch:
    """Messages that are waited for together."""

    __slots__ = ("ended", "left", "outcomes", "replies")

    def __init__(self, size: int) -> None:
        self.outcomes: list[Outcome] = [link.LostError("it was not sent")] * size
        self.left = size
        self.replies: list[bytes] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not size:
            self.ended.set_result(None)

    def ended_one(self, number: int, outcome: Outcome) -> None:
        self.outcomes[number] = outcome
        self.left -= 1
        if not self.left and not self.ended.done():
            self.ended.set_result(None)

    def give_up(self, error: Exception) -> None:
        """What has no outcome yet has this one."""
        self.outcomes = [error if isinstance(one, link.LostError) else one for one in self.outcomes]


def _most_head(envelope: messages.Envelope) -> int:
    """The bytes of its headers, if every character had to be escaped."""
    return sum(len(name) + 3 * len(value) + 4 for name, value in envelope.headers.items())


def _sequence(payload: bytes) -> int:
    """In `{"stream":"tenfold-shop", "domain":"seoul", "seq":7, "duplicate":true}`."""
    return int(payload.partition(b'"seq":')[2].partition(b",")[0].rstrip(b"}"))


def _refusal(answer: wire.Delivered) -> Exception:
    """Why a message was not taken. Without an answer of JetStream's nobody listens: there is no such stream now."""
    if not answer.payload:
        return streams.RefusedError(503, streams.NO_STREAM, "no stream takes this subject")
    return streams.refused(json.loads(answer.payload))
