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
    'One row for each invalidation of a transaction, inserted in it; kept for as long as cached values may live.';
comment on column tenfold.invalidation.slots is
    'The slots of the tags and keys, by their hash: what is cached under one of them is stale up to the floor.';
comment on column tenfold.invalidation.floor_lsn is
    'Read after the commit had returned; null until it has been delivered.';
create index invalidation_changed_by on tenfold.invalidation (changed_by);
create index invalidation_undelivered on tenfold.invalidation (created_at) where floor_lsn is null;
"""

GRANTS = "grant select, insert, update, delete on tenfold.invalidation to {role};"
