"""Sessions in the cache's servers: a hash each, whose fields expire and which is no victim of eviction.

The key itself has no expiry, and the servers evict only what has one: a full cache forgets entries, never sessions.
Each write gives all fields their whole life again. The field `@` says that the session lives and holds what is not the
app's; `@over` that it is over; `=NAME` is the app's field NAME. Login, change of id and logout are acknowledged by a
replica before they count (`valkey/assured`). Every script may be repeated, so a connection that breaks undoes nothing.
"""

import asyncio
import logging
import math
import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from tenfold import errors, request
from tenfold.sdk import counters
from tenfold.sdk.sessions import records
from tenfold.sdk.valkey import assured, client, scripts, trouble

log = logging.getLogger("tenfold.sessions")

PREFIX = "tenfold:session:"

PATIENCE_SECONDS = 6.0
"""A failover of one of the servers takes about two seconds: a request waits for it, up to its own deadline."""

HOPELESS_SECONDS = 0.25
"""How long a request waits for servers that have not answered for `PATIENCE_SECONDS`."""

SPARE_SECONDS = 0.25
"""What is left of a request's time to say that the store does not answer."""

_NO_HASH = {b"@": b"no hash"}
"""What is said of a key that holds something else."""

CREATE = scripts.Script("""
if redis.call('HEXISTS', KEYS[1], '@') == 1 or redis.call('HEXISTS', KEYS[1], '@over') == 1 then return 0 end
redis.call('HSETEX', KEYS[1], 'PX', ARGV[1], 'FIELDS', (#ARGV - 1) / 2, unpack(ARGV, 2))
return 1
""")

ADOPT = scripts.Script("""
if redis.call('HEXISTS', KEYS[1], '@over') == 1 then return 0 end
local mine = redis.call('HGET', KEYS[1], '@')
if mine and cjson.decode(mine).changed_at >= tonumber(ARGV[2]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSETEX', KEYS[1], 'PX', ARGV[1], 'FIELDS', (#ARGV - 2) / 2, unpack(ARGV, 3))
return 1
""")

CHANGE = scripts.Script("""
local mine = redis.call('HGET', KEYS[1], '@')
if not mine then return 0 end
local own = cjson.decode(mine)
if own.expires_at <= tonumber(ARGV[2]) then return 0 end
own.changed_at, own.expires_at = tonumber(ARGV[2]), tonumber(ARGV[3])
local drops = tonumber(ARGV[4])
if drops > 0 then redis.call('HDEL', KEYS[1], unpack(ARGV, 5, 4 + drops)) end
if #ARGV > 4 + drops then
    redis.call('HSETEX', KEYS[1], 'PX', ARGV[1], 'FIELDS', (#ARGV - 4 - drops) / 2, unpack(ARGV, 5 + drops))
end
redis.call('HSETEX', KEYS[1], 'PX', ARGV[1], 'FIELDS', 1, '@', cjson.encode(own))
local names = redis.call('HKEYS', KEYS[1])
redis.call('HPEXPIRE', KEYS[1], ARGV[1], 'FIELDS', #names, unpack(names))
return 1
""")

CLOSE = scripts.Script("""
local over = redis.call('HGET', KEYS[1], '@over')
if over then return over == ARGV[2] and 1 or 0 end
local had = redis.call('HGETALL', KEYS[1])
if redis.call('HEXISTS', KEYS[1], '@') == 0 and ARGV[3] == 'rotate' then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSETEX', KEYS[1], 'PX', ARGV[1], 'FIELDS', 1, '@over', ARGV[2])
return ARGV[3] == 'rotate' and had or 1
""")
"""What a session had that gets another id; 1 when it is said again, or the session just ended."""

FORGET = scripts.Script("""
if redis.call('HEXISTS', KEYS[1], '@over') == 1 then return 1 end
local mine = redis.call('HGET', KEYS[1], '@')
if mine and cjson.decode(mine).changed_at > tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
return 1
""")

_END_OF_TIME = 1e12
"""Later than any change: Lua has no word for infinity that all agree on."""


class Own(msgspec.Struct):
    """The field `@`."""

    created_at: float
    changed_at: float
    expires_at: float
    principal: str | None = None


class CachedStore:
    """The store `cache`."""

    name = "cache"
    is_in_cookie = False

    def __init__(self, servers: client.Client) -> None:
        self._servers = servers
        self._failing_since: dict[bytes, float] = {}
        """By the beginning of keys' digests, since when their server has not answered."""

    async def load(self, ticket: records.Ticket, now: float) -> records.Record | None:
        one = ticket.id
        record = parse(await self._ask(one, "HGETALL", key(one.digest)))
        return None if record is None or record.expires_at <= now else record

    async def create(self, one: records.Id, record: records.Record, *, is_precious: bool) -> bool:
        return bool(await self._run(CREATE, one, *whole(record), is_assured=is_precious))

    async def adopt(self, one: records.Id, record: records.Record) -> bool:
        life, *fields = whole(record)
        return bool(await self._run(ADOPT, one, life, repr(record.changed_at), *fields, is_assured=True))

    async def change(self, one: records.Id, changes: records.Changes, at: float, expires_at: float) -> bool:
        drops = [f"={name}" for name in changes.dropped]
        said = (_life(expires_at - at), repr(at), repr(expires_at), len(drops), *drops, *_pairs(changes.put))
        return bool(await self._run(CHANGE, one, *said))

    async def rotate(self, old: records.Id, new: records.Id, record: records.Record, changes: records.Changes) -> bool:
        """The new one first, of which nobody knows yet; then the old one is closed by whoever comes first."""
        await self.create(new, record, is_precious=True)
        mark = f"{record.changed_at!r} {secrets.token_hex(8)}"
        has_won = await self._run(CLOSE, old, _life(records.OVER_SECONDS), mark, "rotate", is_assured=True)
        if not has_won:
            await self.forget(new)
        elif isinstance(has_won, list):
            await self._catch_up(new, record, changes, parse(dict(zip(has_won[::2], has_won[1::2], strict=True))))
        return bool(has_won)

    async def end(self, one: records.Id, now: float) -> None:
        mark = f"{now!r} {secrets.token_hex(8)}"
        await self._run(CLOSE, one, _life(records.OVER_SECONDS), mark, "end", is_assured=True)

    async def forget(self, one: records.Id, changed_by: float = math.inf) -> bool:
        return bool(await self._run(FORGET, one, repr(min(changed_by, _END_OF_TIME))))

    def cookie(self, one: records.Id, record: records.Record) -> str:
        return one.text

    async def _catch_up(
        self, one: records.Id, record: records.Record, changes: records.Changes, had: records.Record | None
    ) -> None:
        """What other requests have changed since this one has loaded the session is in the new one too."""
        fields = record.fields if had is None else changes.onto(had.fields)
        put = {name: text for name, text in fields.items() if record.fields.get(name) != text}
        late = records.Changes(put, frozenset(record.fields.keys() - fields.keys()))
        if late:
            try:
                await self.change(one, late, record.changed_at, record.expires_at)
            except errors.TryAgain as error:
                log.warning("a session got another id without its very last changes: %s", error)

    async def _run(self, script: scripts.Script, one: records.Id, *said: Any, is_assured: bool = False) -> Any:
        if not is_assured:
            try:
                return await self._ask(one, "EVALSHA", script.sha, 1, key(one.digest), *said)
            except trouble.Refused:  # the server has not met it yet
                return await self._ask(one, "EVAL", script.source, 1, key(one.digest), *said)
        return await self._ask(one, "EVAL", script.source, 1, key(one.digest), *said, is_assured=True)

    async def _ask(self, one: records.Id, *parts: Any, is_assured: bool = False) -> Any:
        """The answer; what goes wrong is `StoreUnavailable`, and counted."""
        seconds, group, where = self._patience(one), one.digest[:1], key(one.digest)
        try:
            if is_assured:
                answer = await assured.call(self._servers, *parts, key=where, seconds=seconds)
            else:
                answer = await self._servers.call(*parts, key=where, timeout=seconds, repeat=True)
        except trouble.Refused as error:
            if error.code == "NOSCRIPT":
                raise
            if error.code == "WRONGTYPE" and parts[0] == "HGETALL":
                return _NO_HASH
            raise self._unavailable(error) from error
        except trouble.Unavailable as error:
            self._failing_since.setdefault(group, asyncio.get_running_loop().time() - seconds)
            raise self._unavailable(error) from error
        self._failing_since.pop(group, None)
        return answer

    def _patience(self, one: records.Id) -> float:
        """How long to wait: for a failover, but not for servers that are gone."""
        now = asyncio.get_running_loop().time()
        since = self._failing_since.get(one.digest[:1])
        is_hopeless = (
            since is not None and now - since >= PATIENCE_SECONDS and not self._servers.is_well(key(one.digest))
        )
        seconds = HOPELESS_SECONDS if is_hopeless else PATIENCE_SECONDS
        serving = request.current()
        if serving is not None and serving.deadline is not None:
            seconds = min(seconds, max(SPARE_SECONDS, serving.deadline - now - SPARE_SECONDS))
        return seconds

    @staticmethod
    def _unavailable(error: trouble.ValkeyError) -> errors.StoreUnavailable:
        counters.add("sessions.unavailable")
        return errors.StoreUnavailable(
            f"sessions: the cache's servers, where sessions are ([sessions] store), do not do what is asked: {error}"
        )


def key(digest: bytes) -> str:
    """Where the session is whose id has this digest."""
    return PREFIX + digest.hex()


def parse(answer: Mapping[bytes, bytes]) -> records.Record | None:
    """The session in an answer to HGETALL; None when there is none, or what is there cannot be read."""
    found = dict(answer)
    over = found.get(b"@over")
    own = found.get(b"@")
    try:
        if over is not None:
            at = float(over.split(b" ", 1)[0])
            return records.Record({}, None, at, at, at + records.OVER_SECONDS, is_over=True)
        if own is None:
            return None  # what expired, or what a request has left that came after the end
        about = msgspec.json.decode(own, type=Own)
        fields = {name[1:].decode(): text.decode() for name, text in found.items() if name[:1] == b"="}
    except (ValueError, msgspec.MsgspecError) as error:
        counters.add("sessions.corrupted")
        log.warning("a session in the cache cannot be read and counts as none: %s", error)
        return None
    return records.Record(fields, about.principal, about.created_at, about.changed_at, about.expires_at)


def whole(record: records.Record) -> tuple[Any, ...]:
    """Its life in milliseconds, and its fields with their names."""
    own = Own(record.created_at, record.changed_at, record.expires_at, record.principal)
    return _life(record.expires_at - record.changed_at), "@", msgspec.json.encode(own), *_pairs(record.fields)


def _pairs(fields: Mapping[str, str]) -> list[str]:
    return [part for name, text in fields.items() for part in (f"={name}", text)]


def _life(seconds: float) -> int:
    return max(1, round(seconds * 1000))
