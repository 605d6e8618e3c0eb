"""Messages: those that a transaction publishes, those that wait for a group, and those that were handled.

Written by `tx.publish`, the relay and the subscribers; see `sdk/queue`.
"""

STEP = """
create table tenfold.outbox (
    id uuid primary key,
    subject text not null,
    key text,
    payload bytea not null,
    headers jsonb not null default '{}',
    available_at timestamptz not null default now(),
    created_at timestamptz not null default now()
);
comment on table tenfold.outbox is
    'Messages that a committed transaction has published and that have not been passed on yet.';
create index outbox_available_at on tenfold.outbox (available_at);

create table tenfold.subscription (
    group_name text not null,
    subject text not null,
    settings jsonb not null default '{}',
    seen_at timestamptz not null default now(),
    primary key (group_name, subject)
);
comment on table tenfold.subscription is 'Which group gets messages of which subject; written by processes that start.';

create table tenfold.delivery (
    group_name text not null,
    id uuid not null,
    subject text not null,
    key text,
    payload bytea not null,
    headers jsonb not null default '{}',
    position text,
    attempt integer not null default 0,
    available_at timestamptz not null default now(),
    leased_until timestamptz,
    created_at timestamptz not null default now(),
    primary key (group_name, id)
);
comment on table tenfold.delivery is 'A message that waits for one group, while PostgreSQL is the queue.';
create index delivery_available_at on tenfold.delivery (group_name, available_at);

create table tenfold.inbox (
    group_name text not null,
    id uuid not null,
    handled_at timestamptz not null default now(),
    primary key (group_name, id)
);
comment on table tenfold.inbox is
    'Which messages a group has handled, inserted in the handler''s own transaction: its effects happen once.';
create index inbox_handled_at on tenfold.inbox (handled_at);

create table tenfold.dead_letter (
    group_name text not null,
    id uuid not null,
    subject text not null,
    key text,
    payload bytea not null,
    headers jsonb not null default '{}',
    attempts integer not null,
    reason text not null,
    died_at timestamptz not null default now(),
    primary key (group_name, id)
);
comment on table tenfold.dead_letter is 'Messages that a group could not handle, kept for a person to look at.';
"""

GRANTS = """
grant select, insert, update, delete
    on tenfold.outbox, tenfold.subscription, tenfold.delivery, tenfold.inbox, tenfold.dead_letter to {role};
"""
