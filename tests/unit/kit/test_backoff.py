"""Waits between tries: they grow, they have a ceiling, they never spin and never come at once."""

import pytest

from tenfold.kit import backoff


def test_the_ceiling_doubles_from_the_first_wait_to_the_longest() -> None:
    waits = backoff.Backoff(first_seconds=0.5, most_seconds=3.0)

    assert [0.5, 1.0, 2.0, 3.0, 3.0] == [waits.ceiling(tries) for tries in (1, 2, 3, 4, 5)]


@pytest.mark.parametrize("tries", [0, -5])
def test_fewer_than_one_failure_waits_like_the_first(tries: int) -> None:
    assert backoff.Backoff().ceiling(1) == backoff.Backoff().ceiling(tries)


def test_a_very_long_row_of_failures_does_not_overflow() -> None:
    assert 30.0 == backoff.Backoff().ceiling(1_000_000)


def test_a_wait_lies_between_half_the_ceiling_and_the_ceiling() -> None:
    waits = backoff.Backoff(first_seconds=1.0, most_seconds=8.0)
    drawn = [waits.seconds(3) for _ in range(200)]

    assert 2.0 <= min(drawn)
    assert max(drawn) <= 4.0


def test_two_that_failed_together_do_not_come_back_together() -> None:
    waits = backoff.Backoff()

    assert 1 < len({waits.seconds(4) for _ in range(20)})
