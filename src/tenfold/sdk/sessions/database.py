"""Sessions in the service's database: the table tenfold.session. Durable, and as available as the database.

A read goes where the request's other reads go: to a copy that has all that this client has written (its position cookie
says so). A client that lost its position may read fields that are a moment old; what ended a session, and what changed
its id, waits for every copy that answers reads, so no copy shows a session that is over. A session that a copy does not
know is looked for on the primary.
"""

import logging
import math
import random
from collections.abc import Mapping
from typing import Any

import msgspec

from tenfold import errors, request
from tenfold.sdk import counters, db
from tenfold.sdk.db import apart, copies
from tenfold.sdk.sessions import records

log = logging.getLogger("tenfold.sessions")

COLUMNS_READ = """
fields::text, principal, extract(epoch from created_at)::float8, extract(epoch from changed_at)::float8,
extract(epoch from expires_at)::float8, is_over
"""

LOAD = f"select {COLUMNS_READ} from tenfold.session where id = $1"

_COLUMNS = "(id, fields, principal, created_at, changed_at, expires_at)"
_VALUES = """
values ($1, $2::text::jsonb, $3::text, to_timestamp($4::float8), to_timestamp($5::float8), to_timestamp($6::float8))
"""

CREATE = f"insert into tenfold.session {_COLUMNS} {_VALUES} on conflict (id) do nothing returning true"

ADOPT = f"""
insert into tenfold.session as mine {_COLUMNS} {_VALUES}
on conflict (id) do update set
    fields = excluded.fields, principal = excluded.principal, created_at = excluded.created_at,
    changed_at = excluded.changed_at, expires_at = excluded.expires_at
where not mine.is_over and mine.changed_at < excluded.changed_at
returning true
"""

CHANGE = """
update tenfold.session
   set fields = (fields - $2::text[]) || $3::text::jsonb,
       changed_at = to_timestamp($4::float8), expires_at = to_timestamp($5::float8)
 where id = $1 and not is_over and expires_at > to_timestamp($4::float8)
returning true
"""

ROTATE = """
with old as (
    select id, fields, created_at from tenfold.session
     where id = $1 and not is_over and expires_at > to_timestamp($6::float8) for update),
closed as (
    update tenfold.session as mine
       set is_over = true, fields = '{}', principal = null,
           changed_at = to_timestamp($6::float8), expires_at = to_timestamp($8::float8)
      from old where mine.id = old.id)
insert into tenfold.session (id, fields, principal, created_at, changed_at, expires_at)
select $2, (old.fields - $3::text[]) || $4::text::jsonb, $5::text, old.created_at,
       to_timestamp($6::float8), to_timestamp($7::float8)
  from old
returning true
"""

END = """
insert into tenfold.session as mine (id, is_over, changed_at, expires_at)
values ($1, true, to_timestamp($2::float8), to_timestamp($3::float8))
on conflict (id) do update set
    is_over = true, fields = '{}', principal = null, changed_at = excluded.changed_at, expires_at = excluded.expires_at
where not mine.is_over
"""

FORGET = """
with gone as (
    delete from tenfold.session
     where id = $1 and not is_over and extract(epoch from changed_at)::float8 < $2::float8 + 0.0005)
select exists (
    select from tenfold.session
     where id = $1 and not is_over and extract(epoch from changed_at)::float8 >= $2::float8 + 0.0005)
"""

PRUNE = """
delete from tenfold.session where id in (
    select id from tenfold.session where expires_at < now() order by expires_at limit 1000 for update skip locked)
"""

PRUNE_EVERY = 256
"""One new session in so many deletes up to a thousand that have expired: faster than sessions are made."""


class DatabaseStore:
    """The store `database`."""

    name = "database"
    is_in_cookie = False

    def __init__(self, database: db.Database) -> None:
        self._database = database

    async def load(self, ticket: records.Ticket, now: float) -> records.Record | None:
        row = await self._database.fetchrow(LOAD, ticket.id.digest)
        if row is None and self._database.shards.shard(0).readable:
            row = await self._database.reading("primary").fetchrow(LOAD, ticket.id.digest)
        return None if row is None or row[4] <= now else record_of(row)

    async def create(self, one: records.Id, record: records.Record, *, is_precious: bool) -> bool:
        made = bool(await self._write(CREATE, one.digest, *values_of(record)))
        if random.random() * PRUNE_EVERY < 1.0:  # noqa: S311 - spreads work, guards nothing
            await self._prune()
        return made

    async def adopt(self, one: records.Id, record: records.Record) -> bool:
        taken = bool(await self._write(ADOPT, one.digest, *values_of(record)))
        if taken:
            await self._until_seen()
        return taken

    async def change(self, one: records.Id, changes: records.Changes, at: float, expires_at: float) -> bool:
        return bool(await self._write(CHANGE, one.digest, list(changes.dropped), _json(changes.put), at, expires_at))

    async def rotate(self, old: records.Id, new: records.Id, record: records.Record, changes: records.Changes) -> bool:
        over_until = record.changed_at + records.OVER_SECONDS
        has_won = await self._write(
            ROTATE, old.digest, new.digest, list(changes.dropped), _json(changes.put), record.principal,
            record.changed_at, record.expires_at, over_until,
        )  # fmt: skip
        if has_won:
            await self._until_seen()
        return bool(has_won)

    async def end(self, one: records.Id, now: float) -> None:
        await self._write(END, one.digest, now, now + records.OVER_SECONDS)
        await self._until_seen()

    async def forget(self, one: records.Id, changed_by: float = math.inf) -> bool:
        return not await self._write(FORGET, one.digest, changed_by)

    def cookie(self, one: records.Id, record: records.Record) -> str:
        return one.text

    async def _write(self, statement: str, *arguments: Any) -> Any:
        with apart.apart():
            return await self._database.fetchval(statement, *arguments)

    async def _until_seen(self) -> None:
        """On return no copy that answers reads shows what was here before."""
        shards = self._database.shards
        at = (request.current() or shards.outside).seen.get(0)
        if at is not None and not await copies.until_seen(shards, at):
            counters.add("sessions.ends_unseen")

    async def _prune(self) -> None:
        try:
            with apart.apart():
                await self._database.execute(PRUNE)
        except errors.TryAgain as error:
            log.debug("old sessions were not deleted: %s", error)


def values_of(record: records.Record) -> tuple[Any, ...]:
    """The row's values after its id."""
    return _json(record.fields), record.principal, record.created_at, record.changed_at, record.expires_at


def _json(fields: Mapping[str, str]) -> str:
    return msgspec.json.encode(dict(fields)).decode()


def record_of(row: Any) -> records.Record | None:
    """The row's session, or None when somebody else has written something else there."""
    fields, principal, created_at, changed_at, expires_at, is_over = row
    try:
        found = msgspec.json.decode(fields, type=dict[str, str])
    except msgspec.MsgspecError as error:
        counters.add("sessions.corrupted")
        log.warning("a session in the database cannot be read and counts as none: %s", error)
        return None
    return records.Record(found, principal, created_at, changed_at, expires_at, is_over)
