"""The entries that all processes share, in the cache's servers. The second place where the cache looks.

Called by `loads`. Whatever is wrong with the servers is a miss, counted and never an error; while a server is known to
be away it costs a look at a flag. What is stored begins with its stamp, so that a server can refuse an older value.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence

from tenfold.sdk import counters, valkey
from tenfold.sdk.cache import entries, leases, names
from tenfold.sdk.cache.leases import Lease

log = logging.getLogger("tenfold.cache")

MOST_BYTES = 8 * 1024 * 1024
"""The largest entry that is stored; a larger one stays in its process."""

_SET = valkey.Script(
    leases.END
    + """
local is_leased = ARGV[5] ~= ''
if is_leased and redis.call('HGET', KEYS[2], 'holder') ~= ARGV[5] then return 0 end
local held = redis.call('GETRANGE', KEYS[1], 0, 31)
local is_newer = held == '' or not string.match(held, '^%x+$') or ARGV[3] >= held
if is_newer then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[4]) end
if is_leased or is_newer then end_lease() end
return is_newer and 1 or 0
"""
)
"""KEYS: the entry, its lease. ARGV: the cache's key, what is stored, its stamp, its life in milliseconds, whose lease
it is (empty: without one, which voids whatever lease there is)."""

_DELETE = leases.END + "redis.call('UNLINK', KEYS[1]) end_lease()"


class Shared:
    """The shared entries; see `parts.Shared` for what each method promises."""

    def __init__(self, servers: valkey.Client) -> None:
        self._servers = servers
        self._leases = leases.Leases(servers)
        self._hits = self._misses = self._away = 0
        self._take_back: Callable[[], None] | None = None

    @property
    def is_there(self) -> bool:
        """Whether there are servers at all."""
        return self._servers.is_there

    def start(self) -> None:
        """Count from now on. Twice is once."""
        if self._take_back is None:
            self._take_back = counters.source(self._counts)

    def stop(self) -> None:
        """Keep no lease alive any more. Twice is once."""
        self._leases.stop()
        if self._take_back is not None:
            self._take_back()
            self._take_back = None
            self._hits = self._misses = self._away = 0

    async def get(self, key: str, until: float) -> entries.Entry | None:
        """The entry of a key, or None."""
        found = await self.find(key, until, _is_anything, is_loading=False)
        return found if isinstance(found, entries.Entry) else None

    async def find(
        self, key: str, until: float, is_usable: Callable[[entries.Entry], bool], *, is_loading: bool = True
    ) -> entries.Entry | Lease | None:
        """An entry that is usable, or else the lease to load it; None when there is no time or no server.

        Who will not load (`is_loading`) gets no lease, and does not wait for another's.
        """
        tag = names.tag(key)
        name = names.entry(key, tag)
        try:
            stored = await self._servers.call(
                "GET", name, key=tag, timeout=leases.ASK_SECONDS, until=until, repeat=True, hurry=True
            )
            while True:
                entry = self._read(name, stored) if stored else None
                if entry is not None and is_usable(entry):
                    self._hits += 1
                    return entry
                taken = await self._leases.take(key, (stored or b"")[: names.HEAD], until) if is_loading else None
                if not isinstance(taken, bytes):
                    self._misses += 1
                    return taken
                stored = taken
        except valkey.Away:
            self._away += 1
        except valkey.ValkeyError as error:
            self._trouble(error)
        return None

    async def lease(self, key: str) -> Lease | None:
        """The right to load a key whose entry is still there; None when another process has it, or on trouble."""
        if not self._is_well(names.of(key)[0]):
            return None
        try:
            return await self._leases.take_now(key)
        except valkey.ValkeyError as error:
            self._trouble(error)
            return None

    async def set(self, key: str, entry: entries.Entry, lease: Lease | None) -> bool:
        """Keep the entry until it dies, unless a newer one is there or the lease has been voided."""
        stored = _stored(entry)
        life = math.ceil((entry.dies_at - time.time()) * 1000)
        if len(stored) > MOST_BYTES or life <= 0:
            counters.add("cache.shared_too_large" if life > 0 else "cache.shared_too_late")
            if lease is not None:
                await self.give_back(lease)
            return False
        if lease is not None:
            self._leases.drop(lease)
        both = names.of(key)
        if not self._is_well(both[0]):
            return False
        said = (key, stored, names.stamp(entry.stamp), life, lease.holder if lease is not None else "")
        try:
            kept = await self._servers.run(_SET, *said, keys=both, timeout=leases.ASK_SECONDS)
        except valkey.ValkeyError as error:
            self._trouble(error)
            return False
        counters.add("cache.shared_sets" if kept else "cache.shared_sets_refused")
        return bool(kept)

    async def give_back(self, lease: Lease) -> None:
        """The load came to nothing: the next who waits gets the lease at once."""
        try:
            await self._leases.give_back(lease)
        except valkey.ValkeyError as error:
            self._trouble(error)

    async def delete(self, keys: Sequence[str]) -> None:
        """Forget these, and void their leases: what is being loaded now is not kept."""
        sent = []
        for key in keys:
            both = names.of(key)
            try:
                one = self._servers.call(
                    "EVAL", _DELETE, 2, *both, key, key=both[0], timeout=leases.ASK_SECONDS, repeat=True
                )
            except valkey.ValkeyError as error:
                self._trouble(error)
            else:
                sent.append(one)
        for outcome in await asyncio.gather(*sent, return_exceptions=True):
            if isinstance(outcome, valkey.ValkeyError):
                self._trouble(outcome)

    def _read(self, name: str, stored: bytes) -> entries.Entry | None:
        """The entry that was stored, if it is one and still lives. What is damaged is thrown away."""
        try:
            found = entries.decode(stored[names.STAMP :])
        except entries.DamagedError as error:
            counters.add("cache.shared_damaged")
            log.warning("cache: %s is no entry, and is thrown away: %s", name, error)
            self._leases.send("UNLINK", name)
            return None
        return found if found.dies_at > time.time() else None

    def _is_well(self, name: str) -> bool:
        """Whether to ask at all. A server that is away costs a look, and not a wait."""
        is_well = self._servers.is_well(name)
        self._away += not is_well
        return is_well

    def _trouble(self, error: valkey.ValkeyError) -> None:
        code = error.code if isinstance(error, valkey.Refused) else "unavailable"
        counters.add(f"cache.shared_trouble_{code.lower()}")
        log.debug("cache: a miss, because of: %s", error)

    def _counts(self) -> Mapping[str, int]:
        return {
            "cache.shared_hits": self._hits,
            "cache.shared_misses": self._misses,
            "cache.shared_away": self._away,
        }


def _is_anything(_: entries.Entry) -> bool:
    return True


def _stored(entry: entries.Entry) -> bytes:
    return names.stamp(entry.stamp).encode() + entries.encode(entry)
