"""How a read is answered: from this process, from the cache's servers, or by a load; and what of it is kept.

Called by `cache` and `cached`. Whatever is handed out was judged by the floors for the session that asks, or was loaded
for it. The rules of time are `policy`'s, those of freshness `floors`', loads are `loads`'.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tenfold import errors, position, request, spans
from tenfold.sdk import db
from tenfold.sdk.cache import leases, loading, loads, local, parts, policy, tally, values
from tenfold.sdk.cache.entries import Entry
from tenfold.sdk.cache.local import Kept
from tenfold.sdk.cache.parts import Verdict
from tenfold.sdk.cache.policy import Use
from tenfold.sdk.db import deadline

SHARD = 0
"""There is one shard so far."""

STAMP_SECONDS = 1.0
"""How long a load waits to learn how far its node has come. Without that it goes on, and hardly anybody may use it."""

BEHIND_SECONDS = 30.0
"""How long a load may take that nobody waits for, when its policy does not say."""

PAUSE_SECONDS = 1.0
"""After a load that failed behind, how long the old value is served before the next try."""

MOST_JOINED = 2
"""After so many loads of others whose value is older than what this session has written, it loads for itself."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to the cache, with all that an answer may need."""

    key: str
    name: str
    """What a trace calls it: the pattern. Keys hold users' values."""
    policy: policy.Policy
    codec: values.Codec
    tags: tuple[str, ...] = ()
    load: Callable[[], Awaitable[Any]] | None = None

    @property
    def place(self) -> str:
        """Where it is kept: what is stale goes by the key, what is kept by the version too."""
        return f"{self.key}@{self.policy.version}" if self.policy.version else self.key


class Reading:
    """The roads to a value. Made by `cache`, one a `Tenfold`."""

    def __init__(self, database: db.Database, kept: local.Local, floors: parts.Floors, shared: parts.Shared) -> None:
        self._database = database
        self.local = kept
        self.floors = floors
        self.shared = shared
        self.loads = loads.Loads()
        self.tally = tally.Tally()

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
                kept = await self._from_shared(ask, wanted, until)
            if kept is not None and isinstance(serving, loads.LoadRequest):
                serving.made_of(kept.entry)
            return kept

    async def refresh(self, ask: Ask) -> Any:
        """The value, loaded now whatever is kept; it takes the place of that."""
        serving = self._arrived()
        with request.recording().span("cache", ask.name) as span:
            span.decide("loaded, because the app asked for it")
            flight = self._begin(ask, serving, lambda flight: self._anew(ask, flight))
            kept = await self.loads.wait(flight, serving, self._load_until(ask, _until(serving)))
            return kept.give()

    async def put(self, ask: Ask, value: Any, stamp: position.Position | None) -> None:
        """Keep a value that was not loaded here. `stamp`: how far the node had come that it was read from."""
        packed = ask.codec.encode(value)
        if len(packed) > values.MOST_BYTES:
            raise errors.TooLarge(
                f"cache: a value of {len(packed)} bytes found, {values.MOST_BYTES} at most expected; keep its parts"
            )
        load = loading.Loading(ask.policy, ask.tags)
        slots = self.floors.slots_of(ask.key, ask.tags)
        entry = _entry(load, packed, stamp, slots, 0.0, is_negative=value is None)
        if entry.dies_at > entry.made_at:
            verdict = self._keep(ask, self._made(ask, entry, value))
            if self.shared.is_there and verdict is not Verdict.STALE:
                await self.shared.set(ask.place, entry, None)

    def wanted(self, serving: request.Request | None) -> position.Position | None:
        """How far this session has come; None: it has written nothing."""
        if isinstance(serving, loads.LoadRequest):
            return serving.wanted.get(SHARD)
        return (self._database.shards.outside if serving is None else serving).seen.get(SHARD)

    async def invalidate(self, *, tags: Sequence[str] = (), keys: Sequence[str] = ()) -> None:
        """Make what is kept under these stale in every process. Raises what `tf.db.run` raises."""
        await self.floors.invalidate(tags=tags, keys=keys)

    def bounds(self) -> dict[str, position.Position]:
        """By node, how far it had surely come by now: what is read from it later reflects at least that."""
        shard = self._database.shards.shard(SHARD)
        found = {name: node.position(shard.epoch) for name, node in shard.nodes.items()}
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
        verdict = await self._judge(kept.entry, wanted, until)
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

    async def _judge(self, entry: Entry, wanted: position.Position | None, until: float) -> Verdict:
        """The floors' word, once they know enough to give one."""
        verdict = self.floors.judge(entry, wanted)
        is_blind = verdict is Verdict.BEHIND or verdict is Verdict.UNTRUSTED
        if is_blind and await self.floors.reach(wanted, until):
            verdict = self.floors.judge(entry, wanted)
        return verdict

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
                flight = self._begin(ask, serving, lambda flight: self._fetch(ask, flight, wanted))
                kept = await self.loads.wait(flight, serving, until)
                self._tell(flight, serving)
                break
            kept = await self.loads.wait(flight, serving, until)
            if await self._judge(kept.entry, wanted, until) is Verdict.FRESH:
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
            ask.place, made, lambda flight: self._fetch(ask, flight, None, is_behind=True), is_behind=True
        )
        self.tally.refreshes += 1
        self.loads.behind(self._renewed(flight, kept, until))

    async def _renewed(self, flight: loads.Flight, kept: Kept, until: float) -> None:
        try:
            await self.loads.wait(flight, None, until)
        except Exception:
            kept.retry_at = time.time() + PAUSE_SECONDS
            raise

    async def _fetch(
        self, ask: Ask, flight: loads.Flight, wanted: position.Position | None, *, is_behind: bool = False
    ) -> Kept:
        """The body of a load: another process may have it already, or be at it."""
        if not self.shared.is_there:
            return await self._run(ask, flight, None)
        if not is_behind and (wanted is not None or not self.floors.is_trusted):
            found = await self._from_shared(ask, wanted, flight.until)
            if found is not None:
                return found

        def is_usable(entry: Entry) -> bool:
            return self._is_usable(ask, entry, wanted, is_behind=is_behind)

        got = await self.shared.find(ask.place, flight.until, is_usable)
        if isinstance(got, Entry):
            kept = self._read(ask, got)
            if kept is not None:
                self.tally.shared_used += 1
                request.recording().decide("a hit in the cache's servers")
                return kept
            got = await self.shared.lease(ask.place)
        return await self._run(ask, flight, got)

    async def _anew(self, ask: Ask, flight: loads.Flight) -> Kept:
        """The body of a load that was asked for."""
        return await self._run(ask, flight, await self.shared.lease(ask.place) if self.shared.is_there else None)

    async def _from_shared(self, ask: Ask, wanted: position.Position | None, until: float) -> Kept | None:
        """What the servers keep, if this session may have it now."""
        if not self.shared.is_there:
            return None
        entry = await self.shared.get(ask.place, until)
        if entry is None or await self._judge(entry, wanted, until) is not Verdict.FRESH:
            return None
        kept = self._read(ask, entry)
        self.tally.shared_used += kept is not None
        return kept

    def _is_usable(self, ask: Ask, entry: Entry, wanted: position.Position | None, *, is_behind: bool) -> bool:
        """Whether an entry of the servers will do: for a load behind only one that was loaded anew by another."""
        if not self.floors.allows(entry, wanted):
            return False
        use = policy.use(
            ask.policy, made_at=entry.made_at, fresh_until=entry.fresh_until, dies_at=entry.dies_at,
            cost=entry.cost, now=time.time(),
        )  # fmt: skip
        return use is Use.FRESH or (not is_behind and use is not Use.DEAD)

    def _read(self, ask: Ask, entry: Entry) -> Kept | None:
        """What the servers gave, kept here too; None when these bytes are not of the type that is expected."""
        try:
            value = None if values.reason(entry.packed) is not None else ask.codec.decode(entry.packed)
        except values.UNREADABLE:
            self.tally.unreadable += 1
            return None
        kept = self._made(ask, entry, value)
        self._keep(ask, kept)
        return kept

    async def _run(self, ask: Ask, flight: loads.Flight, lease: leases.Lease | None) -> Kept:
        """Call the loader, and keep what it returns as long as nothing has made it stale meanwhile."""
        try:
            async with self.loads.turn(flight):
                with request.recording().span("load", ask.name):
                    entry, kept = await self._loaded(ask, flight)
        except BaseException:
            self.tally.loads_failed += 1
            if lease is not None:
                await self.shared.give_back(lease)
            raise
        verdict = Verdict.STALE if entry is None else self._keep(ask, kept)
        if entry is not None and verdict is not Verdict.STALE and self.shared.is_there:
            self.loads.behind(self.shared.set(ask.place, entry, lease))
        elif lease is not None:
            self.loads.behind(self.shared.give_back(lease))
        self.tally.loads_not_kept += verdict is Verdict.STALE
        return kept

    async def _loaded(self, ask: Ask, flight: loads.Flight) -> tuple[Entry | None, Kept]:
        """The value as an entry; None in its place when it is not to be kept."""
        assert ask.load is not None
        loop = asyncio.get_running_loop()
        made = flight.request
        made.stamp = await self.floors.stamp(made, min(flight.until, loop.time() + STAMP_SECONDS))
        made.is_known = True  # a hit inside the load must be looked at: it is part of this value
        load, value, began = loading.Loading(ask.policy, ask.tags), None, loop.time()
        token = loading.current.set(load)
        self.tally.loads += 1
        try:
            value = await ask.load()
            packed = ask.codec.encode(value)
        except errors.NotFound as error:
            packed = values.not_found(error)
        finally:
            loading.current.reset(token)
        is_negative = value is None
        slots = self.floors.slots_of(ask.key, load.tags)
        slots = (*slots, *made.slots) if load.tags else slots
        entry = _entry(load, packed, made.stamp, slots, loop.time() - began, is_negative=is_negative)
        is_kept = len(packed) <= values.MOST_BYTES and entry.dies_at > entry.made_at
        return entry if is_kept else None, self._made(ask, entry, value)

    def _made(self, ask: Ask, entry: Entry, value: Any) -> Kept:
        """As it is kept here: the object itself only when nobody can change it, or everybody promised not to."""
        is_value = values.reason(entry.packed) is None
        is_live = is_value and (ask.policy.shared or ask.codec.is_fixed(value))
        return Kept(ask.place, entry, ask.codec, value, is_live=is_live)

    def _keep(self, ask: Ask, kept: Kept) -> Verdict:
        """Keep it here if it is fresh, and not older than what is here."""
        version, entry = self.floors.version, kept.entry
        verdict = self.floors.judge(entry, None)
        now = time.time()
        if verdict is Verdict.FRESH and now < entry.dies_at and not self._is_outdone(kept, now):
            kept.version = version
            kept.until = policy.carefree_until(
                ask.policy, made_at=entry.made_at, fresh_until=entry.fresh_until, cost=entry.cost
            )
            self.local.keep(kept, now)
        return verdict

    def _is_outdone(self, kept: Kept, now: float) -> bool:
        """Whether what is kept already reflects more: a load that was slower came later."""
        old, new = self.local.get(kept.key), kept.entry.stamp
        if old is None or now >= old.entry.fresh_until or old.entry.stamp is None or new is None:
            return False
        return position.later(old.entry.stamp, new) != new

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


def _entry(
    load: loading.Loading,
    packed: bytes,
    stamp: position.Position | None,
    slots: tuple[int, ...],
    cost: float,
    *,
    is_negative: bool,
) -> Entry:
    """As the policy and the loader want it. One that dies at once is not kept."""
    fresh, stale = load.life(is_negative=is_negative)
    now = time.time()
    return Entry(packed, stamp, slots, now, now + fresh, now + fresh + (stale if fresh else 0.0), cost)
