"""tenfold.dead_letter: messages that a group could not handle, on whichever transport they came.

Written by `handling`; read, replayed and discarded by `tenfold queue`. A replayed message goes to its group through
tenfold.delivery, which is looked after whatever the transport.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from tenfold.sdk.db import primary
from tenfold.sdk.queue import messages, store

_KEEP = """
insert into tenfold.dead_letter (group_name, id, subject, key, payload, headers, attempts, reason)
values ($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8)
on conflict (group_name, id) do update
   set attempts = excluded.attempts, reason = excluded.reason, died_at = now()
"""

_LIST = """
select group_name, id, subject, key, attempts, reason, died_at from tenfold.dead_letter
 where $1::text is null or group_name = $1
 order by died_at desc, id limit $2
"""

_SHOW = """
select group_name, id, subject, key, attempts, reason, died_at, payload, headers::text as headers
  from tenfold.dead_letter where id = $1 order by group_name
"""

_CHOSEN = "($1::text is null or group_name = $1) and ($2::uuid is null or id = $2)"

_REPLAY = f"""
with gone as (delete from tenfold.dead_letter where {_CHOSEN} returning *), told as (
    insert into tenfold.delivery (group_name, id, subject, key, payload, headers, position)
    select group_name, id, subject, key, payload, headers, headers ->> '{messages.POSITION}'
      from gone order by died_at, id
        on conflict (group_name, id) do update set available_at = now(), attempt = 0)
select count(*) from gone
"""

_DISCARD = f"with gone as (delete from tenfold.dead_letter where {_CHOSEN} returning 1) select count(*) from gone"


async def keep(shards: primary.Shards, group: str, taken: messages.Taken, reason: str) -> None:
    """On return it is kept. Raises `StoreUnavailable` when it may not be."""
    one = taken.envelope
    headers = msgspec.json.encode(one.headers).decode()
    clean = reason.replace("\0", "\\0")
    await store.execute(shards, _KEEP, group, one.id, one.subject, one.key, one.payload, headers, taken.attempt, clean)


async def listed(connection: "asyncpg.Connection[Any]", group: str | None, most: int) -> Sequence[Any]:
    """The newest ones, of one group or of all."""
    return await connection.fetch(_LIST, group, most)


async def shown(connection: "asyncpg.Connection[Any]", id_: UUID) -> Sequence[Any]:
    """Everything about a message that is dead, once for each group for which it is."""
    return await connection.fetch(_SHOW, id_)


async def replay(connection: "asyncpg.Connection[Any]", group: str | None, id_: UUID | None) -> int:
    """Let the groups try again, from the first try on; returns how many messages."""
    return int(await connection.fetchval(_REPLAY, group, id_))


async def discard(connection: "asyncpg.Connection[Any]", group: str | None, id_: UUID | None) -> int:
    """Delete them; returns how many."""
    return int(await connection.fetchval(_DISCARD, group, id_))
