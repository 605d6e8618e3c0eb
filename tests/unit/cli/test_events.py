"""`tenfold events`: which are shown, how, and what is said when there are none."""

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tenfold import cli
from tenfold.cli import output
from tenfold.runtime import events, paths

HAPPENED = [
    {"at": -7200, "kind": "server_started", "text": "server web-1 has power", "subject": "web-1"},
    {"at": -60, "kind": "process_restarted", "text": "granian on web-1 died\nagain", "level": "warning"},
    {"at": -30, "kind": "step_done", "text": "1/1 start granian on web-10", "seconds": 1.5},
    {"at": -10, "kind": "guard_failed", "text": "no space left", "level": "error"},
]
"""`at` counts from the test's own now."""


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> paths.Paths:
    """A project that has run, and whose runtime was killed in the middle of a write."""
    monkeypatch.chdir(tmp_path)
    found = paths.Paths(tmp_path / "tenfold.toml")
    found.topology.write_text("")
    found.state.mkdir()
    found.records.write_text("{}")
    now = time.time()
    happened = [{**one, "at": now + float(str(one["at"]))} for one in HAPPENED]
    found.events.write_text("".join(json.dumps(one) + "\n" for one in happened) + '{"at": 1, "ki')
    return found


def call(*words: str) -> Result:
    return CliRunner().invoke(cli.group, ["events", *words], catch_exceptions=True)


def kinds(*words: str) -> list[str]:
    found = call(*words, "--json")
    assert 0 == found.exit_code, found.output
    return [json.loads(line)["kind"] for line in found.stdout.splitlines()]


@pytest.mark.usefixtures("where")
def test_all_that_is_kept_is_shown_and_half_a_line_is_no_error() -> None:
    assert ["server_started", "process_restarted", "step_done", "guard_failed"] == kinds()


@pytest.mark.usefixtures("where")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-n", "1"], ["guard_failed"]),
        (["-n", "0"], []),
        (["--since", "10m"], ["process_restarted", "step_done", "guard_failed"]),
        (["--since", "10m", "-n", "1"], ["guard_failed"]),
        (["--level", "warning"], ["process_restarted", "guard_failed"]),
        (["--level", "error"], ["guard_failed"]),
        (["--server", "web-1"], ["server_started", "process_restarted"]),
        (["--server", "web-10"], ["step_done"]),
        (["--kind", "step_done", "--kind", "guard_failed"], ["step_done", "guard_failed"]),
    ],
)
def test_events_are_chosen_by_time_level_server_and_kind(words: list[str], expected: list[str]) -> None:
    assert expected == kinds(*words)


@pytest.mark.usefixtures("where")
def test_for_a_person_they_stand_in_columns() -> None:
    lines = call().stdout.splitlines()

    assert "· server web-1 has power" == lines[0][20:]
    assert ("· granian on web-1 died", " " * 22 + "again") == (lines[1][20:], lines[2])
    assert "✓ 1/1 start granian on web-10 (1.50 s)" == lines[3][20:]


@pytest.mark.usefixtures("where")
def test_a_kind_that_never_was_is_answered_with_the_nearest() -> None:
    assert "no such events; did you mean step_done?" in call("--kind", "stepdone").stderr


def test_a_server_that_never_was_is_a_slip(where: paths.Paths) -> None:
    found = call("--server", "web-2")

    assert "web-2: no such server" in str(found.exception)


def test_before_the_first_start_it_says_how_to_begin(where: paths.Paths) -> None:
    where.events.unlink()

    assert "no events yet; start with: tenfold up -d" in call().stderr


def test_a_change_that_fails_does_not_tell_its_log_twice(capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "step 1/1 (start granian) failed: last lines of the log:\n  ImportError\nGoing back to what was there before."
    )
    output.teller()(events.Event(0.0, "going_back", text, level="error"))

    shown = capsys.readouterr().out
    assert "failed: last lines" in shown
    assert "Going back" in shown
    assert "ImportError" not in shown, "that is in the error, with which the command ends"
