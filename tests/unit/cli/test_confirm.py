"""The question before a change: agreed to, refused, and asked where nobody is."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tenfold import cli, errors


def delete(answer: str | None) -> Result:
    return CliRunner().invoke(cli.group, ["down", "--delete-data"], input=answer)


@pytest.fixture(autouse=True)
def _service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tenfold.toml").write_text("")


def test_a_yes_goes_ahead() -> None:
    assert 0 == delete("y\n").exit_code


def test_a_no_ends_the_command_and_is_no_interruption() -> None:
    refused = delete("n\n")

    assert 1 == refused.exit_code
    assert "left as it is" in refused.output


def test_where_nobody_answers_the_option_is_named() -> None:
    unanswered = delete(None)

    assert isinstance(unanswered.exception, errors.BadInput)
    assert "add: --yes" in str(unanswered.exception)
