"""The help of every command, its example, completion, and the suggestions for what was not meant."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tenfold import cli, errors
from tenfold.cli import example, words


def call(*given: str, columns: int = 80) -> Result:
    return CliRunner().invoke(cli.group, given, terminal_width=columns)


def commands(
    group: click.Group = cli.group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def test_every_command_is_in_a_group_of_the_help() -> None:
    grouped = [name for names in cli.GROUPS.values() for name in names if name in cli.COMMANDS]

    assert sorted(cli.COMMANDS) == sorted(grouped)
    assert set(cli.COMMANDS) == set(cli.ABOUT)
    text = call("--help").output
    for name in cli.COMMANDS:
        assert f"\n  {name} " in text


@pytest.mark.parametrize("columns", [40, 80])
def test_the_help_of_every_command_ends_with_its_example(columns: int) -> None:
    for path, command in commands():
        lines = call(*path, "--help", columns=columns).output.rstrip().splitlines()
        shown = example.of(command)
        assert shown, f"{path}: no example"
        assert f"Example: {shown}" == lines[-1].strip()
        assert shown.split()[1] == path[0]
        assert not any("Example" in line for line in lines[:-1])


def test_asking_for_help_twice_shows_the_example_once() -> None:
    call("up", "--help")

    assert 1 == call("up", "--help").output.count("Example:")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["grwo"], "did you mean grow?"),
        (["up", "--detatch"], "--detach"),
        (["server", "kil"], "kill"),
        (["events", "--level", "warn"], "did you mean warning?"),
        (["completion", "zhs"], "did you mean zsh?"),
        (["help", "topology", "databas"], "did you mean database?"),
    ],
)
def test_a_slip_is_met_with_what_was_meant(given: list[str], meant: str) -> None:
    found = call(*given)

    assert 0 != found.exit_code
    assert meant in found.output + str(found.exception)


def test_a_name_that_is_not_known_is_met_with_all_that_are() -> None:
    with pytest.raises(errors.BadInput) as caught:
        words.ensure_known("server", "databse-1", ["web-1", "database-1"])

    assert "databse-1: no such server; there are web-1, database-1; did you mean database-1?" == str(caught.value)


# completion


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with records of three servers, which no runtime guards."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tenfold.toml").write_text("")
    (tmp_path / ".tenfold").mkdir()
    servers = {
        "web-1": {"spec": spec("web", granian="web"), "processes": {"granian": {}}},
        "database-1": {"spec": spec("database", patroni="database"), "processes": {"patroni": {}}},
        "database-2": {"spec": spec("database", postgres="database"), "processes": {"postgres": {}}},
    }
    state = {"servers": servers, "releases": {"7": {}, "8": {}}}
    (tmp_path / ".tenfold" / "state.json").write_text(json.dumps(state))
    return tmp_path


def spec(tier: str, **processes: str) -> dict[str, object]:
    return {"tier": tier, "processes": [{"name": name, "tier": job} for name, job in processes.items()]}


def completed(line: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What a Tab at the end of the line gives."""
    given = line.split(" ")
    found = CliRunner().invoke(
        cli.group,
        [],
        prog_name="tenfold",
        env={"_TENFOLD_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(given) - 1)},
    )
    return {one.partition(",")[2] for one in found.output.splitlines() if one}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tenfold sta", {"status"}),
        ("tenfold server k", {"kill"}),
        ("tenfold server kill ", {"web-1", "database-1", "database-2"}),
        ("tenfold psql -s ", {"database-1", "database-2"}),
        ("tenfold logs d", {"database", "database-1", "database-2"}),
        ("tenfold logs r", {"runtime"}),
        ("tenfold deploy --rollback --to ", {"7", "8"}),
        ("tenfold grow --to re", {"replicated", "regions"}),
        ("tenfold grow --s", {"--skip"}),
        ("tenfold events --level w", {"warning"}),
        ("tenfold help topology web", {"web", "web_groups"}),
        ("tenfold completion f", {"fish"}),
    ],
)
def test_a_tab_completes_what_can_stand_there(line: str, expected: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert expected == completed(line, monkeypatch)


def test_records_that_cannot_be_read_complete_to_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".tenfold" / "state.json").write_text("{")

    assert set() == completed("tenfold server kill ", monkeypatch)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell_asks_tenfold(shell: str) -> None:
    script = call("completion", shell)

    assert 0 == script.exit_code
    assert f"_TENFOLD_COMPLETE={shell}_complete" in script.output.replace("env ", "")


def test_an_example_that_is_long_is_not_broken() -> None:
    @click.command()
    def long() -> None:
        """Do. Example: tenfold long --with several --options that --do not --fit into one line of forty columns"""

    text = CliRunner().invoke(example.placed(long), ["--help"], terminal_width=40).output

    assert "into one line of forty columns" in text.splitlines()[-1]
    assert os.linesep * 3 not in text
