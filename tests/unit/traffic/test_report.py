"""The figures of a run."""

import random

import pytest

from tenfold.traffic import ledger, report, summary


def test_what_was_refused_for_want_of_capacity_is_counted_apart() -> None:
    found = report.Report()
    found.add(request(reason=ledger.OVERLOADED, status=503))
    found.add(request(reason="status", status=503))

    assert (2, 1, 1) == (found.requests, found.failed, found.refused)
    assert 1 == found.to_dict()["refused"]
    assert any(line.startswith("refused      1 ") for line in summary.report_lines(found))


def request(**changes: object) -> ledger.Request:
    known: dict[str, object] = {
        "session": "1.0", "name": "look", "method": "GET", "path": "/", "trace": "t", "intended": 0.0, "sent": 0.0,
        "latency": 0.01, "status": 200,
    }  # fmt: skip
    return ledger.Request(**{**known, **changes})  # type: ignore[arg-type]


def test_percentiles_are_exact_to_three_digits() -> None:
    chance = random.Random(3)
    seconds = sorted(chance.lognormvariate(-4, 2) for _ in range(5000))
    latencies = report.Latencies()
    for one in seconds:
        latencies.add(one)

    for percent in (50, 90, 99, 99.9):
        exact = seconds[int(len(seconds) * percent / 100 + 0.5) - 1]
        assert latencies.percentile(percent) == pytest.approx(exact, rel=0.005, abs=2e-6)
    assert seconds[-1] == latencies.longest_seconds


def test_a_latency_beyond_the_histogram_is_still_the_longest() -> None:
    latencies = report.Latencies()
    latencies.add(9999.0)

    assert 1 == latencies.count
    assert 9999.0 == latencies.longest_seconds
    assert latencies.percentile(50) == pytest.approx(3600, rel=0.001)


def test_failures_are_counted_by_reason_with_a_few_examples() -> None:
    found = report.Report()
    for number in range(5):
        found.add(request(reason="status", status=503, detail="503 found", trace=f"t{number}"))
    found.add(request(reason="cut", detail="half"))

    assert 6 == found.failed == found.requests
    assert {"status 503": 5, "cut": 1} == {reason: tally.count for reason, tally in found.failures.items()}
    assert 3 == len(found.failures["status 503"].examples)
    assert "[trace t0]" in found.failures["status 503"].examples[0]
    assert not found.is_clean


def test_what_a_person_cut_short_is_neither_failed_nor_measured() -> None:
    found = report.Report()
    found.add(request(reason="interrupted"))
    found.add(ledger.Trouble(session="", journey="", reason="interrupted", detail="", at=0, count=3))

    assert (0, 0, 4) == (found.requests, found.failed, found.interrupted)
    assert found.is_clean


def test_a_trouble_counts_as_often_as_it_says() -> None:
    found = report.Report()
    found.add(ledger.Trouble(session="", journey="", reason="unsent", detail="late", at=0, count=7))

    assert 7 == found.failed


def test_names_with_ids_in_them_do_not_eat_the_memory() -> None:
    found = report.Report()
    for number in range(report.MOST_NAMES + 50):
        found.add(request(name=f"GET /{number}"))

    assert report.MOST_NAMES + 1 == len(found.by_name)
    assert 50 == found.by_name[report.OTHER_NAMES].count
    assert report.MOST_NAMES + 50 == found.total.count


def test_the_longest_pause_between_acknowledged_writes_is_known() -> None:
    found = report.Report()
    for at in (1.0, 1.2, 4.2, 4.3):
        found.add(request(intended=at, latency=0.5, kind="order", is_acknowledged=True))
    found.add(request(intended=9.0, kind="order"))

    assert 4 == found.writes_acknowledged
    assert found.longest_write_gap_seconds == pytest.approx(3.0)


def test_a_missing_own_write_is_not_clean() -> None:
    found = report.Report()
    found.add(ledger.OwnRead(session="1", kind="order", reference="r", at=0, is_seen=True))
    assert found.is_clean

    found.add(ledger.OwnRead(session="1", kind="order", reference="r", at=0, is_seen=False))

    assert (2, 1) == (found.own_reads, found.stale_reads)
    assert not found.is_clean


def test_an_interval_holds_only_what_came_since_the_last() -> None:
    found = report.Report()
    found.add(request(latency=1.0, repeats=1))
    assert report.Interval(1, 0, 1, 1.0, 1.0) == found.take_interval()

    found.add(request(latency=0.2, reason="cut"))

    assert report.Interval(1, 1, 0, 0.2, 0.2) == found.take_interval()
    assert report.Interval(0, 0, 0, 0.0, 0.0) == found.take_interval()


def test_the_summary_says_what_failed_and_how_long_it_took() -> None:
    found = report.Report()
    found.add(request(latency=0.0041))
    found.add(request(latency=1.93, reason="status", status=503, detail="503 found, below 400 expected", trace="abc"))
    found.seconds = 2.0

    text = "\n".join(summary.report_lines(found))

    assert "requests     2 in 2.0 s (1.0 a second)" in text
    assert (
        "failed       1\n  status 503: 1\n    look (GET /) at 0.000 s: 503 found, below 400 expected [trace abc]"
        in text
    )
    assert "longest wait 1.93s: look at 0.0 s, status 503, trace abc" in text


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.00087, "870us"), (0.0041, "4.1ms"), (0.9999, "999.9ms"), (1.93, "1.93s"), (0, "0us")]
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    assert shown == summary.duration(seconds)


def test_a_load_generator_that_was_late_itself_says_so() -> None:
    found = report.Report()
    assert "this machine was busy" not in "\n".join(summary.report_lines(found))

    found.late_seconds = 0.9

    assert "requests went out up to 900.0ms late" in "\n".join(summary.report_lines(found))
