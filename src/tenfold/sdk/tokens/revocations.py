"""What was taken back before it expires: the database remembers it, the cache's servers make asking cheap.

Used by `tokens` and by the sessions that are in a cookie (`sdk/sessions/sealed`). The database is what counts: the
cache holds its answers for a while, and losing them costs a read. An answer "not revoked" never overwrites "revoked",
however late it comes.
"""

import hashlib
import logging
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tenfold import request
from tenfold.sdk import counters, db
from tenfold.sdk.db import apart, copies
from tenfold.sdk.valkey import assured, client, trouble

log = logging.getLogger("tenfold.tokens")

KNOWN_SECONDS = 60
"""How long the cache's servers remember that something is not revoked."""

REVOKED_SECONDS = 3600.0
"""How long they remember, at most, that something is revoked: no reader that has asked the database before that is
slower. Then they ask the database again."""

ASK_SECONDS = 0.25
"""How long they may take to say so before the database is asked."""

TELL_SECONDS = 3.0
"""How long a revocation tries to reach them: a failover takes about two seconds."""

PRUNE_EVERY = 64
PRUNE = """
delete from tenfold.revocation where name in (
    select name from tenfold.revocation where expires_at < now() order by expires_at limit 1000 for update skip locked)
"""

LOOK = "select name, extract(epoch from made_before)::float8 from tenfold.revocation where name = any($1::bytea[])"

ADD = """
insert into tenfold.revocation as mine (name, made_before, expires_at)
values ($1, to_timestamp($2::float8), to_timestamp($3::float8))
on conflict (name) do update set
    made_before = greatest(mine.made_before, excluded.made_before),
    expires_at = greatest(mine.expires_at, excluded.expires_at)
returning xmax = 0
"""


@dataclass(frozen=True, slots=True)
class Name:
    """What can be revoked: `part` of `group`. Those of one group are asked for together."""

    group: str
    part: str = ""

    @property
    def digest(self) -> bytes:
        """What the database knows it by."""
        return hashlib.sha256(f"{len(self.group)}:{self.group}{self.part}".encode()).digest()

    @property
    def key(self) -> str:
        """What the cache knows it by: one slot for a group."""
        return f"tenfold:revoked:{{{hashlib.sha256(self.group.encode()).hexdigest()[:32]}}}:{self.digest.hex()[:32]}"


class Revocations:
    """The list of a service."""

    def __init__(self, database: db.Database, servers: client.Client) -> None:
        self._database = database
        self._servers = servers

    async def add(self, name: Name, made_before: float, expires_at: float) -> bool:
        """From now on nothing that was made before is valid, anywhere, until it would have expired (Unix times).

        True when it was not revoked before. On return every copy of the database that answers reads knows it, and the
        cache with a replica of it.
        """
        with apart.apart():
            was_new = bool(await self._database.fetchval(ADD, name.digest, made_before, expires_at))
            if random.random() * PRUNE_EVERY < 1.0:  # noqa: S311 - spreads work, guards nothing
                await self._database.execute(PRUNE)
        shards = self._database.shards
        at = (request.current() or shards.outside).seen.get(0)
        if at is not None and not await copies.until_seen(shards, at):
            counters.add("tokens.revocations_unseen")
        if self._servers.is_there:
            left = min(expires_at - time.time(), REVOKED_SECONDS)
            await self._tell(name, made_before, max(1, math.ceil(left)))
        return was_new

    async def find(self, names: Sequence[Name]) -> list[float | None]:
        """For each name (all of one group) the moment before which it is void, or None when it was not revoked."""
        if not self._servers.is_there:
            return await self._look(names)
        known = await self._ask(names)
        if None not in known:
            return [moment or None for moment in known]
        found = await self._look(names)
        await self._remember(
            [(name, moment) for name, moment, one in zip(names, found, known, strict=True) if one is None]
        )
        return found

    async def _look(self, names: Sequence[Name]) -> list[float | None]:
        rows = await self._database.fetch(LOOK, [name.digest for name in names])
        found = {bytes(digest): moment for digest, moment in rows}
        return [found.get(name.digest) for name in names]

    async def _ask(self, names: Sequence[Name]) -> list[float | None]:
        """What the cache remembers, 0.0 for `not revoked`; None for what it does not know, or says badly."""
        keys = [name.key for name in names]
        try:
            return [_moment(one) for one in await self._servers.call("MGET", *keys, timeout=ASK_SECONDS, repeat=True)]
        except trouble.ValkeyError as error:
            counters.add("tokens.cache_troubles")
            log.debug("the cache does not know what was revoked: %s", error)
            return [None] * len(names)

    async def _remember(self, found: Sequence[tuple[Name, float | None]]) -> None:
        """Never over what is there: that may say `revoked`, and be newer."""
        commands = [
            ("SET", name.key, "0" if moment is None else repr(moment), "NX", "EX", KNOWN_SECONDS)
            for name, moment in found
        ]
        await self._servers.many(commands, timeout=ASK_SECONDS)  # an error costs the next one a read, no more

    async def _tell(self, name: Name, made_before: float, seconds: int) -> None:
        parts = ("SET", name.key, repr(made_before), "EX", seconds)
        try:
            await assured.call(self._servers, *parts, key=name.key, seconds=TELL_SECONDS)
        except trouble.ValkeyError as error:
            counters.add("tokens.revocations_untold")
            log.warning(
                "a revocation did not reach the cache, which may say `not revoked` for %d s more (%s)",
                KNOWN_SECONDS, error,
            )  # fmt: skip


def _moment(value: bytes | None) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        counters.add("tokens.corrupted")
        return None
