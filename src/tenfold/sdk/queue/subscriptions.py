"""tenfold.subscription and tenfold.inbox: who gets what, and what was handled already. Kept in order by every process.

Called by `queue` when a process starts and now and then afterwards, and by `tenfold queue forget`.
"""

from collections.abc import Sequence
from datetime import timedelta

from tenfold.sdk.db import primary
from tenfold.sdk.queue import store, subjects, transport

KEEP = timedelta(hours=24)
"""How long the inbox remembers a message: longer than it can be on its way twice. One of tenfold.relayed: as long as it
is there, since a new home passes it on again."""

MOST = 5_000
"""Rows that one statement prunes."""

_WRITE = """
insert into tenfold.subscription (group_name, subject, pattern, is_ordered)
select * from unnest($1::text[], $2::text[], $3::text[], $4::boolean[])
    on conflict (group_name, subject)
    do update set pattern = excluded.pattern, is_ordered = excluded.is_ordered, seen_at = now()
"""

_PRUNE = """
delete from tenfold.inbox where (group_name, id) in (
    select group_name, id from tenfold.inbox i where handled_at < now() - $1::interval
       and not exists (select from tenfold.relayed r where r.id = i.id)
     order by handled_at limit $2 for update skip locked)
"""

_SEEN = "select group_name, subject, extract(epoch from now() - seen_at)::float8 from tenfold.subscription"

_FORGET = """
with gone as (delete from tenfold.subscription where group_name = $1 and ($2::text is null or subject = $2)
              returning subject, pattern),
     left_over as (
         delete from tenfold.delivery d using gone
          where d.group_name = $1
            and (d.subject = gone.subject or (gone.pattern is not null and d.subject ~ gone.pattern))
          returning d.id)
select (select count(*) from gone), (select count(*) from left_over)
"""


async def write(shards: primary.Shards, wanted: Sequence[transport.Subscription]) -> None:
    """On return each group gets every message of its subject that is passed on from now on."""
    rows = [
        (
            one.group,
            one.subject,
            subjects.expression(one.subject) if subjects.is_pattern(one.subject) else None,
            one.is_ordered,
        )
        for one in sorted(wanted, key=lambda one: (one.group, one.subject))
    ]
    await store.execute(shards, _WRITE, *(list(column) for column in zip(*rows, strict=True)))


async def prune(shards: primary.Shards) -> int:
    """Forget what was handled long ago; returns how many rows went."""
    total = 0
    while True:
        gone = int((await store.execute(shards, _PRUNE, KEEP, MOST)).rpartition(" ")[2])
        total += gone
        if gone < MOST:
            return total


async def seen(shards: primary.Shards) -> dict[tuple[str, str], float]:
    """By group and subject: how many seconds ago a process with that subscriber last said so."""
    return {(row[0], row[1]): row[2] for row in await store.fetch(shards, _SEEN)}


async def forget(shards: primary.Shards, group: str, subject: str | None) -> tuple[int, int]:
    """Let a group get nothing any more, and delete what waits for it in PostgreSQL: how many subscriptions and messages
    went. A process that still has the subscriber brings it back at its next start."""
    row = (await store.fetch(shards, _FORGET, group, subject))[0]
    return row[0], row[1]
