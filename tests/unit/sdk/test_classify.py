"""Which statements only read, by a real parser; in doubt they write."""

import pytest

from tenfold.sdk.db import classify
from tenfold.sdk.db.classify import Kind

FUNCTIONS = ("lower", "plainto_tsquery", "to_tsvector", "json_to_recordset", "inet_server_addr", "jsonb_agg")

READS = """
select 1
select 1;
  /* a comment */ select * from product where id = $1
(select 1)
select * from product where (a, b) > ($1, $2) and c in ($3,$4)
with cheap as (select * from product where price < $1) select count(*) from cheap
select distinct on (a) a, b from c order by a, b desc limit $1 offset $2
select name from a union all select name from b
values (1), (2)
table product
select 'for update', "nextval" from odd
select lower(name), coalesce(a, b), now(), random(), gen_random_uuid(), uuidv7() from product
select pg_catalog.lower('X')
select to_tsvector('english', body) @@ plainto_tsquery($1) from page
select * from json_to_recordset($1) as x(a int, b text)
select a->>'b', c[1], d::text, e @> $1::jsonb from f
select row_number() over (partition by a order by b) from c
select exists (select from a where b = any($1::uuid[]))
select $$it's$$, $tag$ $1 $tag$
select * from a, lateral (select b.x from b where b.id = a.id) as c
select host(inet_server_addr())
""".strip().splitlines()

WRITES = """
insert into a values ($1)
update a set b = 1
delete from a
merge into a using b on a.id = b.id when matched then delete
truncate a
create table x (a int)
select * from a for update
select * from a for no key update skip locked
select * from a for key share
select (select a from b for update)
(select a from b for share)
with gone as (delete from a returning *) select * from gone
with x as (select 1) insert into a select * from x
with x as (select 1) update a set b = 1
select * into b from a
select nextval('s')
select setval('s', 1)
select pg_advisory_lock(1)
select pg_try_advisory_xact_lock($1)
select set_config('a', 'b', false)
select pg_notify('a', 'b')
select my_function(1)
select shop.my_function(1)
select * from my_function(1)
select lower(my_function(1))
select * from pg_stat_activity
select * from pg_catalog.pg_locks
select 1; select 2
selct 1
select from where
copy a from stdin
refresh materialized view a
nonsense
"""
WRITING = [line for line in WRITES.splitlines() if line] + ["", ";", "\x00", "select '", "(" * 5000]

ALONE = """
begin
commit
vacuum analyze a
call f(1)
do $$ begin perform 1; end $$
set search_path = x
show work_mem
explain analyze delete from a
explain select 1
listen x
create index concurrently i on a (b)
create unique index concurrently i on a (b)
drop index concurrently i
reindex table concurrently a
create database x
alter system set a = 1
insert into a values (1); commit; begin
select 1; commit
""".strip().splitlines()


def known() -> classify.Classifier:
    made = classify.Classifier()
    made.learn_functions(["host", *FUNCTIONS])
    return made


@pytest.mark.parametrize("query", READS)
def test_a_statement_that_only_reads_is_known_as_such(query: str) -> None:
    assert Kind.READS is known().kind(query)


@pytest.mark.parametrize("query", WRITING)
def test_a_statement_that_writes_or_that_nobody_understands_goes_to_the_primary(query: str) -> None:
    assert Kind.WRITES is known().kind(query)


@pytest.mark.parametrize("query", ALONE)
def test_a_statement_that_cannot_be_in_a_transaction_of_ours_runs_alone(query: str) -> None:
    assert Kind.ALONE is known().kind(query)


def test_comments_before_a_statement_make_no_difference() -> None:
    comments = "-- one\n  /* two\n */ -- three\n"

    assert [Kind.READS, Kind.WRITES, Kind.ALONE] == [
        known().kind(comments + query) for query in ("select 1", "delete from a", "vacuum")
    ]


def test_upper_case_makes_no_difference() -> None:
    assert [Kind.READS, Kind.WRITES, Kind.ALONE] == [
        known().kind(query) for query in ("SELECT LOWER('X')", "SELECT A FROM B FOR UPDATE", "VACUUM")
    ]


def test_an_unknown_function_is_asked_about_and_then_known() -> None:
    classifier = classify.Classifier()
    classifier.learn_functions([])
    query = "select discount($1)"

    before = (classifier.kind(query), classifier.has_met_unknown)
    classifier.learn_functions(["discount"])
    after = (classifier.kind(query), classifier.has_met_unknown)

    assert ((Kind.WRITES, True), (Kind.READS, False)) == (before, after)


def test_what_a_replica_refused_stays_a_write_whatever_the_database_says_of_its_functions() -> None:
    classifier = known()
    query = "select lower($1)"
    assert Kind.READS is classifier.kind(query)

    classifier.learn(query)
    classifier.learn_functions(FUNCTIONS)

    assert Kind.WRITES is classifier.kind(query)


def test_only_so_many_statements_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify, "REMEMBERED", 10)
    classifier = known()

    for number in range(50):
        classifier.kind(f"select unknown_{number}()")
        classifier.learn(f"select {number}")

    assert 10 == len(classifier._kinds)
    assert len(classifier._guessed) <= 11
    assert len(classifier._learnt) <= 10
