"""What a store of sessions must do, and the stores of a service as one: the current one and those before it.

Used by `visits`. The stores are `database`, `cached`, `sealed` and `memory`; tests/support holds one suite that all of
them must pass.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tenfold import errors
from tenfold.sdk import counters
from tenfold.sdk.sessions import records

log = logging.getLogger("tenfold.sessions")

LOOKS = 3
"""While sessions move, one may be on its way just when each store is asked: so often all are asked."""


class Store(Protocol):
    """One place where sessions are. Raises errors.TryAgain when it cannot be reached: then nothing is known."""

    @property
    def name(self) -> str:
        """As the bindings call it."""

    @property
    def is_in_cookie(self) -> bool:
        """Whether the session is in the cookie itself."""

    async def load(self, ticket: records.Ticket, now: float) -> records.Record | None:
        """The session of this id, one that is over included; None when none is known. At most one command."""

    async def create(self, one: records.Id, record: records.Record, *, is_precious: bool) -> bool:
        """Keep a new session. `is_precious`: somebody has logged in, so it must survive its server.

        False, and nothing happens, when there is or was one of this id.
        """

    async def adopt(self, one: records.Id, record: records.Record) -> bool:
        """Take a session from another store, unless one of this id is here that is newer, or over: False."""

    async def change(self, one: records.Id, changes: records.Changes, at: float, expires_at: float) -> bool:
        """Merge the changes into the session's fields and renew it, in one command. False when it does not live."""

    async def rotate(self, old: records.Id, new: records.Id, record: records.Record, changes: records.Changes) -> bool:
        """Give the session another id, for good. `record` is what it then is, as far as this request knows.

        False, and there is no new session, when the old one did not live: of several at once one alone succeeds.
        """

    async def end(self, one: records.Id, now: float) -> None:
        """The session is over: on return no copy of it lives here, and none can be brought back."""

    async def forget(self, one: records.Id, changed_by: float = math.inf) -> bool:
        """It has moved to another store as it was then. False when it has changed here since: it must move again."""

    def cookie(self, one: records.Id, record: records.Record) -> str:
        """The cookie's value for a session of this store."""


@dataclass(frozen=True, slots=True)
class Found:
    """A session, and where it is now."""

    record: records.Record
    store: Store


class Stores:
    """The stores of a service: new sessions go to the first, all are asked for what is known."""

    def __init__(self, current: Store, former: Sequence[Store] = ()) -> None:
        self.current = current
        self._all = (current, *former)

    async def load(self, ticket: records.Ticket, now: float) -> Found | None:
        """The session, from whichever store has it. One in a former store is moved to the current one."""
        for _ in range(LOOKS if len(self._all) > 1 else 1):
            for store in self._all:
                record = await self._look(store, ticket, now)
                if record is None:
                    continue
                if store is self.current or record.is_over:
                    return Found(record, store)
                if moved := await self._move(store, ticket, record, now):
                    return Found(moved, self.current)
        return None

    async def change(self, found: Found, one: records.Id, changes: records.Changes, at: float, until: float) -> bool:
        """Merge the changes, wherever the session is by now. False when it lives nowhere."""
        for store in self._from(found.store):
            if await store.change(one, changes, at, until):
                return True
        return False

    async def rotate(
        self, found: Found, old: records.Id, new: records.Id, record: records.Record, changes: records.Changes
    ) -> bool:
        """Give it another id; the old one is over in every store. False when the session lives nowhere."""
        for store in self._from(found.store):
            if await store.rotate(old, new, record, changes):
                await self._end(old, record.changed_at, [other for other in self._all if other is not store])
                return True
        return False

    async def end(self, one: records.Id, now: float) -> None:
        """The session is over in every store. All are told, even when one of them does not answer."""
        await self._end(one, now, self._all)

    async def _look(self, store: Store, ticket: records.Ticket, now: float) -> records.Record | None:
        if store is not self.current and store.is_in_cookie and ticket.is_blank:
            return None
        record = await store.load(ticket, now)
        if record is None or record.is_over or store.is_in_cookie or ticket.sealed is None:
            return record
        # What it was before it moved into the cookie may still be here.
        is_outdated = record.changed_at < ticket.sealed.changed_at and any(one.is_in_cookie for one in self._all)
        return None if is_outdated else record

    async def _move(
        self, source: Store, ticket: records.Ticket, record: records.Record, now: float
    ) -> records.Record | None:
        """Move it here, and say what has moved. None when somebody else has just done it, or ended it: ask again."""
        if not await self.current.adopt(ticket.id, record):
            return None
        counters.add("sessions.moved")
        if self.current.is_in_cookie:  # until the client has the sealed cookie, its old one must do
            return record
        while not await source.forget(ticket.id, record.changed_at):  # a process behind us has changed it meanwhile
            newer = await source.load(ticket, now)
            if newer is None or newer.is_over or not await self.current.adopt(ticket.id, newer):
                return None
            record = newer
        return record

    def _from(self, first: Store) -> list[Store]:
        """Where a session may be that was in `first` a moment ago."""
        return [first, *(one for one in self._all if one is not first and not one.is_in_cookie)]

    async def _end(self, one: records.Id, now: float, places: Sequence[Store]) -> None:
        trouble: errors.TryAgain | None = None
        for store in places:
            try:
                await store.end(one, now)
            except errors.TryAgain as error:
                log.warning("a session could not be ended in the store %s: %s", store.name, error)
                trouble = error
        if trouble is not None:
            raise trouble
