"""Spans: the tree of one request, what of it fits into a header, and what is never in it."""

import asyncio

import pytest

from tenfold import errors, request, spans


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, milliseconds: float) -> None:
        self.now += milliseconds / 1000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder(clock: Clock) -> spans.Recorder:
    return spans.Recorder(clock, clock.now, "web", "web-1")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select 1", "select ?"),
        ("select *\n  from t where id = $1", "select * from t where id = $1"),
        ("select 'it''s me' || $2", "select ? || $2"),
        (r"select E'it\'s me', x from t2", "select ?, x from t2"),
        ("select $$se'cret$$, $a$ secret $a$", "select ?, ?"),
        ("select \"a 'name'\" from t", "select \"a 'name'\" from t"),
        ("select a /* 'secret */ from t -- 'secret", "select a from t"),
        ("select 'never closed, secret", "select ?"),
        ("select x from t where n = 12.5e3 or n = 7", "select x from t where n = ? or n = ?"),
        (r"select 'C:\', 'secret' from t", "select ?, ? from t"),
        ("select date'2020-01-01', B'101'", "select date?, ?"),
    ],
)
def test_a_statement_is_shown_without_literals(query: str, expected: str) -> None:
    assert expected == spans.shown(query)


def test_a_long_statement_is_shortened() -> None:
    assert "select " + "a" * 68 + "…" == spans.shown("select " + "a" * 200)


def test_spans_lie_inside_those_that_the_task_is_inside_of(recorder: spans.Recorder, clock: Clock) -> None:
    with recorder.inside().span("run", "order") as run:
        clock.pass_by(2)
        with recorder.inside().statement("select 1") as statement:
            clock.pass_by(3)
            statement.decide("a replica", where="database-2")
        run.note("retry", "again")
    clock.pass_by(1)

    root = recorder.finish()

    assert ["web", "run", "statement", "retry"] == [one.kind for one in root.walk()]
    run_span = root.children[0]
    assert ["statement", "retry"] == [one.kind for one in run_span.children]
    assert (2.0, 3.0) == (round(run_span.children[0].start_ms, 6), round(run_span.children[0].duration_ms, 6))
    assert (5.0, 6.0) == (round(run_span.duration_ms, 6), round(root.duration_ms, 6))
    assert "database-2" == run_span.children[0].where


@pytest.mark.anyio
async def test_tasks_at_the_same_time_do_not_get_into_each_others_spans(recorder: spans.Recorder) -> None:
    async def work(name: str) -> None:
        with recorder.inside().span("run", name):
            await asyncio.sleep(0)
            with recorder.inside().span("wait", f"of {name}"):
                await asyncio.sleep(0)

    await asyncio.gather(work("a"), work("b"))

    assert {"a": ["of a"], "b": ["of b"]} == {
        one.name: [child.name for child in one.children] for one in recorder.finish().children
    }


def test_another_requests_recorder_is_not_inside_this_ones_span(recorder: spans.Recorder, clock: Clock) -> None:
    other = spans.Recorder(clock, clock.now, "web", "other")
    with recorder.inside().span("run", "outer"):
        other.inside().note("statement", "inner")

    assert ["inner"] == [one.name for one in other.finish().children]


def test_what_failed_says_so_by_its_type_alone(recorder: spans.Recorder) -> None:
    def fail() -> None:
        with recorder.inside().statement("select 1") as span:
            span.decide("a replica")
            raise ValueError("secret")

    with pytest.raises(ValueError, match="secret"):
        fail()

    assert ["a replica; failed: ValueError"] == [one.decision for one in recorder.finish().children]


def test_what_still_runs_has_lasted_until_now(recorder: spans.Recorder, clock: Clock) -> None:
    recorder.inside().span("transaction", "open")
    clock.pass_by(4)

    assert 4.0 == round(recorder.finish().children[0].duration_ms, 6)


def test_nothing_is_recorded_for_a_request_that_nobody_traces() -> None:
    with request.serving(request.Request()), request.recording().span("run", "x") as span:
        assert span.statement("select 1") is spans.NOWHERE
        assert not span.is_recorded
    assert request.recording() is spans.NOWHERE


def test_a_tree_survives_its_way_through_a_header(recorder: spans.Recorder) -> None:
    with recorder.inside().statement('select "größe" from t') as span:
        span.decide("a replica\r\nSet-Cookie: x=1", where="database-2")
    root = recorder.finish()

    text = spans.encode(root, 4096)

    assert text.isascii()
    assert text.isprintable()
    found = spans.decode(text)
    assert [one.name for one in root.walk()] == [one.name for one in found.walk()]
    assert "database-2" == found.children[0].where


@pytest.mark.parametrize("text", ["", "{}", "[1]", '["web"]', "[" * 5000])
def test_what_is_no_tree_is_bad_input(text: str) -> None:
    with pytest.raises(errors.BadInput, match="spans as tenfold writes them expected"):
        spans.decode(text)


def test_what_does_not_fit_is_counted_the_quickest_first(recorder: spans.Recorder, clock: Clock) -> None:
    transaction = recorder.inside().span("transaction", "")
    for number in range(500):
        with transaction.statement("select a_column from a_table where id = $1"):
            clock.pass_by(50 if number == 400 else 0.1)
    with transaction.span("commit", "commit") as commit:
        commit.decide("committed at 0.1.1.3A2F0")
    transaction.end()

    text = spans.encode(recorder.finish(), 4096)

    assert len(text) <= 4096
    found = spans.decode(text).children[0]
    kept = [one for one in found.children if one.kind == "statement"]
    assert 500 == len(kept) + found.omitted
    assert 50.0 == max(one.duration_ms for one in kept)
    assert "committed at 0.1.1.3A2F0" == found.children[-1].decision
    assert pytest.approx(49.9, abs=0.1) == found.omitted_ms + sum(one.duration_ms for one in kept) - 50
    assert len(text) > 3000, "more would have fitted"


def test_other_spans_are_left_out_when_there_is_no_other_way(recorder: spans.Recorder) -> None:
    for _ in range(500):
        recorder.inside().note("wait", "connection", "none was free: one more was opened")

    text = spans.encode(recorder.finish(), 2048)

    assert len(text) <= 2048
    found = spans.decode(text)
    assert 500 == len(found.children) + found.omitted


def test_too_many_statements_do_not_fill_the_memory(recorder: spans.Recorder) -> None:
    for _ in range(spans.MOST_STATEMENTS + 50):
        recorder.inside().statement("select 1").end()
    with recorder.inside().span("commit", "commit"):
        pass

    root = recorder.finish()

    assert 50 == root.omitted
    assert spans.MOST_STATEMENTS + 1 == len(root.children)


def test_what_ran_at_the_same_time_counts_once() -> None:
    made = [spans.Span("x", "", start_ms=start, duration_ms=length) for start, length in ((0, 10), (5, 10), (30, 5))]

    assert 20.0 == spans.covered_ms(made)
