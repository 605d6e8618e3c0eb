"""Which region's database was the primary when: one row for each time that it became another's.

Written by the promotion as the first thing that the new primary does; read by every probe of `sdk/db`.
"""

STEP = """
create table tenfold.epoch (
    number integer primary key,
    region text not null,
    held pg_snapshot not null,
    left_at pg_lsn not null,
    began_at timestamptz not null default now()
);
comment on table tenfold.epoch is
    'One row for each promotion of a region, from the second epoch on. Positions are ordered by epoch first.';
comment on column tenfold.epoch.held is
    'The transactions of the former home that the promoted copy had: others, committed there, are lost.';
comment on column tenfold.epoch.left_at is
    'How far the promoted copy had replayed the former home''s log.';
"""

GRANTS = "grant select on tenfold.epoch to {role};"
