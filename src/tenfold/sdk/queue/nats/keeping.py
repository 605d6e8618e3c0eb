"""Looking after the home's stream where other regions have queue servers too: one process at home does it.

Owned by `transport`. It says in the database up to where every group has handled all, and lets go what tenfold.relayed
keeps of that; sees that each other region has a copy; and after a change of home brings what is only in the copy, or in
the stream of the former home, to the stream of the new one.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import suppress
from uuid import uuid4

from tenfold import bindings, errors
from tenfold.sdk import counters
from tenfold.sdk.db import connect, primary
from tenfold.sdk.queue import messages, relayed
from tenfold.sdk.queue.nats import consuming, copies, link, naming, publishing, streams, succession

log = logging.getLogger("tenfold.queue")

LOOK_SECONDS = 1.0
"""How often what was handled is noted down."""

REGIONS_EVERY = 5
"""One look in so many is at the other regions, too."""

CLAIM_SECONDS = 10.0
"""A keeper that says nothing for so long is followed by another."""

TAKE_SECONDS = 0.5
MOST = 256
FEED_SECONDS = 2.0
"""How long one look may bring messages from a copy; the next one goes on."""

FEED = "tenfold-feed"

TROUBLE = (errors.TenfoldError, *streams.TROUBLE, *connect.ANSWERS)


class Keeping:
    """`run` is a loop; whoever starts it owns it."""

    def __init__(
        self, shards: primary.Shards, connection: link.Link, sending: publishing.Publishing, names: naming.Names
    ) -> None:
        self._shards = shards
        self._link = connection
        self._publishing = sending
        self._names = names
        self._streams = streams.Streams(connection, names)
        self._id = uuid4()
        self._bound = bindings.Queue()
        self._made_at = ""
        self._claimed_until = 0.0
        self._looks = 0

    def follow(self, bound: bindings.Queue, made_at: str) -> None:
        """The stream that was made then is the home's."""
        if made_at != self._made_at:
            self._claimed_until = 0.0
        self._bound, self._made_at = bound, made_at

    async def run(self) -> None:
        """Look again and again. Never returns."""
        while True:
            await asyncio.sleep(LOOK_SECONDS * (0.75 + random.random() / 2))  # noqa: S311 - spreads work
            if not (self._made_at and copies.is_at_home(self._bound) and self._link.is_up):
                continue
            try:
                await self.look()
            except TROUBLE as error:
                log.info("queue: the stream was not looked after just now: %s", error or type(error).__name__)

    async def look(self) -> bool:
        """One look. False: another process looks after the stream."""
        made_at, now = self._made_at, asyncio.get_running_loop().time()
        if now > self._claimed_until - CLAIM_SECONDS / 2:
            if await relayed.claim(self._shards, made_at, self._id, CLAIM_SECONDS) is None:
                self._claimed_until = now + CLAIM_SECONDS
                return await asyncio.sleep(CLAIM_SECONDS / 2, False)
            self._claimed_until = now + CLAIM_SECONDS
        await self._settle(made_at)
        self._looks += 1
        if self._looks % REGIONS_EVERY == 1:
            for one in self._bound.mirrors:
                try:
                    await self._look_at(one, made_at)
                except TROUBLE as error:
                    log.info("queue: %s has no copy just now: %s", one.name, error or type(error).__name__)
        return True

    async def _settle(self, made_at: str) -> None:
        """What every group has handled needs to be kept no more."""
        stream = await self._streams.info()
        if stream is None or stream["created"] != made_at:
            return
        listeners = await self._streams.listeners()
        groups = [one for one in listeners if "group" in one["config"].get("metadata", {})]
        settled = succession.settled(stream, groups)
        await relayed.settle(self._shards, made_at, settled)
        away = copies.holding_up(stream, listeners, settled)
        if away:
            counters.add("queue.copies_let_go", len(away))
            log.warning("queue: copies in other regions are too far behind, they miss messages that were handled here")
            await self._streams.forget(away)
        gone = await relayed.let_go(self._shards, made_at)
        if gone:
            counters.add("queue.let_go", gone)
            log.warning("queue: %d messages that wait are in no database any more, only on the servers", gone)

    async def _look_at(self, region: bindings.QueueRegion, made_at: str) -> None:
        """It has a copy of ours, and nothing that ours has not got. One that is away holds up nobody."""
        ours = streams.Streams(self._link, self._names._replace(stream=self._names.copy(region.name)))
        theirs = streams.Streams(self._link, self._names, region.domain)
        copy = streams.Streams(
            self._link, self._names._replace(stream=self._names.copy(copies.home(self._bound))), region.domain
        )
        try:
            former = await theirs.info()
        except streams.TROUBLE as error:
            log.debug("queue: %s does not answer: %s", region.name, error)
            if await ours.info() is not None:
                await self._feed(ours)
            return
        if await self._is_brought_home(region, ours, theirs, former):
            wanted = copies.settings(
                self._bound, self._names, copies.home(self._bound), made_at, len(region.nodes) or 1
            )
            await _ensure_copy(copy, wanted)

    async def _is_brought_home(
        self,
        region: bindings.QueueRegion,
        ours: streams.Streams,
        theirs: streams.Streams,
        former: succession.Info | None,
    ) -> bool:
        """Whether nothing is left in a stream that the region had as the home, nor in our copy of that."""
        if former is None and await ours.info() is None:
            return True
        if not await relayed.is_home(self._shards, copies.home(self._bound)):
            return False  # we are told late: what we took for the former home's may be the new one's
        if former is not None:
            await theirs.shut()
            here = len(self._bound.nodes)
            await _ensure_copy(ours, copies.settings(self._bound, self._names, region.name, former["created"], here))
        is_fed = await self._feed(ours)
        if not is_fed or (former is not None and not await _is_whole(ours, theirs)):
            return False
        if former is not None:
            await theirs.delete()
        await ours.delete()
        log.info("queue: all messages of %s are here", region.name)
        return True

    async def _feed(self, ours: streams.Streams) -> bool:
        """Bring what waits in our copy of another stream to the stream; whether that was all."""
        copy = await ours.info()
        if copy is None:
            return True
        if not any(one["name"] == FEED for one in await ours.listeners()):
            first = await relayed.settled(self._shards, copies.source_of(copy)) + 1
            await ours.create(_feeder(first))
        pulling = consuming.Consuming(self._link, ours.names.stream, [FEED], MOST, _nothing)
        until = asyncio.get_running_loop().time() + FEED_SECONDS
        try:
            while asyncio.get_running_loop().time() < until:
                if not any(one["num_pending"] + one["num_ack_pending"] for one in await _feeding(ours)):
                    return True
                with suppress(TimeoutError):
                    async with asyncio.timeout(TAKE_SECONDS):
                        await self._pass_on(pulling, await pulling.take(MOST))
        finally:
            await pulling.close()
        return False

    async def _pass_on(self, pulling: consuming.Consuming, taken: Sequence[messages.Taken]) -> None:
        outcomes = await self._publishing.send([one.envelope for one in taken])
        for one, outcome in zip(taken, outcomes, strict=True):
            if isinstance(outcome, int):
                pulling.acknowledge(one)
            else:
                pulling.give_back(one, 0.0)
        counters.add("queue.brought_home", len(taken))


async def _ensure_copy(copy: streams.Streams, wanted: dict[str, object]) -> None:
    """It is there, as it must be; one of a stream that is not there any more is made anew."""
    found = await copy.info()
    if found is not None and copies.source_of(found) != wanted["metadata"][copies.OF]:  # type: ignore[index]
        await copy.delete()
        found = None
    if found is None or not succession.is_within(wanted, found["config"]):
        await copy.change(wanted, is_new=found is None)


async def _is_whole(ours: streams.Streams, theirs: streams.Streams) -> bool:
    """Whether our copy has all that the other stream has."""
    source, copy = await theirs.info(), await ours.info()
    if source is None or copy is None:
        return source is None
    return int(copy["state"]["last_seq"]) >= int(source["state"]["last_seq"])


async def _feeding(ours: streams.Streams) -> list[succession.Info]:
    return [one for one in await ours.listeners() if one["name"] == FEED]


def _feeder(first: int) -> dict[str, object]:
    return {
        "durable_name": FEED,
        "name": FEED,
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": first,
        "ack_policy": "explicit",
        "ack_wait": int(succession.ACK_SECONDS * succession.SECOND),
        "max_deliver": -1,
    }


async def _nothing() -> None:
    """What is not there is not made."""
