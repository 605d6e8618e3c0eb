"""Sessions in the cookie itself, encrypted: no server keeps them, none has to be asked for their content.

What a server must remember is which of them are over (`sdk/tokens/revocations`): that is asked once by a request that
reads its session. What one request changes replaces what another has changed at the same time: the cookie that arrives
last is the session.
"""

import math
from collections.abc import Callable

from tenfold.sdk.sessions import records, sealing
from tenfold.sdk.tokens import revocations

GROUP = "tenfold session "


class SealedStore:
    """The store `token`."""

    name = "token"
    is_in_cookie = True

    def __init__(
        self, seal: Callable[[], sealing.Seal], revoked: revocations.Revocations, life_seconds: Callable[[], float]
    ) -> None:
        self._seal = seal
        self._revoked = revoked
        self._life_seconds = life_seconds

    async def load(self, ticket: records.Ticket, now: float) -> records.Record | None:
        record = ticket.sealed
        if record is None or record.expires_at <= now:
            return None
        (made_before,) = await self._revoked.find([_name(ticket.id)])
        return None if made_before is not None else record

    async def create(self, one: records.Id, record: records.Record, *, is_precious: bool) -> bool:
        return True

    async def adopt(self, one: records.Id, record: records.Record) -> bool:
        """It becomes the client's with the response. One that was over here stays so."""
        (made_before,) = await self._revoked.find([_name(one)])
        return made_before is None

    async def change(self, one: records.Id, changes: records.Changes, at: float, expires_at: float) -> bool:
        return True

    async def rotate(self, old: records.Id, new: records.Id, record: records.Record, changes: records.Changes) -> bool:
        return await self._revoke(old, record.changed_at)

    async def end(self, one: records.Id, now: float) -> None:
        await self._revoke(one, now)

    async def forget(self, one: records.Id, changed_by: float = math.inf) -> bool:
        """The client has it until the response gives it another cookie."""
        return True

    def cookie(self, one: records.Id, record: records.Record) -> str:
        return self._seal().close(one, record)

    async def _revoke(self, one: records.Id, now: float) -> bool:
        """True when it was not over before. A cookie that was sealed just now may still be under way."""
        until = now + self._life_seconds() + records.OVER_SECONDS
        return await self._revoked.add(_name(one), until, until)


def _name(one: records.Id) -> revocations.Name:
    return revocations.Name(GROUP + one.digest.hex())
