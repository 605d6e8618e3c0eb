"""What the runtime remembers across its death: all of it, in a file of its own that is never half written."""

from pathlib import Path

import pytest

from tenfold import errors
from tenfold.kit import files, process
from tenfold.runtime import records
from tenfold.topology import layout

WEB = layout.Server("web-1", "home", 1, "web", 1, 100, (layout.GRANIAN,))


def filled() -> records.Records:
    granian = records.ProcessRecord(
        name="granian",
        engine="granian",
        argv=("granian", "shop.web:app"),
        env={"PASSWORD": "secret"},
        directory="/srv/shop",
        stop_signal=15,
        grace_seconds=12.0,
        start_seconds=30.0,
        identity=process.Identity(4242, 17),
        restarts=3,
    )
    server = records.ServerRecord(WEB, power="on", marker="m", processes={"granian": granian})
    return records.Records(network=77, topology="[service]", servers={"web-1": server}, has_data=True)


def test_what_was_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    records.Store(tmp_path / "state.json", filled()).save()

    assert filled() == records.Store.open(tmp_path / "state.json").records


def test_the_file_is_its_owners_alone_for_it_holds_environments(tmp_path: Path) -> None:
    records.Store(tmp_path / "state.json", filled()).save()

    for path in (tmp_path / "state.json", files.copy_of(tmp_path / "state.json")):
        assert 0o600 == path.stat().st_mode & 0o777


def test_a_service_that_was_never_started_has_no_records_and_no_file(tmp_path: Path) -> None:
    store = records.Store.open(tmp_path / "state.json")

    assert records.Records() == store.records
    assert [] == list(tmp_path.iterdir())


def test_nothing_is_written_when_nothing_changed(tmp_path: Path) -> None:
    store = records.Store(tmp_path / "state.json", filled())
    store.save()
    before = (tmp_path / "state.json").stat().st_ino

    store.save()
    assert before == (tmp_path / "state.json").stat().st_ino

    store.records.servers["web-1"].power = "killed"
    store.save()
    assert "killed" == records.Store.open(tmp_path / "state.json").records.servers["web-1"].power


@pytest.mark.parametrize("content", ["", "garbage", "[]", '{"network": "many"}', '{"servers": {"web-1": {}}}'])
def test_a_file_that_cannot_be_understood_names_the_copy_to_put_back(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content)

    with pytest.raises(errors.RuntimeFailure, match=r"cp .*state\.json\.copy .*state\.json"):
        records.Store.open(tmp_path / "state.json")


def test_an_unknown_server_is_bad_input_that_names_the_known_ones() -> None:
    with pytest.raises(errors.BadInput, match=r"web-9.*known servers: web-1"):
        records.Store(Path("state.json"), filled()).server("web-9")


def test_a_server_without_power_or_enclosure_is_not_alive() -> None:
    assert not records.ServerRecord(WEB, power="on").is_alive
    assert not records.ServerRecord(WEB, power="killed").is_alive
