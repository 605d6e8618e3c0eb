"""The command line as shells and pipes meet it: completion in a real bash, readers that leave, no colours in files."""

import os
import re
import shlex
import sys
import time
from pathlib import Path

import pytest

from support import project
from tenfold.kit import process

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

HEAVY = ("aiohttp", "asyncpg", "jinja2", "pydantic", "sqlglot", "uvloop")
"""What help, usage errors and completions have no use for."""

HARMLESS = ("tenfold new my-shop", "tenfold help topology database", "tenfold completion bash")
"""Examples of helps that change nothing outside of the folder they are run in."""


async def bash(script: str, folder: Path, **env: str) -> process.Finished:
    """Run a script with this environment's `tenfold` first on the path."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return await process.run(["bash", "-c", script], env={"PATH": path, **env}, directory=folder, timeout_seconds=60)


async def test_bash_completes_after_its_script_was_sourced(tmp_path: Path) -> None:
    script = """
        source <(tenfold completion bash)
        complete -p tenfold
        tab() {
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _tenfold_completion tenfold; echo "${COMPREPLY[*]}"
        }
        tab tenfold sta
        tab tenfold grow --to rep
        tab tenfold events --level w
    """
    finished = await bash(script, tmp_path)

    assert finished.output.splitlines()[1:] == ["status", "replicated", "warning"], finished.output
    assert "_tenfold_completion tenfold" in finished.output.splitlines()[0]


async def test_no_command_loads_clients_or_drivers_before_it_runs(tmp_path: Path) -> None:
    ask = f"""
import sys
from tenfold.cli import COMMANDS, lazily
for module in COMMANDS.values():
    lazily.module("tenfold.cli." + module)
    assert not (heavy := [name for name in {HEAVY!r} if name in sys.modules]), (module, heavy)
"""
    finished = await process.run([sys.executable, "-c", ask], directory=tmp_path, timeout_seconds=60)
    assert 0 == finished.code, finished.output


async def test_help_and_completion_are_quick(tmp_path: Path) -> None:
    """A bound of several times what it takes here (0.07 s, 0.12 s): a machine that is busy must not fail it."""
    shop = project.Project(tmp_path, "")
    began = time.monotonic()
    await shop.tenfold("--help")
    helped = time.monotonic()
    await bash("_TENFOLD_COMPLETE=bash_complete COMP_WORDS='tenfold up --' COMP_CWORD=2 tenfold", tmp_path)

    assert helped - began < 1.5
    assert time.monotonic() - helped < 1.5


async def test_a_reader_that_leaves_is_no_failure(tmp_path: Path) -> None:
    finished = await bash("set -o pipefail; for n in 1 2 3; do tenfold help topology | head -1; done", tmp_path)

    assert 0 == finished.code
    assert "Traceback" not in finished.output
    assert "pipe" not in finished.output.lower()


async def test_what_is_no_terminal_gets_no_colours(tmp_path: Path) -> None:
    shop = project.Project(tmp_path, "")
    for words in (["--help"], ["help", "topology"], ["status"]):
        assert "\x1b" not in (await shop.try_tenfold(*words)).output
    shown = await bash("script -qec 'tenfold doctor' /dev/null", tmp_path, NO_COLOR="1", TERM="xterm")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", shown.output)


async def test_the_harmless_examples_of_the_help_run(tmp_path: Path) -> None:
    shop = project.Project(tmp_path, "")
    for one in HARMLESS:
        words = shlex.split(one)[1:]
        assert f"Example: {one}" in await shop.tenfold(*words[: 2 if words[0] == "help" else 1], "--help")
        await shop.tenfold(*words)


async def test_exit_codes_tell_failure_from_bad_input(tmp_path: Path) -> None:
    shop = project.Project(tmp_path, "")
    assert 2 == (await shop.try_tenfold("status")).code
    assert 2 == (await shop.try_tenfold("stauts")).code
    await shop.tenfold("new", "little")
    little = project.Project(tmp_path / "little", "")
    assert 1 == (await little.try_tenfold("status")).code
    assert 2 == (await little.try_tenfold("grow", "--to", "nowhere")).code
