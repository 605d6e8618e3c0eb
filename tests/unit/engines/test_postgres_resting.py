"""What the files of a stopped copy tell: which of two former primaries is the newer one."""

from pathlib import Path

import pytest

from tenfold import errors
from tenfold.engines.postgres import resting

CONTROL_DATA = """
Database cluster state:               shut down
Latest checkpoint location:           0/30000A0
Latest checkpoint's TimeLineID:       1
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "pg_wal").mkdir()
    return tmp_path


def test_a_stopped_primary_is_one_and_knows_its_timeline(data: Path) -> None:
    assert resting.Resting("primary", 1, 0x30000A1, is_clean=True) == resting.look(data, CONTROL_DATA)


def test_a_primary_that_died_may_have_more_than_its_files_say(data: Path) -> None:
    died = CONTROL_DATA.replace("shut down", "in production")
    assert resting.Resting("primary", 1, 0x30000A0, is_clean=False) == resting.look(data, died)


@pytest.mark.parametrize(("line", "is_fenced"), [("default_transaction_read_only = 'on'", True), ("", False)])
def test_a_primary_that_will_hold_its_writes_says_so(data: Path, line: str, is_fenced: bool) -> None:
    (data / "postgresql.auto.conf").write_text(f"# by ALTER SYSTEM\n{line}\n")
    assert is_fenced == resting.look(data, CONTROL_DATA).is_fenced


def test_a_stopped_standby_is_one(data: Path) -> None:
    (data / "standby.signal").touch()
    assert "standby" == resting.look(data, CONTROL_DATA).role


def test_a_promotion_is_known_before_the_control_file_learns_of_it(data: Path) -> None:
    for name in ("00000002.history", "0000000A.history", "00000010.history.tmp"):
        (data / "pg_wal" / name).touch()
    assert 10 == resting.look(data, CONTROL_DATA).timeline


def test_what_is_no_cluster_is_an_error(data: Path) -> None:
    with pytest.raises(errors.EngineFailed, match="pg_controldata"):
        resting.look(data, "could not open file")
