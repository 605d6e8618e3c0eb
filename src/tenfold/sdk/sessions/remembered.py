"""Positions by principal: read-your-writes for clients that keep neither cookies nor the position header.

Asked for by `tf.remember`, on those requests alone. With the cache's servers: one command when a request begins, one
more when it wrote. Without them, or while they do not answer, the request asks the primary how far it is instead, and
reads copies that are as far: one round trip, nothing stored, and never wrong.
"""

import asyncio
import hashlib
import logging
import secrets

from tenfold import errors, position, request
from tenfold.sdk import counters, db
from tenfold.sdk.db import connect
from tenfold.sdk.valkey import client, trouble

log = logging.getLogger("tenfold.sessions")

LIFE_SECONDS = 60
"""As long as position cookies: every replica has passed a position by then, or is out of the read pool."""

ASK_SECONDS = 0.25
TELL_SECONDS = 0.5
PATIENCE_SECONDS = 5.0
MOST_REMEMBERED = 4096


class Remembered:
    """The positions of principals."""

    def __init__(self, database: db.Database, servers: client.Client) -> None:
        self._database = database
        self._servers = servers
        self._process = secrets.token_hex(6)
        """Each process writes a field of its own, so that none lowers what another has written."""
        self._written: dict[str, position.Positions] = {}
        """The latest that this process has written, by key: parallel requests do not lower each other's."""

    async def recall(self, principal: str, serving: request.Request) -> None:
        """From here on this request reads nothing older than what the principal has written."""
        found = await self._asked(principal) if self._servers.is_there else None
        at = found if found is not None else position.Positions().raised([await self._primary()])
        serving.seen = serving.seen.raised(at.values())
        serving.is_known = True

    async def note(self, principal: str, serving: request.Request) -> None:
        """The principal has written: every process knows on return. Never fails a request, whose write is done."""
        if not self._servers.is_there:
            return
        key = _key(principal)
        known = self._written.pop(key, position.Positions()).raised(serving.seen.values())
        if len(self._written) >= MOST_REMEMBERED:
            del self._written[next(iter(self._written))]
        self._written[key] = known
        parts = ("HSETEX", key, "EX", LIFE_SECONDS, "FIELDS", 1, self._process, str(known))
        try:
            await self._servers.call(*parts, timeout=TELL_SECONDS, repeat=True)
        except trouble.ValkeyError as error:
            counters.add("sessions.positions_untold")
            log.warning("the position of a principal was not remembered: %s", error)

    async def _asked(self, principal: str) -> position.Positions | None:
        """What the servers remember, the maximum of all processes; None when they do not answer, or badly."""
        try:
            answer = await self._servers.call("HGETALL", _key(principal), timeout=ASK_SECONDS, repeat=True)
            found = position.Positions()
            for text in dict(answer).values():
                found = found.raised(position.Positions.parse(text.decode()).values())
        except (trouble.ValkeyError, errors.BadPosition, ValueError) as error:
            counters.add("sessions.positions_unknown")
            log.debug("the position of a principal is not known: %s", error)
            return None
        return found

    async def _primary(self) -> position.Position:
        """How far the primary is now: no write that was acknowledged before is beyond that."""
        serving, now = request.current(), asyncio.get_running_loop().time()
        deadline = serving.deadline if serving is not None and serving.deadline is not None else now + PATIENCE_SECONDS
        lease = await self._database.shards.primary(0, deadline)
        try:
            text = await lease.connection.fetchval("select pg_current_wal_flush_lsn()::text", timeout=deadline - now)
        except connect.ANSWERS as error:
            lease.discard()
            raise errors.NoPrimary(f"tf.remember: the primary did not say how far it is ({error!r})") from error
        except BaseException:
            lease.discard()
            raise
        await lease.release()
        return lease.position(position.parse_lsn(text))


def _key(principal: str) -> str:
    return f"tenfold:position:{hashlib.sha256(principal.encode(errors='surrogatepass')).hexdigest()}"
