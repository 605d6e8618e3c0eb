"""Sessions in this process: the architecture that the ladder leaves behind, kept because people ask what it costs.

Needs a balancer that sends each client to the same web server. What a process has is gone with it, and when it is full
the sessions that were used least recently go.
"""

import math
from collections import OrderedDict

from tenfold.sdk import counters
from tenfold.sdk.sessions import records

MOST_SESSIONS = 100_000
MOST_BYTES = 64 * 1024**2
RECORD_BYTES = 400
"""What one takes beside its fields."""


class MemoryStore:
    """The store `memory`. Every method is one turn of the loop: nothing can come between."""

    name = "memory"
    is_in_cookie = False

    def __init__(self, most_sessions: int = MOST_SESSIONS, most_bytes: int = MOST_BYTES) -> None:
        self._most_sessions = most_sessions
        self._most_bytes = most_bytes
        self._records: OrderedDict[bytes, records.Record] = OrderedDict()
        self._bytes = 0

    async def load(self, ticket: records.Ticket, now: float) -> records.Record | None:
        found = self._records.get(ticket.id.digest)
        if found is None:
            return None
        if found.expires_at <= now:
            self._remove(ticket.id.digest)
            return None
        self._records.move_to_end(ticket.id.digest)
        return found

    async def create(self, one: records.Id, record: records.Record, *, is_precious: bool) -> bool:
        if one.digest in self._records:
            return False
        self._put(one.digest, record)
        return True

    async def adopt(self, one: records.Id, record: records.Record) -> bool:
        mine = self._records.get(one.digest)
        if mine is not None and (mine.is_over or mine.changed_at >= record.changed_at):
            return False
        self._put(one.digest, record)
        return True

    async def change(self, one: records.Id, changes: records.Changes, at: float, expires_at: float) -> bool:
        mine = self._living(one.digest, at)
        if mine is None:
            return False
        fields = changes.onto(mine.fields)
        self._put(one.digest, records.Record(fields, mine.principal, mine.created_at, at, expires_at))
        return True

    async def rotate(self, old: records.Id, new: records.Id, record: records.Record, changes: records.Changes) -> bool:
        mine = self._living(old.digest, record.changed_at)
        if mine is None:
            return False
        fields = changes.onto(mine.fields)
        await self.end(old, record.changed_at)
        kept = records.Record(fields, record.principal, mine.created_at, record.changed_at, record.expires_at)
        self._put(new.digest, kept)
        return True

    async def end(self, one: records.Id, now: float) -> None:
        over = records.Record({}, None, now, now, now + records.OVER_SECONDS, is_over=True)
        self._put(one.digest, over)

    async def forget(self, one: records.Id, changed_by: float = math.inf) -> bool:
        mine = self._records.get(one.digest)
        if mine is None or mine.is_over:
            return True
        if mine.changed_at > changed_by:
            return False
        self._remove(one.digest)
        return True

    def cookie(self, one: records.Id, record: records.Record) -> str:
        return one.text

    def _living(self, digest: bytes, now: float) -> records.Record | None:
        mine = self._records.get(digest)
        return None if mine is None or mine.is_over or mine.expires_at <= now else mine

    def _put(self, digest: bytes, record: records.Record) -> None:
        self._remove(digest)
        self._records[digest] = record
        self._bytes += _size(record)
        while len(self._records) > self._most_sessions or self._bytes > self._most_bytes:
            self._remove(next(iter(self._records)))
            counters.add("sessions.evicted")

    def _remove(self, digest: bytes) -> None:
        gone = self._records.pop(digest, None)
        if gone is not None:
            self._bytes -= _size(gone)


def _size(record: records.Record) -> int:
    return RECORD_BYTES + sum(len(name) + len(text) for name, text in record.fields.items())
