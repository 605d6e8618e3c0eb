"""The sessions of the service's users, while `[sessions] store` is `database`; see `sdk/sessions`."""

STEP = """
create table tenfold.session (
    id bytea primary key,
    fields jsonb not null default '{}',
    principal text,
    is_over boolean not null default false,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null
);
comment on table tenfold.session is 'One row for each session; a session that was ended keeps its row for a while.';
comment on column tenfold.session.id is 'The digest of the id in the cookie, never the id.';
comment on column tenfold.session.is_over is 'Logged out: a request that was under way cannot bring it back.';
create index session_expires_at on tenfold.session (expires_at);
create index session_principal on tenfold.session (principal) where principal is not null;
"""

GRANTS = "grant select, insert, update, delete on tenfold.session to {role};"
