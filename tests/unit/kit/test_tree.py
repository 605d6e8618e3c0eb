"""Folders of code: what counts, when two are the same, and copies that are complete or not there."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenfold.kit import tree

FILES = ("web.py", "templates/page.html", "static/logo.svg", "data/words.txt")

SKIPPED = (
    "shop.ledger",
    ".git/config",
    ".tenfold/servers/x.py",
    "lib/__pycache__/web.pyc",
    "venv/lib/x.py",
    "node_modules/a.js",
)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    for name in FILES:
        write(folder / name, name)
    return folder


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_a_copy_holds_every_file_and_is_the_same(app: Path, tmp_path: Path) -> None:
    (app / "empty").mkdir()
    (app / "tool.sh").write_text("#!/bin/sh\n")
    (app / "tool.sh").chmod(0o755)

    copied = tree.Tree(app).copy(tmp_path / "copy")

    assert copied == tree.Tree(app).fingerprint() == tree.Tree(tmp_path / "copy").fingerprint()
    assert {*FILES, "tool.sh"} == names(tmp_path / "copy")
    assert os.access(tmp_path / "copy" / "tool.sh", os.X_OK)
    assert (tmp_path / "copy" / "empty").is_dir()


def test_what_is_edited_afterwards_does_not_reach_the_copy(app: Path, tmp_path: Path) -> None:
    tree.Tree(app).copy(tmp_path / "copy")
    (app / "web.py").write_text("half edited")

    assert "web.py" == (tmp_path / "copy" / "web.py").read_text()


@pytest.mark.parametrize("change", ["edit", "add", "rename", "delete", "make a program", "relink"])
def test_whatever_changes_makes_another_fingerprint(app: Path, change: str) -> None:
    (app / "link").symlink_to("web.py")
    before = tree.Tree(app).fingerprint()
    match change:
        case "edit":
            (app / "static/logo.svg").write_text("something else")
        case "add":
            (app / "more.py").write_text("")
        case "rename":
            (app / "web.py").rename(app / "wed.py")
        case "delete":
            (app / "data/words.txt").unlink()
        case "make a program":
            (app / "web.py").chmod(0o755)
        case _:
            (app / "link").unlink()
            (app / "link").symlink_to("static")

    assert before != tree.Tree(app).fingerprint()


def test_what_is_written_again_unchanged_is_the_same(app: Path) -> None:
    before = tree.Tree(app).fingerprint()
    (app / "web.py").write_text("web.py")

    assert before == tree.Tree(app).fingerprint()


@pytest.mark.parametrize("name", SKIPPED)
def test_what_tools_keep_beside_the_code_does_not_count(app: Path, tmp_path: Path, name: str) -> None:
    before = tree.Tree(app).fingerprint()
    write(app / name, "new")
    if name.startswith("venv"):
        (app / "venv" / "pyvenv.cfg").touch()

    assert before == tree.Tree(app).copy(tmp_path / "copy")
    assert set(FILES) == names(tmp_path / "copy")


def test_what_is_excluded_by_name_or_by_path_does_not_count(app: Path, tmp_path: Path) -> None:
    for name in ("a/big.bin", "data/keep.txt", "other/words.txt", "tenfold.toml"):
        write(app / name, name)
    excluded = tree.Tree(app, excluded=("*.bin", "data/words.*", "static/"), besides=(app / "tenfold.toml",))

    excluded.copy(tmp_path / "copy")

    assert {"web.py", "templates/page.html", "data/keep.txt", "other/words.txt"} == names(tmp_path / "copy")


def test_a_link_within_leads_to_the_copy_and_one_that_leads_out_to_where_it_led(app: Path, tmp_path: Path) -> None:
    write(tmp_path / "shared" / "fonts.css", "shared")
    links = {"near": "web.py", "absolute": str(app / "web.py"), "templates/up": "../data", "out": "../shared/fonts.css"}
    for name, target in links.items():
        (app / name).symlink_to(target)
    (app / "nowhere").symlink_to("not-there")

    copied = tree.Tree(app).copy(tmp_path / "far" / "away" / "copy")

    copy = tmp_path / "far" / "away" / "copy"
    assert copied == tree.Tree(app).fingerprint()
    assert all((copy / name).is_symlink() for name in (*links, "nowhere"))
    assert {copy / "web.py"} == {(copy / "near").resolve(), (copy / "absolute").resolve()}
    assert copy / "data" == (copy / "templates" / "up").resolve()
    assert "shared" == (copy / "out").read_text()


def test_sockets_and_pipes_are_left_out(app: Path, tmp_path: Path) -> None:
    os.mkfifo(app / "pipe")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(app / "s"))
        tree.Tree(app).copy(tmp_path / "copy")

    assert set(FILES) == names(tmp_path / "copy")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="tree-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_cannot_be_read_is_named_and_leaves_no_half_copy(open_folder: Path, what: str) -> None:
    app = open_folder / "app"
    hidden = app / "secret" if what == "folder" else app / "secret.txt"
    write(app / "secret" / "x.txt" if what == "folder" else hidden, "x")
    app.chmod(0o755)
    hidden.chmod(0)
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.seteuid(65534)  # root may read everything
        with pytest.raises(PermissionError) as failure:
            tree.Tree(app).copy(open_folder / "copy")
    finally:
        if is_root:
            os.seteuid(0)
        hidden.chmod(0o700)

    assert str(hidden) == failure.value.filename
    assert ["app"] == sorted(os.listdir(open_folder))


def test_what_an_earlier_copy_left_half_made_is_gone(app: Path, tmp_path: Path) -> None:
    write(tmp_path / ".copy.partial" / "old.py", "old")

    tree.Tree(app).copy(tmp_path / "copy")

    assert set(FILES) == names(tmp_path / "copy")
    assert ["app", "copy"] == sorted(os.listdir(tmp_path))
