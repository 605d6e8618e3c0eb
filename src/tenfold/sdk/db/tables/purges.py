"""What edges must forget, recorded with the transaction that made it stale.

Written by `tx.purge`, followed and settled by `sdk/cdn/delivery`.
"""

STEP = """
create table tenfold.purge (
    id uuid primary key,
    tags text[] not null default '{}',
    urls text[] not null default '{}',
    is_everything boolean not null default false,
    is_soft boolean not null default false,
    owed text[],
    taken_until timestamptz not null default clock_timestamp() + interval '1 second',
    settled_at timestamptz,
    created_at timestamptz not null default clock_timestamp()
);
comment on table tenfold.purge is
    'One row for each purge of a committed transaction; kept for some minutes after it was settled.';
comment on column tenfold.purge.owed is
    'The edges that have not acknowledged the last purge of this row; null while nobody has come so far.';
comment on column tenfold.purge.taken_until is
    'Until then some process is at it; after that another one begins anew.';
comment on column tenfold.purge.settled_at is
    'Since then no edge can have anything older, whatever it fetches: sessions that wrote need not bypass them.';
create index purge_unsettled on tenfold.purge (taken_until) where settled_at is null;
create index purge_settled_at on tenfold.purge (settled_at);
"""

GRANTS = "grant select, insert, update, delete on tenfold.purge to {role};"
