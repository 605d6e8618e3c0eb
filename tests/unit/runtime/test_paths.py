"""Where a service keeps its state, and how its topology file is found."""

from pathlib import Path

from tenfold.runtime import paths


def test_all_state_lies_beside_the_topology_file_and_only_its_owner_enters(tmp_path: Path) -> None:
    where = paths.Paths(tmp_path / "tenfold.toml")
    where.state.mkdir(mode=0o755)

    where.make()

    assert 0o700 == where.state.stat().st_mode & 0o777
    assert 0o700 == where.run.stat().st_mode & 0o777
    assert tmp_path == where.project
    assert all(one.parent == where.state for one in (where.records, where.secrets, where.bindings, where.events))
    assert where.state / "servers" / "web-1" == where.server("web-1")


def test_asking_for_paths_makes_no_folders(tmp_path: Path) -> None:
    where = paths.Paths(tmp_path / "tenfold.toml")

    assert where.control.parent == where.lock.parent == where.run
    assert [] == list(tmp_path.iterdir())


def test_the_nearest_topology_file_above_is_found(tmp_path: Path) -> None:
    deep = tmp_path / "shop" / "src" / "shop"
    deep.mkdir(parents=True)
    (tmp_path / "tenfold.toml").touch()
    (tmp_path / "shop" / "tenfold.toml").touch()

    assert (tmp_path / "shop" / "tenfold.toml").resolve() == paths.find(deep)
    assert paths.find(deep, "no-such-file.toml") is None


def test_a_service_that_was_started_is_found_without_its_file(tmp_path: Path) -> None:
    where = paths.Paths(tmp_path.resolve() / "tenfold.toml")
    where.make()
    assert paths.find_state(tmp_path) is None

    where.records.write_text("{}")

    assert where.topology == paths.find_state(tmp_path)
