"""tenfold's own tables in the service's database: the schema `tenfold`.

Run by `tenfold migrate` as the database's superuser, before new code starts. Idempotent and versioned: each step runs
once, several runs at the same time wait for each other. Nothing here sends a NOTIFY: that would serialise commits.
"""

from tenfold.sdk.db.tables import epochs, invalidations, purges, queues, relays, sessions, write_backs

VERSION = 9
"""The newest step below."""

_COMMIT = """
create table tenfold.commit (
    token uuid primary key,
    created_at timestamptz not null default now(),
    is_void boolean not null default false,
    checked_at timestamptz,
    fingerprint bytea,
    result bytea
);
comment on table tenfold.commit is
    'One row a write transaction, inserted before anything else: settles a COMMIT whose answer was lost.';
comment on column tenfold.commit.is_void is
    'Put here by a check that found no commit: the transaction of this token did not and will not happen.';
comment on column tenfold.commit.result is
    'With an Idempotency-Key: what the first request returned, as JSON, for its repeats.';
create index commit_with_key on tenfold.commit (created_at) where token >= 'ff000000-0000-8000-8000-000000000000';
"""

_REPORT_WRITE = """
create or replace function tenfold.report_write() returns void
    language plpgsql
as $body$
begin
    if pg_current_xact_id_if_assigned() is not null then
        raise notice using errcode = 'TF002', message = 'written';
    end if;
end
$body$;
comment on function tenfold.report_write() is
    'Tells the client, before its COMMIT, whether this transaction has written.';
"""

_STEPS = (
    *(_COMMIT, _REPORT_WRITE, invalidations.STEP, sessions.STEP, queues.STEP, write_backs.STEP, purges.STEP),
    *(epochs.STEP, relays.STEP),
)
"""By version, from 1. A released step never changes; what is new is one of its own, for databases that are there."""

_FUNCTIONS = """
create or replace function tenfold.report_position() returns void
    language plpgsql
as $body$
begin
    raise notice using errcode = 'TF001', message = pg_current_wal_flush_lsn()::text;
end
$body$;
comment on function tenfold.report_position() is
    'Tells the client how far the log is flushed, in the same message as its COMMIT.';

create or replace function tenfold.timeline_history() returns text
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $body$
    select coalesce(
        (select pg_read_file('pg_wal/' || name, 0, 1048576, true)
           from pg_ls_waldir() where name ~ '^[0-9A-F]{8}\\.history$' order by name desc limit 1),
        '')
$body$;
comment on function tenfold.timeline_history() is
    'The newest timeline history file, or nothing: where each timeline was left.';
revoke execute on function tenfold.timeline_history() from public;
"""


def statements(app_role: str) -> str:
    """SQL that brings the schema `tenfold` to `VERSION` and gives `app_role` what the SDK needs.

    For one simple query as superuser: it is one transaction, and does nothing where all is there.
    """
    steps = "\n".join(_once(number, step) for number, step in enumerate(_STEPS, start=1))
    return f"begin;\n{_START}\n{steps}\n{_FUNCTIONS}\n{_grants(_quoted(app_role))}\ncommit;\n"


_START = """
select pg_advisory_xact_lock(hashtext('tenfold migrate'));
set local client_min_messages = warning;
create schema if not exists tenfold;
create table if not exists tenfold.version (
    number integer primary key,
    installed_at timestamptz not null default now()
);
"""


def _once(number: int, step: str) -> str:
    return f"""
do $step$
begin
    if not exists (select from tenfold.version where number = {number}) then
        {step}
        insert into tenfold.version (number) values ({number});
    end if;
end
$step$;
"""


def _grants(role: str) -> str:
    parts = (invalidations, sessions, queues, write_backs, purges, epochs, relays)
    others = "".join(part.GRANTS.format(role=role) for part in parts)
    return f"""
grant usage on schema tenfold to {role};
grant select on tenfold.version to {role};
grant select, insert, update, delete on tenfold.commit to {role};
grant execute on function tenfold.report_position() to {role};
grant execute on function tenfold.report_write() to {role};
grant execute on function tenfold.timeline_history() to {role};
{others}
"""


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
