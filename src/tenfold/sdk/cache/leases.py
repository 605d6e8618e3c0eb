"""Who among all processes loads a key anew: one, with a lease that lives as long as its loader does.

Called by `shared`. A lease is a key in the cache's servers that expires soon and is kept alive while it is held, so
that a process that dies releases it. Whoever wants the same key meanwhile waits for a message, and asks again only
when the lease should have expired. Source: R. Nishtala et al., "Scaling Memcache at Facebook" (NSDI 2013), 3.2.1.
"""

import asyncio
import logging
import secrets
import weakref
from typing import Any

from tenfold.sdk import valkey
from tenfold.sdk.cache import names

log = logging.getLogger("tenfold.cache")

LIFE_SECONDS = 2.0
"""A lease that is not kept alive ends after so long: its process is dead, or does not get on."""

KEEP_SECONDS = 0.5
"""How often it is kept alive."""

BLIND_SECONDS = 0.05
"""How long to wait for a message while messages may be missed."""

ASK_SECONDS = 0.5
"""How long a server may take to answer."""

CHANNEL = "tenfold.leases"
"""Where it is said that a lease has ended. The message is the key."""

TAKE = valkey.Script("""
local head = redis.call('GETRANGE', KEYS[1], 0, ARGV[3] - 1)
if head ~= '' and ARGV[4] ~= '*' and head ~= ARGV[4] then return redis.call('GET', KEYS[1]) end
if redis.call('HSETNX', KEYS[2], 'holder', ARGV[1]) == 1 then
    redis.call('PEXPIRE', KEYS[2], ARGV[2])
    return 0
end
if ARGV[4] ~= '*' then redis.call('HSET', KEYS[2], 'is_awaited', 1) end
return math.max(redis.call('PTTL', KEYS[2]), 1)
""")
"""KEYS: the entry, its lease. ARGV: who asks, the lease's life, the length of an entry's head, the head of the entry
that the asker has seen and cannot use (`*`: any, and do not wait). Another entry that is there now, or 0: the lease is
the asker's, or in how many milliseconds the other's ends."""

_END = """
local function end_lease()
    if redis.call('HGET', KEYS[2], 'is_awaited') then redis.call('PUBLISH', '{channel}', ARGV[1]) end
    redis.call('DEL', KEYS[2])
end
"""

END = _END.replace("{channel}", CHANNEL)
"""For scripts that end a lease: KEYS the entry and its lease, the first of ARGV the cache's key."""

_GIVE_BACK = valkey.Script(END + "if redis.call('HGET', KEYS[2], 'holder') == ARGV[2] then end_lease() end")

_KEEP = "return redis.call('HGET', KEYS[1], 'holder') == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2])"


class Lease:
    """The right to load a key. It is kept alive for as long as somebody has this object."""

    __slots__ = ("__weakref__", "holder", "key", "names")

    def __init__(self, key: str, holder: str) -> None:
        self.key = key
        self.names = names.of(key)
        self.holder = holder
        """The secret word in the servers that makes it ours."""


class Leases:
    """The leases that this process holds, and those that it waits for."""

    def __init__(self, servers: valkey.Client) -> None:
        self._servers = servers
        self._held: weakref.WeakSet[Lease] = weakref.WeakSet()
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        servers.subscribe(CHANNEL, self._ended)

    def stop(self) -> None:
        """Keep nothing alive any more. Twice is once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._held.clear()

    async def take(self, key: str, seen: bytes, until: float) -> "Lease | bytes | None":
        """The lease of a key; or, as soon as there is one, an entry's bytes that do not begin with `seen`.

        Waits while another has the lease. None when `until` has come. Raises `valkey.ValkeyError`.
        """
        loop = asyncio.get_running_loop()
        asked = Lease(key, secrets.token_hex(8))
        while loop.time() < until:
            woken = loop.create_future()
            self._waiting.setdefault(key, set()).add(woken)
            try:
                answer = await self._ask(asked, seen, until - loop.time())
                if isinstance(answer, bytes):
                    return answer
                if answer == 0:
                    return asked
                await self._woken(woken, min(until, loop.time() + answer / 1000))
            finally:
                self._forget(key, woken)
        return None

    async def take_now(self, key: str) -> Lease | None:
        """The lease of a key whatever its entry is; None when another has it. Raises `valkey.ValkeyError`."""
        asked = Lease(key, secrets.token_hex(8))
        return asked if await self._ask(asked, b"*", ASK_SECONDS) == 0 else None

    async def give_back(self, lease: Lease) -> None:
        """End it, and let the next who waits have it. Raises `valkey.ValkeyError`."""
        self.drop(lease)
        await self._servers.run(_GIVE_BACK, lease.key, lease.holder, keys=lease.names, timeout=ASK_SECONDS, repeat=True)

    def drop(self, lease: Lease) -> None:
        """Keep it alive no longer."""
        self._held.discard(lease)

    async def _ask(self, asked: Lease, seen: bytes, seconds: float) -> Any:
        life = int(LIFE_SECONDS * 1000)
        try:
            answer = await self._servers.run(
                TAKE, asked.holder, life, names.HEAD, seen, keys=asked.names, timeout=min(seconds, ASK_SECONDS)
            )
        except BaseException:
            self._let_go(asked)
            raise
        if answer == 0:
            self._hold(asked)
        return answer

    def _let_go(self, asked: Lease) -> None:
        """It may have become ours without our hearing of it: nobody else should wait for it."""
        script = (_GIVE_BACK.source, 2, *asked.names, asked.key, asked.holder)
        self.send("EVAL", *script, key=asked.names[0])

    async def _woken(self, woken: "asyncio.Future[None]", until: float) -> None:
        """Return when the lease has ended, or should have; soon when we might not hear of it."""
        loop = asyncio.get_running_loop()
        seconds = until - loop.time()
        try:
            async with asyncio.timeout(seconds if self._servers.is_whole else min(seconds, BLIND_SECONDS)):
                await woken
        except TimeoutError:
            return

    def _forget(self, key: str, woken: "asyncio.Future[None]") -> None:
        left = self._waiting.get(key)
        if left is not None:
            left.discard(woken)
            if not left:
                del self._waiting[key]

    def _ended(self, message: bytes) -> None:
        """A lease has ended: whoever waits for it looks again."""
        for woken in self._waiting.get(message.decode(errors="replace"), ()):
            if not woken.done():
                woken.set_result(None)

    def _hold(self, lease: Lease) -> None:
        self._held.add(lease)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(KEEP_SECONDS, self._keep)

    def _keep(self) -> None:
        """Keep alive what is held, as long as something is."""
        self._timer = None
        life = int(LIFE_SECONDS * 1000)
        for lease in tuple(self._held):
            self.send("EVAL", _KEEP, 1, lease.names[1], lease.holder, life, key=lease.names[1])
        if self._held:
            self._timer = asyncio.get_running_loop().call_later(KEEP_SECONDS, self._keep)

    def send(self, *parts: str | int, key: str | None = None) -> None:
        """Send a command whose failure changes nothing."""
        try:
            sent = self._servers.call(*parts, key=key, timeout=ASK_SECONDS)
        except valkey.ValkeyError as error:
            log.debug("cache: %s", error)
            return
        sent.add_done_callback(lambda done: done.cancelled() or done.exception())
