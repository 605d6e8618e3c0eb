"""`tenfold logs`: a server's, a tier's or a process's, on servers that do one job and on the one that does all."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from tenfold import cli
from tenfold.kit import process
from tenfold.runtime import paths, records
from tenfold.topology import layout


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a server that does every job, one for the web, and a line in each log."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tenfold.toml").write_text("")
    where = paths.Paths(tmp_path / "tenfold.toml")
    where.make()
    shared = (layout.HAPROXY, layout.GRANIAN, layout.POSTGRES)
    specs = [
        layout.Server("server-1", "home", 1, "server", 1, 1, shared),
        layout.Server("web-1", "home", 1, "web", 1, 100, (layout.GRANIAN,)),
    ]
    known = {}
    for spec in specs:
        known[spec.name] = records.ServerRecord(spec, processes={one.name: started(one) for one in spec.processes})
        folder = where.server(spec.name) / "log"
        folder.mkdir(parents=True)
        for one in spec.processes:
            (folder / f"{one.name}.log").write_text("a line\n")
    records.Store(where.records, records.Records(servers=known)).save()
    return tmp_path


def started(one: layout.Process) -> records.ProcessRecord:
    return records.ProcessRecord(
        name=one.name,
        engine=one.engine,
        argv=(),
        env={},
        directory="/",
        stop_signal=15,
        grace_seconds=1.0,
        start_seconds=1.0,
        identity=process.Identity(1, 1),
    )


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web", ["server-1/granian", "web-1/granian"]),
        ("database", ["server-1/postgres"]),
        ("balancer", ["server-1/haproxy"]),
        ("server", ["server-1/granian", "server-1/haproxy", "server-1/postgres"]),
        ("web-1", ["web-1/granian"]),
        ("granian", ["server-1/granian", "web-1/granian"]),
    ],
)
def test_a_tier_has_the_logs_of_all_who_do_its_job(name: str, expected: list[str]) -> None:
    found = CliRunner().invoke(cli.group, ["logs", name])

    assert expected == [line.partition(" | ")[0] for line in found.output.splitlines()]


@pytest.mark.usefixtures("project")
def test_a_name_that_is_none_is_met_with_those_that_there_are() -> None:
    found = CliRunner().invoke(cli.group, ["logs", "databse"])

    assert "databse: no such server or tier; there are server-1, web-1, balancer, database, " in str(found.exception)
