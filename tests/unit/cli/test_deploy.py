"""`tenfold deploy`: one wish at a time, shares as people write them, and what is told in the end."""

from typing import Any

import click
import pytest

from tenfold.cli import deploy

NOTHING: dict[str, Any] = {
    "version": None,
    "canary": None,
    "promote": False,
    "rollback": False,
    "to": None,
    "status": False,
    "as_json": False,
}


@pytest.mark.parametrize(
    "wishes",
    [
        {},
        {"version": "v2"},
        {"version": "v2", "canary": 10.0},
        {"promote": True},
        {"rollback": True, "to": "1"},
        {"status": True, "as_json": True},
    ],
)
def test_these_go_together(wishes: dict[str, Any]) -> None:
    deploy.ensure_one_wish(**{**NOTHING, **wishes})


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"promote": True, "rollback": True}, "one of --promote, --rollback and --status expected"),
        ({"version": "v2", "rollback": True}, "one of"),
        ({"canary": 0.0, "promote": True}, "one of"),
        ({"status": True, "canary": 10.0}, "one of"),
        ({"to": "1"}, "--to 1: goes with --rollback"),
        ({"as_json": True}, "--json: goes with --status"),
    ],
)
def test_these_do_not(wishes: dict[str, Any], words: str) -> None:
    with pytest.raises(click.UsageError, match=words):
        deploy.ensure_one_wish(**{**NOTHING, **wishes})


@pytest.mark.parametrize(("said", "share"), [("10%", 10.0), ("0%", 0.0), ("2.5 %", 2.5), ("99%", 99.0)])
def test_a_share_is_a_percentage(said: str, share: float) -> None:
    assert share == deploy.Share().convert(said, None, None)


@pytest.mark.parametrize("said", ["10", "0.1", "100%", "0.5%", "-1%", "ten"])
def test_another_share_is_refused(said: str) -> None:
    with pytest.raises(click.BadParameter, match="a percentage from 1% to 99% expected"):
        deploy.Share().convert(said, None, None)
