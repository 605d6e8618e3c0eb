"""Logs do not fill the disk, and what engines append after a rotation is not lost."""

from pathlib import Path

import pytest

from tenfold.runtime import logs, paths


@pytest.fixture
def where(tmp_path: Path) -> paths.Paths:
    made = paths.Paths(tmp_path / "tenfold.toml")
    (made.server("web-1") / "log").mkdir(parents=True)
    return made


def test_only_logs_over_the_limit_are_rotated(where: paths.Paths) -> None:
    granian = where.server("web-1") / "log" / "granian.log"
    granian.write_text("x" * 11)
    where.events.write_text("x" * 10)

    assert (granian,) == logs.rotate(where, most_bytes=10)
    assert "" == granian.read_text()
    assert "x" * 11 == granian.with_name("granian.log.1").read_text()
    assert "x" * 10 == where.events.read_text()


def test_the_oldest_copy_goes_and_two_are_kept(where: paths.Paths) -> None:
    for content in ("first", "second", "third"):
        where.log.write_text(content)
        logs.rotate(where, most_bytes=1)

    assert "third" == where.log.with_name("runtime.log.1").read_text()
    assert "second" == where.log.with_name("runtime.log.2").read_text()
    assert ["runtime.log", "runtime.log.1", "runtime.log.2"] == sorted(
        one.name for one in where.state.glob("runtime.log*")
    )


def test_an_engine_that_holds_its_log_open_goes_on_in_the_emptied_file(where: paths.Paths) -> None:
    with where.log.open("ab", buffering=0) as engine:
        engine.write(b"before ")
        logs.rotate(where, most_bytes=1)
        engine.write(b"after")

    assert b"after" == where.log.read_bytes()


def test_a_service_without_logs_has_nothing_to_rotate(where: paths.Paths) -> None:
    assert () == logs.rotate(where)
