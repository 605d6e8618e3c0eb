"""Files that are never half written, folders that go at once, and sockets whose path is short enough."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from support import sockets
from tenfold.kit import files


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def test_a_file_is_replaced_whole_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    target = tmp_path / "state.json"
    target.write_text("old")
    target.chmod(0o644)

    files.write_atomically(target, "new")

    assert "new" == target.read_text()
    assert 0o600 == mode(target)
    assert ["state.json"] == names(tmp_path)


def test_a_write_that_fails_leaves_the_old_content_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "state.json"
    files.write_atomically(target, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomically(target, "new")

    assert "old" == target.read_text()
    assert ["state.json"] == names(tmp_path)


def test_what_is_written_twice_has_a_copy_to_put_back(tmp_path: Path) -> None:
    files.write_twice(tmp_path / "secrets.json", b"{}")

    assert ["secrets.json", "secrets.json.copy"] == names(tmp_path)
    assert b"{}" == files.copy_of(tmp_path / "secrets.json").read_bytes()
    assert 0o600 == mode(files.copy_of(tmp_path / "secrets.json"))


def test_a_file_that_holds_just_that_is_not_written_again(tmp_path: Path) -> None:
    target = tmp_path / "config" / "haproxy.cfg"

    assert files.write_if_changed(target, "one")
    before = target.stat().st_ino
    assert not files.write_if_changed(target, "one")
    assert before == target.stat().st_ino
    assert files.write_if_changed(target, "two")
    assert "two" == target.read_text()


def test_a_folder_is_removed_with_what_an_earlier_removal_left(tmp_path: Path) -> None:
    data, left = tmp_path / "data", tmp_path / ".removed-data"
    for folder in (data, left):
        folder.mkdir()
        (folder / "file").touch()

    files.remove_tree(data)
    files.remove_tree(data)

    assert [] == names(tmp_path)


def test_sockets_of_a_short_path_stay_in_their_own_folder(tmp_path: Path) -> None:
    wanted = Path("/srv/shop/.tenfold/run")

    assert wanted == files.socket_folder(wanted)


def test_sockets_of_a_path_that_is_too_long_get_a_short_folder_always_the_same() -> None:
    wanted = Path("/srv") / ("very-long-name-" * 8) / ".tenfold" / "run"
    short = files.socket_folder(wanted)

    assert len(os.fsencode(short / "balancer-10.haproxy-master")) <= files.LONGEST_SOCKET_PATH
    assert short == files.socket_folder(wanted)
    assert short != files.socket_folder(wanted.with_name("run2"))


def test_a_short_folder_goes_when_another_is_made_after_its_owner_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead, alive = (tmp_path / (name * 100) / ".tenfold" for name in "da")
    for state in (dead, alive):
        state.mkdir(parents=True)
    left, kept = files.make_socket_folder(dead / "run"), files.make_socket_folder(alive / "run")
    nobodys = files.socket_folder(alive / "nobody's")
    files.make_private(nobodys)
    assert {(dead, left), (alive, kept)} == set(files.owned_socket_folders())

    shutil.rmtree(dead)
    files.make_socket_folder(alive / "run")

    assert not left.exists()
    assert kept.exists()
    assert nobodys.exists()


def test_a_run_of_tests_leaves_no_folder_of_sockets(tmp_path: Path) -> None:
    below, beside = tmp_path / ("b" * 100), tmp_path / ("c" * 100)
    for one in (below, beside):
        (one / "test").mkdir(parents=True)
    made, others = (files.make_socket_folder(one / "test" / "run") for one in (below, beside))

    sockets.remove_below(below)

    assert not made.exists()
    assert others.exists()
    sockets.remove_below(beside)


def test_a_private_folder_lets_only_its_owner_in(tmp_path: Path) -> None:
    folder = tmp_path / ".tenfold" / "run"

    files.make_private(folder)
    files.make_private(folder)

    assert 0o700 == mode(folder)


def test_a_private_folder_that_belongs_to_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)

    with pytest.raises(PermissionError, match="belongs to another user"):
        files.make_private(tmp_path)
