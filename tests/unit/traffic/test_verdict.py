"""The verdict over a ledger and what was counted in the database."""

from tenfold.traffic import ledger, summary, verify

CHECKS = {"order": "select ..."}
STALE = ledger.OwnRead(
    session="3.0", kind="order", reference="a", at=1.5, is_seen=False, written_at="0.1.1.A0", read_at="0.1.1.90"
)


def evidence(**changes: object) -> verify.Evidence:
    found = verify.Evidence(acknowledged={"order": {"a", "b"}}, unanswered={"order": {"u"}}, is_complete=True)
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_every_acknowledged_write_once_is_clean_and_an_unanswered_one_may_be_there_or_not() -> None:
    for counts in ({"a": 1, "b": 1}, {"a": 1, "b": 1, "u": 1}):
        verdict = verify.judge(evidence(), counts, CHECKS)
        assert verdict.is_clean
        assert "exactly once" in summary.verdict_lines(verdict)[-1]


def test_an_acknowledged_write_that_is_not_there_is_lost() -> None:
    verdict = verify.judge(evidence(), {"a": 1}, CHECKS)

    assert ("b",) == verdict.kinds[0].lost
    assert 1 == verdict.lost
    assert not verdict.is_clean
    assert "lost: order b" in summary.verdict_lines(verdict)


def test_a_write_that_is_there_twice_is_doubled_answered_or_not() -> None:
    verdict = verify.judge(evidence(), {"a": 2, "b": 1, "u": 2}, CHECKS)

    assert ("a", "u") == verdict.kinds[0].doubled
    assert not verdict.is_clean
    assert "verdict: VIOLATED: 0 lost, 2 doubled, 0 own writes not seen" == summary.verdict_lines(verdict)[-1]


def test_a_consumed_write_may_be_gone_but_never_doubled() -> None:
    consumed = evidence(consumed={"b"})

    assert verify.judge(consumed, {"a": 1}, CHECKS).is_clean
    assert not verify.judge(consumed, {"a": 1, "b": 2}, CHECKS).is_clean
    assert not verify.judge(consumed, {}, CHECKS).is_clean


def test_an_own_write_that_its_session_did_not_see_is_a_violation_with_both_positions() -> None:
    verdict = verify.judge(evidence(stale=[STALE], own_reads=9), {"a": 1, "b": 1}, CHECKS)

    assert not verdict.is_clean
    lines = summary.verdict_lines(verdict)
    assert any("session 3.0" in line and "written at 0.1.1.A0, read at 0.1.1.90" in line for line in lines)


def test_writes_that_nothing_counts_are_not_called_clean() -> None:
    verdict = verify.judge(evidence(), {}, {})

    assert not verdict.is_clean
    assert 0 == verdict.lost
    assert "order: not compared; add a query for it to CHECKS" in summary.verdict_lines(verdict)


def test_a_killed_runs_ledger_is_compared_and_said_to_be_one() -> None:
    verdict = verify.judge(evidence(is_complete=False, is_torn=True), {"a": 1, "b": 1}, CHECKS)

    assert verdict.is_clean
    assert any("killed" in line and "torn" in line for line in summary.verdict_lines(verdict))
