"""What a load does, and what of its value is kept: here, and in the cache's servers.

Called by `reading`, which decides when to load and who may have the value. The order is what keeps it right: the node
is pinned and asked how far it has come, then the loader reads, then the floors are asked, then it is kept.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tenfold import errors, position, request
from tenfold.sdk.cache import leases, loading, loads, local, parts, policy, tally, values
from tenfold.sdk.cache.entries import Entry
from tenfold.sdk.cache.local import Kept
from tenfold.sdk.cache.parts import Verdict
from tenfold.sdk.cache.policy import Use

STAMP_SECONDS = 1.0
"""How long a load waits to learn how far its node has come. Without that it goes on, and hardly anybody may use it."""


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

    def packed(self, value: Any) -> bytes:
        """The value as bytes. Raises `NotEncodable`, `TooLarge`."""
        found = self.codec.encode(value)
        if len(found) > values.MOST_BYTES:
            raise errors.TooLarge(
                f"cache: a value of {len(found)} bytes found, {values.MOST_BYTES} at most expected; keep its parts"
            )
        return found


class Fetching:
    """The body of every load."""

    def __init__(self, kept: local.Local, floors: parts.Floors, shared: parts.Shared, counts: tally.Tally) -> None:
        self.local = kept
        self.floors = floors
        self.shared = shared
        self.loads = loads.Loads()
        self.tally = counts

    async def judge(self, entry: Entry, wanted: position.Position | None, until: float) -> Verdict:
        """The floors' word, once they know enough to give one."""
        verdict = self.floors.judge(entry, wanted)
        if verdict.is_blind and await self.floors.reach(wanted, until):
            verdict = self.floors.judge(entry, wanted)
        return verdict

    async def put(self, ask: Ask, value: Any, stamp: position.Position | None) -> None:
        """Keep a value that was not loaded here. `stamp`: how far the node had come that it was read from."""
        packed = ask.packed(value)
        load = loading.Loading(ask.policy, ask.tags)
        slots = self.floors.slots_of(ask.key, ask.tags)
        entry = _entry(load, packed, stamp, slots, 0.0, is_negative=value is None)
        if entry.dies_at > entry.made_at:
            verdict = self._keep(ask, self._made(ask, entry, value))
            if self.shared.is_there and verdict is not Verdict.STALE:
                await self.shared.set(ask.place, entry, None)

    async def fetch(
        self, ask: Ask, flight: loads.Flight, wanted: position.Position | None, *, is_behind: bool = False
    ) -> Kept:
        """The body of a load: another process may have it already, or be at it."""
        if not self.shared.is_there:
            return await self._run(ask, flight, None)
        unsure: Entry | None = None

        def is_usable(entry: Entry) -> bool:
            nonlocal unsure
            verdict = self.floors.judge(entry, wanted)
            unsure = entry if verdict.is_blind else None
            return verdict is Verdict.FRESH and _is_in_time(ask, entry, is_behind=is_behind)

        got = await self.shared.find(ask.place, flight.until, is_usable)
        if unsure is not None and not isinstance(got, Entry):
            got = await self._made_sure(ask, unsure, got, wanted, flight.until, is_behind=is_behind)
        if isinstance(got, Entry):
            kept = self._read(ask, got)
            if kept is not None:
                self.tally.shared_used += 1
                request.recording().decide("a hit in the cache's servers")
                return kept
            got = await self.shared.lease(ask.place)
        return await self._run(ask, flight, got)

    async def _made_sure(
        self,
        ask: Ask,
        entry: Entry,
        lease: leases.Lease | None,
        wanted: position.Position | None,
        until: float,
        *,
        is_behind: bool,
    ) -> Entry | leases.Lease | None:
        """An entry of which the floors could not say whether it is fresh, if it is; else the lease to load it."""
        is_fresh = await self.judge(entry, wanted, until) is Verdict.FRESH
        if not is_fresh or not _is_in_time(ask, entry, is_behind=is_behind):
            return lease
        if lease is not None:
            await self.shared.give_back(lease)
        return entry

    async def anew(self, ask: Ask, flight: loads.Flight) -> Kept:
        """The body of a load that was asked for."""
        return await self._run(ask, flight, await self.shared.lease(ask.place) if self.shared.is_there else None)

    async def from_shared(self, ask: Ask, wanted: position.Position | None, until: float) -> Kept | None:
        """What the servers keep, if this session may have it now."""
        if not self.shared.is_there:
            return None
        entry = await self.shared.get(ask.place, until)
        if entry is None or await self.judge(entry, wanted, until) is not Verdict.FRESH:
            return None
        kept = self._read(ask, entry)
        self.tally.shared_used += kept is not None
        return kept

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
        is_small = len(packed) <= values.MOST_BYTES and not (load.tags and len(made.slots) > loads.MOST_SLOTS)
        is_kept = is_small and entry.dies_at > entry.made_at
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


def _is_in_time(ask: Ask, entry: Entry, *, is_behind: bool) -> bool:
    """Whether an entry of the servers is not too old: for a load behind, only if another has just loaded it anew."""
    use = policy.use(
        ask.policy,
        made_at=entry.made_at,
        fresh_until=entry.fresh_until,
        dies_at=entry.dies_at,
        cost=entry.cost,
        now=time.time(),
    )
    return use is Use.FRESH or (not is_behind and use is not Use.DEAD)
