"""How a read is answered: from this process, by a load that runs, or by one of its own.

Called by `cache` and `cached`. Whatever is handed out was judged by the floors for the session that asks, or was loaded
for it. The rules of time are `policy`'s, those of freshness `floors`', what a load does is `fetching`'s.
"""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from typing import Any

from tenfold import errors, position, request, spans
from tenfold.sdk import db
from tenfold.sdk.cache import fetching, loads, local, parts, policy, tally
from tenfold.sdk.cache.fetching import Ask
from tenfold.sdk.cache.local import Kept
from tenfold.sdk.cache.parts import Verdict
from tenfold.sdk.cache.policy import Use
from tenfold.sdk.db import deadline

log = logging.getLogger("tenfold.cache")

SHARD = 0
"""There is one shard so far."""

BEHIND_SECONDS = 30.0
"""How long a load may take that nobody waits for, when its policy does not say."""

PAUSE_SECONDS = 1.0
"""After a load that failed behind, how long the old value is served before the next try."""

MOST_JOINED = 2
"""After so many loads of others whose value is older than what this session has written, it loads for itself."""


class Reading:
    """The roads to a value. Made by `cache`, one a `Tenfold`."""

    def __init__(self, database: db.Database, kept: local.Local, floors: parts.Floors, shared: parts.Shared) -> None:
        self._database = database
        self.local = kept
        self.floors = floors
        self.tally = tally.Tally()
        self._fetching = fetching.Fetching(kept, floors, shared, self.tally)
        self.loads = self._fetching.loads
        self.put = self._fetching.put

    async def read(self, ask: Ask) -> Kept:
        """The value, loaded if it must be. Raises what the loader raises, `Overloaded`, `DeadlineExceeded`."""
        serving = self._arrived()
        with request.recording().span("cache", ask.name) as span:
            until = _until(serving)
            wanted = self.wanted(serving)
            kept = await self._own(ask, wanted, until, span)
            if kept is None:
                self.tally.misses += 1
                kept = await self._load(ask, serving, wanted, until)
            if isinstance(serving, loads.LoadRequest):
                serving.made_of(kept.entry)
            return kept

    async def peek(self, ask: Ask) -> Kept | None:
        """What is kept here or in the servers and may be used; None else. Loads nothing."""
        serving = self._arrived()
        with request.recording().span("cache", ask.name) as span:
            until, wanted = _until(serving), self.wanted(serving)
            kept = await self._own(ask, wanted, until, span)
            if kept is None:
                self.tally.misses += 1
                kept = await self._fetching.from_shared(ask, wanted, until)
            if kept is not None and isinstance(serving, loads.LoadRequest):
                serving.made_of(kept.entry)
            return kept

    async def refresh(self, ask: Ask) -> Any:
        """The value, loaded now whatever is kept; it takes the place of that."""
        serving = self._arrived()
        with request.recording().span("cache", ask.name) as span:
            span.decide("loaded, because the app asked for it")
            flight = self._begin(ask, serving, lambda flight: self._fetching.anew(ask, flight))
            kept = await self.loads.wait(flight, serving, self._load_until(ask, _until(serving)))
            return kept.give()

    def wanted(self, serving: request.Request | None) -> position.Position | None:
        """How far this session has come; None: it has written nothing."""
        if isinstance(serving, loads.LoadRequest) and not serving.has_written:
            return serving.wanted.get(SHARD)
        return (self._database.shards.outside if serving is None else serving).seen.get(SHARD)

    async def invalidate(self, *, tags: Sequence[str] = (), keys: Sequence[str] = ()) -> None:
        """Make what is kept under these stale in every process. Raises what `tf.db.run` raises."""
        await self.floors.invalidate(tags=tags, keys=keys)

    def bounds(self) -> dict[str, position.Position]:
        """By node, how far it had surely come by now: what is read from it later reflects at least that."""
        shard = self._database.shards.shard(SHARD)
        found = {name: node.position() for name, node in shard.nodes.items()}
        return {name: at for name, at in found.items() if at is not None}

    def stamp(self, bounds: dict[str, position.Position]) -> position.Position | None:
        """A stamp for what this request has read since those bounds were taken, from the nodes that it reads."""
        serving = request.current()
        pinned = None if serving is None else serving.pinned.get(SHARD)
        primary = self._database.shards.shard(SHARD).primary
        names = bounds.keys() if pinned is None else {pinned, *([primary.name] if primary is not None else [])}
        if not names or not names <= bounds.keys():
            return None
        return min((bounds[name] for name in names), key=lambda at: (at.epoch, at.timeline, at.lsn))

    def _arrived(self) -> request.Request | None:
        """The request that asks. Raises `NotStarted` before the start, `WrongLoop` elsewhere than on its loop."""
        self._database.shards.shard(SHARD)
        return request.current()

    async def _own(
        self, ask: Ask, wanted: position.Position | None, until: float, span: spans.Recording
    ) -> Kept | None:
        """What this process keeps, if this session may have it; what is old is loaded anew behind or in between."""
        kept = self.local.get(ask.place)
        if kept is None:
            span.decide("a miss: this process does not keep it")
            return None
        version = self.floors.version
        verdict = await self._fetching.judge(kept.entry, wanted, until)
        if verdict is not Verdict.FRESH:
            self._refuse(kept, verdict)
            span.decide(f"a miss: {verdict.value}")
            return None
        now, entry = time.time(), kept.entry
        use = policy.use(
            ask.policy, made_at=entry.made_at, fresh_until=entry.fresh_until, dies_at=entry.dies_at,
            cost=entry.cost, now=now,
        )  # fmt: skip
        if use is Use.DEAD:
            self.local.drop(kept)
            span.decide("a miss: it has expired")
            return None
        kept.version = version
        self.local.hit(kept)
        if use is Use.FRESH:
            self.tally.local_hits += 1
            span.decide("a hit in this process")
            return kept
        return await self._old(ask, kept, use, now, until, span)

    async def _old(self, ask: Ask, kept: Kept, use: Use, now: float, until: float, span: spans.Recording) -> Kept:
        """A value whose time is over, or nearly: it is served, and loaded anew."""
        if use is Use.STALE:
            self.tally.stale_served += 1
        else:
            self.tally.local_hits += 1
        span.decide(f"a hit in this process, {use.value}")
        if ask.load is None or now < kept.retry_at:
            return kept
        self._renew(ask, kept)
        flight = self.loads.under_way(ask.place)
        if use is Use.AHEAD or not ask.policy.soft_timeout or flight is None:
            return kept
        try:
            soft = asyncio.get_running_loop().time() + ask.policy.soft_timeout
            found = await self.loads.wait(flight, None, min(until, soft))
        except errors.MisuseError:
            raise
        except Exception:  # noqa: BLE001 - whatever it is: there is an old value for that
            return kept
        span.decide("a miss: expired, and loaded anew in time")
        return found

    def _refuse(self, kept: Kept, verdict: Verdict) -> None:
        if verdict is Verdict.STALE:
            self.local.drop(kept)
            self.tally.refused_by_floor += 1
        elif verdict is Verdict.OLDER:
            self.tally.behind_session += 1
        else:
            self.tally.untrusted += 1

    async def _load(
        self, ask: Ask, serving: request.Request | None, wanted: position.Position | None, until: float
    ) -> Kept:
        """The value from somewhere else: of a load that runs, if this session may have what comes of it; or its own."""
        until = self._load_until(ask, until)
        for joined in range(MOST_JOINED + 1):
            flight = self.loads.under_way(ask.place) if joined < MOST_JOINED else None
            if flight is None:
                flight = self._begin(ask, serving, lambda flight: self._fetching.fetch(ask, flight, wanted))
                kept = await self.loads.wait(flight, serving, until)
                self._tell(flight, serving)
                break
            try:
                kept = await self.loads.wait(flight, serving, until)
            except errors.TryAgain:
                if asyncio.get_running_loop().time() >= until:
                    raise
                continue  # it was over for those for whom it had begun
            if await self._fetching.judge(kept.entry, wanted, until) is Verdict.FRESH:
                break
        if time.time() >= kept.entry.fresh_until and self.local.get(ask.place) is kept:
            self._renew(ask, kept)  # the servers had an old one
        return kept

    def _begin(self, ask: Ask, serving: request.Request | None, body: loads.Body) -> loads.Flight:
        """A load with a request of its own, which has seen what its caller has."""
        caller = self._database.shards.outside if serving is None else serving
        made = loads.LoadRequest(
            deadline=asyncio.get_running_loop().time(),
            trace=caller.trace,
            seen=caller.seen,
            is_known=caller.is_known,
            recorder=caller.recorder,
        )
        made.wanted = caller.wanted if isinstance(caller, loads.LoadRequest) else caller.seen
        return self.loads.begin(ask.place, made, body)

    def _renew(self, ask: Ask, kept: Kept) -> None:
        """Load it anew, unless that is under way. Nobody waits for it: it is its own caller."""
        if self.loads.under_way(ask.place) is not None or ask.load is None:
            return
        until = self._load_until(ask, asyncio.get_running_loop().time() + BEHIND_SECONDS)
        made = loads.LoadRequest(deadline=until)
        flight = self.loads.begin(
            ask.place, made, lambda flight: self._fetching.fetch(ask, flight, None, is_behind=True), is_behind=True
        )
        self.tally.refreshes += 1
        self.loads.behind(self._renewed(ask, flight, kept, until))

    async def _renewed(self, ask: Ask, flight: loads.Flight, kept: Kept, until: float) -> None:
        try:
            await self.loads.wait(flight, None, until)
        except Exception as error:  # noqa: BLE001 - there is an old value: nobody else hears of it
            kept.retry_at = time.time() + PAUSE_SECONDS
            log.warning("cache: %s was not loaded anew: %s: %s", ask.name, type(error).__name__, error)

    def _tell(self, flight: loads.Flight, serving: request.Request | None) -> None:
        """A loader that writes, writes for the session that it loads for."""
        if flight.request.has_written:
            for at in flight.request.seen.values():
                (serving or self._database.shards.outside).wrote(at)

    def _load_until(self, ask: Ask, until: float) -> float:
        if ask.policy.timeout is None:
            return until
        return min(until, asyncio.get_running_loop().time() + ask.policy.timeout)


def _until(serving: request.Request | None) -> float:
    """When the caller must have its answer, as `loop.time()`; `math.inf` outside a request."""
    until = deadline.cut_at(serving)
    return math.inf if until == deadline.NEVER else until
