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
    assert resting.Resting("primary", 1, 0x30000A0) == resting.look(data, CONTROL_DATA)


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
