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
create index outbox_key on tenfold.outbox (key) where key is not null;

create table tenfold.subscription (
    group_name text not null,
    subject text not null,
    pattern text,
    is_ordered boolean not null default false,
    seen_at timestamptz not null default now(),
    primary key (group_name, subject)
);
comment on table tenfold.subscription is 'Which group gets messages of which subject; written by processes that start.';
comment on column tenfold.subscription.pattern is 'A subject with wildcards, as a regular expression.';

create table tenfold.delivery (
    group_name text not null,
    id uuid not null,
    number bigint generated always as identity,
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
comment on column tenfold.delivery.number is 'The order of messages with one key; others have none.';
comment on column tenfold.delivery.available_at is 'While a process has it: when its lease ends.';
create index delivery_available_at on tenfold.delivery (group_name, available_at);
create index delivery_key on tenfold.delivery (group_name, key, number) where key is not null;

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

alter table tenfold.outbox set (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02);
alter table tenfold.delivery set (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02);

create function tenfold.outbox_batch(wanted uuid[], most integer, grace interval) returns setof tenfold.outbox
    language plpgsql
as $body$
declare
    is_serial boolean := exists (select from tenfold.subscription where is_ordered) and (
        cardinality(wanted) = 0
        or exists (select from tenfold.outbox where id = any (wanted) and key is not null));
begin
    if is_serial then
        perform pg_advisory_xact_lock(hashtext('tenfold.outbox'));
        wanted := wanted || array(
            select older.id from tenfold.outbox newer join tenfold.outbox older using (key)
             where newer.id = any (wanted));
    end if;
    return query
        select o.* from tenfold.outbox o
         where (cardinality(wanted) = 0 or o.id = any (wanted))
           and o.available_at <= now()
           and (cardinality(wanted) > 0 or o.available_at > o.created_at or o.available_at <= now() - grace)
           and exists (
               select from tenfold.subscription s
                where s.subject = o.subject or (s.pattern is not null and o.subject ~ s.pattern))
         order by o.available_at, o.id
         limit most
           for update skip locked;
end
$body$;
comment on function tenfold.outbox_batch(uuid[], integer, interval) is
    'Rows that may be passed on now, locked, in their order: the wanted ones, or those that nobody passed on within '
    'the grace. Where a group wants order, rows with keys are in the hands of one transaction at a time, and of a key '
    'the older ones come too.';

create function tenfold.pass_on(wanted uuid[], most integer, grace interval, origin text)
    returns table (passed integer, reached text[])
    language plpgsql
as $body$
declare
    chosen uuid[] := array(select id from tenfold.outbox_batch(wanted, most, grace));
begin
    return query
        with gone as (
            delete from tenfold.outbox where id = any (chosen) returning *
        ), delivered as (
            insert into tenfold.delivery (group_name, id, subject, key, payload, headers, position)
            select s.group_name, o.id, o.subject, o.key, o.payload, o.headers,
                   origin || '.' || to_hex((pg_current_wal_flush_lsn() - '0/0')::bigint)
              from gone o
              join tenfold.subscription s
                on s.subject = o.subject or (s.pattern is not null and o.subject ~ s.pattern)
             order by o.available_at, o.id
                on conflict do nothing
            returning group_name
        )
        select cardinality(chosen), array(select distinct group_name from delivered);
end
$body$;
comment on function tenfold.pass_on(uuid[], integer, interval, text) is
    'Moves rows of the outbox to the groups that want them, while PostgreSQL is the queue. What is flushed now covers '
    'each row that can be seen now: that is the position of the message.';
"""

GRANTS = """
grant select, insert, update, delete
    on tenfold.outbox, tenfold.subscription, tenfold.delivery, tenfold.inbox, tenfold.dead_letter to {role};
"""
