"""`tenfold new`: what it writes, and what it refuses."""

import ast
import socket
import tomllib
from pathlib import Path

import pytest

from tenfold import cli
from tenfold.cli import new

FILES = [
    ".gitignore",
    "README.md",
    "load.py",
    "migrations/20260101000000_note.sql",
    "requirements.txt",
    "templates/page.html",
    "tenfold.toml",
    "tests/conftest.py",
    "tests/test_notes.py",
    "web.py",
]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of the command as a person calls it."""
    monkeypatch.setattr("sys.argv", ["tenfold", "new", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_new_app_has_all_its_files_and_the_next_commands_are_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == call(monkeypatch, "shop2")
    assert FILES == written(Path("shop2"))
    assert capsys.readouterr().out.endswith(
        "Next:\n  cd shop2\n  tenfold dev    to work on it, or\n  tenfold up     to run it as a service\n"
    )


def test_the_name_is_in_every_place_and_no_blank_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    call(monkeypatch, "my-shop")
    topology = tomllib.loads(Path("my-shop/tenfold.toml").read_text())
    assert ("my-shop", "web:app") == (topology["service"]["name"], topology["service"]["app"])
    assert not [name for name in FILES if "@@" in (Path("my-shop") / name).read_text()]


def test_its_python_files_are_python(monkeypatch: pytest.MonkeyPatch) -> None:
    call(monkeypatch, "shop2")
    for name in ("web.py", "load.py", "tests/conftest.py", "tests/test_notes.py"):
        ast.parse(Path("shop2", name).read_text())


def test_an_empty_folder_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("shop2").mkdir()
    assert 0 == call(monkeypatch, "shop2")
    assert FILES == written(Path("shop2"))


def test_a_folder_with_files_is_left_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("shop2").mkdir()
    Path("shop2/mine.txt").write_text("mine")
    assert 2 == call(monkeypatch, "shop2")
    assert ["mine.txt"] == written(Path("shop2"))
    assert "shop2: a folder with files found" in capsys.readouterr().err


def test_a_file_in_its_place_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("shop2").write_text("mine")
    assert 2 == call(monkeypatch, "shop2")
    assert "mine" == Path("shop2").read_text()


@pytest.mark.parametrize("name", ["Shop", "2shop", "a/b", "..", "", "shop_2", "shop-", "a" * 41, "postgres", "café"])
def test_a_bad_name_is_refused_and_nothing_is_written(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 2 == call(monkeypatch, name)
    assert [] == list(Path().iterdir())
    assert f"name: {name!r} found" in capsys.readouterr().err


def test_a_failure_in_the_middle_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", fail)
    assert 2 == call(monkeypatch, "shop2")
    assert [] == list(Path().iterdir())


def test_a_front_door_that_is_taken_is_not_chosen() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        assert port < new.free_port(port, port + 20)
