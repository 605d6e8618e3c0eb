"""Which cached things have become stale, recorded with the transaction that made them so.

Written by `tx.invalidate`, followed by every process's floors; see `sdk/cache`.
"""

STEP = """
create table tenfold.invalidation (
    id uuid primary key,
    slots integer[] not null,
    floor_timeline integer,
    floor_lsn pg_lsn,
    changed_by xid8 not null default pg_current_xact_id(),
    created_at timestamptz not null default now()
);
comment on table tenfold.invalidation is
    'One row for each transaction that made something cached stale, inserted in it; kept for a day, or fewer rows.';
comment on column tenfold.invalidation.slots is
    'The slots of the tags and keys, by their hash: what is cached under one of them is stale up to the floor.';
comment on column tenfold.invalidation.floor_lsn is
    'How far the log was flushed after the commit had returned; null until it has been delivered.';
comment on column tenfold.invalidation.changed_by is
    'Its transaction: by it a write-through learns, on the primary, whether somebody else was at it too.';
create index invalidation_floor on tenfold.invalidation (floor_lsn);
create index invalidation_changed_by on tenfold.invalidation (changed_by);
"""

GRANTS = "grant select, insert, update, delete on tenfold.invalidation to {role};"
