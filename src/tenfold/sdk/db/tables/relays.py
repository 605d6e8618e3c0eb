"""Messages that the queue servers of the home region have, kept here until every group has handled them.

Written and emptied by `sdk/queue`, where other regions have queue servers too: the database is copied to them, so that
a new home finds what the lost one's servers had.
"""

STEP = """
create table tenfold.relayed (
    id uuid primary key,
    subject text not null,
    key text,
    payload bytea not null,
    headers jsonb not null default '{}',
    available_at timestamptz not null,
    created_at timestamptz not null,
    stream text not null,
    sequence bigint not null
);
comment on table tenfold.relayed is
    'Rows of the outbox that were passed on to queue servers: gone when every group has handled them.';
comment on column tenfold.relayed.stream is
    'Which stream took them: its region, and when it was made. Those of another than today''s are passed on again.';
create index relayed_sequence on tenfold.relayed (stream, sequence);
alter table tenfold.relayed set (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02);

create table tenfold.stream (
    name text primary key,
    settled bigint not null default 0,
    keeper uuid not null,
    kept_until timestamptz not null
);
comment on table tenfold.stream is
    'One row for each stream that had copies in other regions: up to which message every group has handled all.';
comment on column tenfold.stream.keeper is 'The process that looks after it until then; another one may after that.';
"""

GRANTS = "grant select, insert, update, delete on tenfold.relayed, tenfold.stream to {role};"
