"""What an error in place of an answer proves."""

from typing import Any

import asyncpg
import pytest

from tenfold import errors
from tenfold.sdk.db import commit, connect


def server_said(state: str, severity: str = "ERROR") -> Any:
    return asyncpg.PostgresError.new({"C": state, "S": "FEHLER", "V": severity, "M": "said the server"})


@pytest.mark.parametrize("state", ["23505", "23503", "40001", "40P01", "P0001", "44000"])
def test_constraints_and_conflicts_prove_the_rollback(state: str) -> None:
    error = server_said(state)

    assert commit.Answer(commit.Verdict.ROLLED_BACK, error=error) == commit.judge(error)


@pytest.mark.parametrize(
    ("state", "severity"),
    [
        ("57P01", "FATAL"),
        ("23505", "FATAL"),
        ("40001", "PANIC"),
        ("57014", "ERROR"),
        ("42883", "ERROR"),
        ("42501", "ERROR"),
        ("55000", "ERROR"),
        ("XX000", "ERROR"),
    ],
)
def test_what_may_have_gone_wrong_after_the_commit_proves_nothing(state: str, severity: str) -> None:
    error = server_said(state, severity)

    assert commit.Answer(commit.Verdict.UNKNOWN, error=error) == commit.judge(error)


def test_a_failed_transaction_is_told_apart() -> None:
    answer = commit.judge(server_said("25P02"))

    assert commit.Verdict.ROLLED_BACK is answer.verdict
    assert isinstance(answer.error, errors.RolledBack)


class Asked:
    """A connection, as far as it is asked whether it is closed."""

    def __init__(self, *, is_closed: bool) -> None:
        self._is_closed = is_closed

    def is_closed(self) -> bool:
        return self._is_closed


@pytest.mark.parametrize("error", [asyncpg.InterfaceError("connection is closed"), AttributeError("_get_timeout")])
def test_a_statement_whose_connection_was_closed_under_it_was_lost_and_its_own_mistake_was_not(
    error: Exception,
) -> None:
    assert connect.is_lost(Asked(is_closed=True), error)
    assert not connect.is_lost(Asked(is_closed=False), error)
