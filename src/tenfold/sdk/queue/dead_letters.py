"""tenfold.dead_letter: messages that a group could not handle, on whichever transport they came.

Written by `handling`; read, replayed and discarded by `tenfold queue`. A replayed message goes to its group through
tenfold.delivery, which is looked after whatever the transport.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

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

_COUNT = "select group_name, count(*) from tenfold.dead_letter group by group_name"

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


async def listed(shards: primary.Shards, group: str | None, most: int) -> Sequence[Any]:
    """The newest ones, of one group or of all."""
    return await store.fetch(shards, _LIST, group, most)


async def counted(shards: primary.Shards) -> dict[str, int]:
    """How many each group has."""
    return {row[0]: row[1] for row in await store.fetch(shards, _COUNT)}


async def shown(shards: primary.Shards, id_: UUID) -> Sequence[Any]:
    """Everything about a message that is dead, once for each group for which it is."""
    return await store.fetch(shards, _SHOW, id_)


async def replay(shards: primary.Shards, group: str | None, id_: UUID | None) -> int:
    """Let the groups try again, from the first try on; returns how many messages. None: any."""
    return int((await store.fetch(shards, _REPLAY, group, id_))[0][0])


async def discard(shards: primary.Shards, group: str | None, id_: UUID | None) -> int:
    """Delete them; returns how many. None: any."""
    return int((await store.fetch(shards, _DISCARD, group, id_))[0][0])
