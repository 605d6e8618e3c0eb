"""Where the pytest plugin finds the app, and what pytest's options change."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tenfold import errors
from tenfold.testing import project

TOPOLOGY = '[service]\nname = "notes"\napp = "web:app"\ndirectory = "src"\nenv = { A = "1" }\n'


def options(**said: str) -> Callable[[str], str]:
    return lambda name: said.get(name, "")


def write(folder: Path, text: str = TOPOLOGY) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tenfold.toml").write_text(text)
    return folder


def test_the_nearest_topology_above_what_is_tested_counts(tmp_path: Path) -> None:
    shop = write(tmp_path / "services" / "shop")
    write(tmp_path)
    found = project.find(options(), tmp_path, [f"{shop}/tests/test_x.py::test_y"])
    assert found is not None
    assert (shop / "tenfold.toml", shop / "src", "notes") == (found.file, found.directory, found.name)
    assert {"A": "1"} == project.environment(found)
    assert ("web:app", shop / "src" / "migrations") == (
        found.topology().service.app,
        found.migrations_folder(found.topology()),
    )


def test_the_url_begins_as_the_topology_says(tmp_path: Path) -> None:
    write(tmp_path, TOPOLOGY + '[database]\nurl_scheme = "postgresql+asyncpg"\n')
    found = project.find(options(), tmp_path, [str(tmp_path)])
    assert found is not None
    assert "postgresql+asyncpg" == found.url_scheme


def test_an_option_names_another_folder_and_another_app(tmp_path: Path) -> None:
    write(tmp_path)
    shop = write(tmp_path / "shop")
    said = options(tenfold_directory="shop", tenfold_factory="web:create", tenfold_migrations="sql")
    found = project.find(said, tmp_path, [str(tmp_path)])
    assert found is not None
    assert shop / "tenfold.toml" == found.file
    topology = found.topology()
    assert ("", "web:create", "sql") == (topology.service.app, topology.service.factory, topology.database.migrations)


def test_without_a_topology_the_options_do(tmp_path: Path) -> None:
    found = project.find(options(tenfold_app="web:app"), tmp_path, [str(tmp_path)])
    assert found is not None
    assert (None, tmp_path, "web:app") == (found.file, found.directory, found.topology().service.app)


def test_nothing_is_found_where_there_is_nothing(tmp_path: Path) -> None:
    assert project.find(options(), tmp_path, [str(tmp_path)]) is None


def test_a_broken_topology_is_no_trouble_before_it_is_needed(tmp_path: Path) -> None:
    write(tmp_path, "[service\n")
    found = project.find(options(), tmp_path, [str(tmp_path)])
    assert found is not None
    with pytest.raises(errors.BadInput, match="a syntax error found"):
        found.topology()
