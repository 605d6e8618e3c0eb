"""The sessions of the service's users, while `[sessions] store` is `database`, and tokens that were revoked.

Written by `sdk/sessions` and `sdk/tokens`.
"""

STEP = """
create table tenfold.session (
    id bytea primary key,
    fields jsonb not null default '{}',
    principal text,
    is_over boolean not null default false,
    created_at timestamptz not null default now(),
    changed_at timestamptz not null default now(),
    expires_at timestamptz not null
);
comment on table tenfold.session is 'One row for each session; a session that was ended keeps its row for a while.';
comment on column tenfold.session.id is 'The digest of the id in the cookie, never the id.';
comment on column tenfold.session.fields is 'By name, each value as JSON text: it comes back exactly as it was kept.';
comment on column tenfold.session.is_over is 'Logged out: a request that was under way cannot bring it back.';
create index session_expires_at on tenfold.session (expires_at);

create table tenfold.revocation (
    name bytea primary key,
    made_before timestamptz not null,
    expires_at timestamptz not null
);
comment on table tenfold.revocation is 'Tokens taken back before they expire, and subjects whose tokens were.';
comment on column tenfold.revocation.made_before is 'Tokens made before this moment are void.';
create index revocation_expires_at on tenfold.revocation (expires_at);
"""

GRANTS = "grant select, insert, update, delete on tenfold.session, tenfold.revocation to {role};"
