"""What was put and waits to be flushed, while no cache server can keep it; see `sdk/cache/write_back`."""

STEP = """
create table tenfold.journal (
    id uuid primary key,
    name text not null,
    key text not null,
    value bytea not null,
    created_at timestamptz not null default now()
);
comment on table tenfold.journal is
    'Puts of a write-back that its function has not flushed yet; most wait in the cache''s servers instead.';
create index journal_name on tenfold.journal (name, created_at);
"""

GRANTS = "grant select, insert, update, delete on tenfold.journal to {role};"
