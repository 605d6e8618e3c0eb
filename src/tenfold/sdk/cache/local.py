"""What one process keeps itself: values by key, bounded in bytes or in number, forgotten in the order of a policy.

Made by `cache`; read by `reading` and by the decorated functions (`cached`), which look at `Kept` themselves. It knows
nothing of freshness: an entry is there until it is forgotten, and who takes it judges it first.
"""

import asyncio
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import msgspec

from tenfold.sdk.cache import eviction, expiry, values
from tenfold.sdk.cache.entries import Entry

OVERHEAD_BYTES = 880
"""What keeping one entry takes besides its key and its value: measured, and held by a test."""

ALIAS_BYTES = 200
"""What the arguments by which a decorated function finds it take, about."""

SHARDS = 64
"""So many dictionaries hold the keys: a single one of 300,000 takes 13 ms when it grows."""

SLICE_SECONDS = 0.0003
"""So long the loop is held up for what has died, at most."""

PAUSE_SECONDS = 0.001
"""Between two slices, while there is more to do."""

REST_SECONDS = 0.25
"""Between two looks whether something has died."""

MOST_ALIASES = 16_384
"""So many arguments a decorated function remembers; a larger table would hold up the loop when it grows."""

NEVER = -1
"""A version of the floors that they never have."""


class Kept:
    """One value that this process keeps. `is_live`: `value` may be handed to everybody, for nobody can change it."""

    __slots__ = (
        "after", "aliases", "before", "bucket", "decode", "entry", "is_live", "is_tagged", "key", "level", "retry_at",
        "size", "until", "uses", "value", "version",
    )  # fmt: skip

    def __init__(self, key: str, entry: Entry, codec: values.Codec, value: Any, *, is_live: bool) -> None:
        self.key = key
        self.entry = msgspec.structs.replace(entry, packed=b"") if is_live else entry
        self.decode = codec.decode
        self.is_live = is_live
        self.value = value if is_live else None
        self.is_tagged = entry.is_tagged
        self.uses = 0
        self.until = 0.0
        """Until then nothing needs to be thought about but freshness: set by `reading`."""
        self.retry_at = 0.0
        """Before that it is not loaded anew, because that failed just now."""
        self.version = NEVER
        """The floors' version at which it was judged fresh for a session that has written nothing."""
        self.bucket = (0.0, 0)
        self.level = 0
        self.before: Any = None
        self.after: Any = None
        self.aliases: list[tuple[OrderedDict[Hashable, Kept], Hashable, int]] = []
        """Where decorated functions find it without its key."""
        self.size = OVERHEAD_BYTES + sys.getsizeof(key) + (size_of(value) if is_live else sys.getsizeof(entry.packed))

    def give(self) -> Any:
        """The value for one caller: theirs alone, unless nobody can change it. Raises `errors.NotFound` for a no."""
        if self.is_live:
            return self.value
        return values.given(self.decode, self.entry.packed)


Table = OrderedDict[Hashable, Kept]
"""What a decorated function remembers, by its arguments."""


class Local:
    """The process's own cache. Started and stopped on one loop; nothing in it waits."""

    def __init__(self, most_bytes: int, policy: str, most_entries: int | None = None) -> None:
        self._shards: list[dict[str, Kept]] = [{} for _ in range(SHARDS)]
        self.most_bytes = most_bytes
        self.most_entries = most_entries
        self._policy = policy
        self._order = eviction.POLICIES[policy]()
        self._expiry = expiry.Expiry()
        self._timer: asyncio.TimerHandle | None = None
        self.touched = self._order.touched
        """To be called with each `Kept` that is hit; None: raising its `uses` is enough."""
        self.bytes = 0
        self.count = 0
        self.evictions = 0
        self.expirations = 0

    def start(self) -> None:
        """Begin to sweep."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(REST_SECONDS, self._tick)

    def stop(self) -> None:
        """Sweep no more, and forget everything."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.clear()

    def resize(self, most_bytes: int, policy: str, most_entries: int | None = None) -> None:
        """Other bounds. Another policy begins with what is there, in no order."""
        self.most_bytes, self.most_entries = most_bytes, most_entries
        if policy != self._policy:
            self._policy = policy
            self._order = eviction.POLICIES[policy]()
            self.touched = self._order.touched
            for shard in self._shards:
                for kept in shard.values():
                    self._order.add(kept)
        self._make_room(0)

    def get(self, key: str) -> Kept | None:
        """What is kept under a key, dead or alive."""
        return self._shards[hash(key) % SHARDS].get(key)

    def hit(self, kept: Kept) -> None:
        """It was of use: it will be kept for longer, if it still is kept."""
        kept.uses += 1
        if self.touched is not None and self.get(kept.key) is kept:
            self.touched(kept)

    def keep(self, kept: Kept, now: float) -> bool:
        """Keep it in the place of what was there. False when it alone is larger than the cache."""
        if kept.size > self.most_bytes:
            return False
        old = self.get(kept.key)
        if old is not None:
            self.drop(old)
        self._make_room(kept.size)
        self._shards[hash(kept.key) % SHARDS][kept.key] = kept
        self._order.add(kept)
        self._expiry.add(kept, now, kept.entry.dies_at)
        self.bytes += kept.size
        self.count += 1
        return True

    def alias(self, kept: Kept, table: "Table", arguments: Hashable) -> None:
        """Let a decorated function find it by these arguments, for as long as it is kept. They count too."""
        if self.get(kept.key) is not kept or table.get(arguments) is kept:
            return
        while len(table) >= MOST_ALIASES:
            self._unalias(table, next(iter(table)))
        size = ALIAS_BYTES + size_of(arguments)
        table[arguments] = kept
        kept.aliases.append((table, arguments, size))
        self.bytes += size
        self._make_room(0)

    def drop(self, kept: Kept) -> None:
        """Forget it, if it is still what is kept under its key."""
        if self.get(kept.key) is kept:
            self._order.remove(kept)
            self._expiry.remove(kept)
            self._forget(kept)

    def clear(self) -> None:
        """Forget everything."""
        for shard in self._shards:
            for kept in list(shard.values()):
                self.drop(kept)

    def sweep(self, now: float, is_over: Callable[[], bool]) -> bool:
        """Forget what has died, until `is_over`. True when nothing dead is left."""
        while (kept := self._expiry.due(now)) is not None:
            assert isinstance(kept, Kept)
            self._order.remove(kept)
            self._forget(kept)
            self.expirations += 1
            if is_over():
                return False
        return True

    def _make_room(self, size: int) -> None:
        """Evict until there is room for so many bytes more, and for one entry more."""
        most = sys.maxsize if self.most_entries is None else self.most_entries - (size > 0)
        while self.count and (self.bytes + size > self.most_bytes or self.count > most):
            kept = self._order.victim()
            assert isinstance(kept, Kept)
            self._expiry.remove(kept)
            self._forget(kept)
            self.evictions += 1

    def _forget(self, kept: Kept) -> None:
        del self._shards[hash(kept.key) % SHARDS][kept.key]
        self.bytes -= kept.size
        self.count -= 1
        kept.version = NEVER
        while kept.aliases:
            table, arguments, size = kept.aliases.pop()
            self.bytes -= size
            if table.get(arguments) is kept:
                del table[arguments]

    def _unalias(self, table: "Table", arguments: Hashable) -> None:
        kept = table.pop(arguments)
        for one in [one for one in kept.aliases if one[0] is table and one[1] == arguments]:
            kept.aliases.remove(one)
            self.bytes -= one[2]

    def _tick(self) -> None:
        """One slice of sweeping, and the next one's time."""
        until = time.perf_counter() + SLICE_SECONDS
        is_done = self.sweep(time.time(), lambda: time.perf_counter() > until)
        seconds = REST_SECONDS if is_done else PAUSE_SECONDS
        self._timer = asyncio.get_running_loop().call_later(seconds, self._tick)


def size_of(value: Any) -> int:
    """What a value takes, with what is in it. What many values share is counted for each."""
    size = sys.getsizeof(value)
    if isinstance(value, tuple | frozenset | list | set):
        return size + sum(map(size_of, value))
    if isinstance(value, dict):
        return size + sum(size_of(key) + size_of(one) for key, one in value.items())
    names = getattr(type(value), "__struct_fields__", None) or getattr(type(value), "__dataclass_fields__", None)
    if names is not None:
        return size + sum(size_of(getattr(value, name)) for name in names)
    if hasattr(value, "model_fields_set"):
        return size + sum(size_of(one) + 100 for one in vars(value).values())
    return size
