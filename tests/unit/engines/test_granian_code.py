"""When the app's code has changed: the fingerprint that `tenfold apply` compares."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tenfold.engines.granian import code


def fingerprint(folder: Path, directory: str = ".") -> str:
    service = SimpleNamespace(directory=directory)
    return code.fingerprint(SimpleNamespace(project=folder, topology=SimpleNamespace(service=service)))  # type: ignore[arg-type]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    for name in ("web.py", "templates/page.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize("name", ["web.py", "templates/page.html"])
def test_other_content_is_other_code(app: Path, name: str) -> None:
    before = fingerprint(app)
    (app / name).write_text("something else")
    assert before != fingerprint(app)


def test_a_new_file_and_another_name_are_other_code(app: Path) -> None:
    before = fingerprint(app)
    (app / "more.py").write_text("web.py")
    added = fingerprint(app)
    (app / "more.py").rename(app / "mere.py")
    assert 3 == len({before, added, fingerprint(app)})


def test_the_same_files_touched_are_the_same_code(app: Path) -> None:
    before = fingerprint(app)
    (app / "web.py").write_text("web.py")
    assert before == fingerprint(app)


@pytest.mark.parametrize(
    "name", ["shop.ledger", "static/logo.svg", ".tenfold/config/x.py", "__pycache__/web.py", "venv/lib/x.py"]
)
def test_what_is_not_loaded_as_code_does_not_count(app: Path, name: str) -> None:
    before = fingerprint(app)
    (app / name).parent.mkdir(parents=True, exist_ok=True)
    (app / name).write_text("new")
    if name.startswith("venv"):
        (app / "venv" / "pyvenv.cfg").touch()
    assert before == fingerprint(app)


def test_only_the_services_directory_counts(app: Path) -> None:
    (app / "src").mkdir()
    before = fingerprint(app, "src")
    (app / "web.py").write_text("something else")
    assert before == fingerprint(app, "src")
