"""What the README and the docs show is true: commands run, examples fit, links and named files exist.

A fenced `console` block holds commands, each after `$ `. The blocks of one document run in their order, in one shell.
`no-run="why"` beside `console` leaves a block out. Output is shown in `text` blocks, which nobody compares.
"""

import ast
import inspect
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import tenfold
from support import project
from tenfold import cli, errors
from tenfold.cli import example
from tenfold.kit import process
from tenfold.sdk import service
from tenfold.sdk.db import database, transaction
from tenfold.topology import reference, rungs

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

ROOT = project.ROOT
README = ROOT / "README.md"
DOCUMENTS = (README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")))
FENCE = re.compile(r"^```(\w*)[ ]?(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document: Path, language: str) -> Iterator[tuple[str, str]]:
    """What stands beside the language, and the content, of each fenced block."""
    for found in FENCE.finditer(document.read_text()):
        if found[1] == language:
            yield found[2], found[3]


def commands(document: Path, *, all_of_them: bool = False) -> list[str]:
    """The commands that are to be run, or all."""
    found: list[str] = []
    for marker, text in blocks(document, "console"):
        assert re.fullmatch(r'(no-run=".+")?', marker), f"{document.name}: {marker}"
        lines = text.splitlines()
        assert all(line.startswith("$ ") for line in lines), f"{document.name}: {lines}"
        if all_of_them or not marker:
            found += [line.removeprefix("$ ") for line in lines]
    return found


async def run_all(document: Path, folder: Path, replaced: dict[str, str] | None = None) -> str:
    """Run a document's commands in one shell, as a user would; the shell's output. Each of them must succeed."""
    script = "\n".join(commands(document))
    for old, new in (replaced or {}).items():
        script = script.replace(old, new)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    finished = await process.run(
        ["bash", "-xeuo", "pipefail", "-c", script], env={"PATH": path}, directory=folder, timeout_seconds=200
    )
    assert finished.code == 0, f"{document.name}: ended with {finished.code}:\n{finished.output}"
    return finished.output


async def test_the_commands_of_the_readme_run_in_their_order() -> None:
    with tempfile.TemporaryDirectory(prefix="readme-") as folder:
        made = project.Project(Path(folder) / "my-shop", "")
        try:
            output = await run_all(README, Path(folder))
            assert "now on rung 2, database" in output
        finally:
            if made.folder.exists():
                await made.try_tenfold("down", "--delete-data", "--yes")
            await project.ensure_gone(Path(folder))


async def test_the_tour_and_the_other_commands_of_the_docs_run_in_their_order() -> None:
    with tempfile.TemporaryDirectory(prefix="docs-") as folder:  # short, so that the lock is where the tour says
        async with project.shop(Path(folder)) as shop:
            await shop.tenfold("up", "-d")
            _save_scripts(ROOT / "docs" / "sdk.md", shop.folder)
            assert "1 visits" in await run_all(ROOT / "docs" / "sdk.md", shop.folder)
            await run_all(ROOT / "docs" / "control-api.md", shop.folder)
            await run_all(ROOT / "docs" / "trace.md", shop.folder, {"127.0.0.1:8080": shop.listen})
            await run_all(ROOT / "docs" / "cli.md", shop.folder)
            await run_all(ROOT / "docs" / "resize.md", shop.folder)
            await run_all(ROOT / "docs" / "queue.md", shop.folder)
            await _run_under_tls(shop)
            output = await run_all(ROOT / "docs" / "tour.md", shop.folder, {"127.0.0.1:8080": shop.listen})
            assert "every acknowledged write is there exactly once" in output
            assert re.search(r"^failed +0$", (shop.folder / "load.txt").read_text(), re.MULTILINE)
            assert not (shop.folder / ".tenfold").exists()


async def _run_under_tls(shop: project.Project) -> None:
    before = (shop.folder / "tenfold.toml").read_text()
    shop.edit(r"^listen = .*$", f'listen = "{shop.listen}"\ntls = "self-signed"')
    await shop.tenfold("apply", "--yes")
    await run_all(ROOT / "docs" / "tls.md", shop.folder, {"127.0.0.1:8443": shop.listen})
    (shop.folder / "tenfold.toml").write_text(before)
    await shop.tenfold("apply", "--yes")


def _save_scripts(document: Path, folder: Path) -> None:
    """A Python block that begins with `# NAME.py` is a file of the reader's."""
    for _, text in blocks(document, "python"):
        if found := re.match(r"# (\w+\.py)\n", text):
            (folder / found[1]).write_text(text)


def test_every_document_with_commands_is_run_or_says_why_not() -> None:
    run = {
        "README.md",
        "tour.md",
        "sdk.md",
        "control-api.md",
        "cli.md",
        "deploy.md",
        "tls.md",
        "trace.md",
        "queue.md",
        "resize.md",
    }
    assert run == {document.name for document in DOCUMENTS if commands(document)}


# commands


def parse(words: list[str]) -> None:
    """Let the command line read these words, and do nothing."""
    command: click.Command = cli.group
    context = click.Context(command)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"no such command: {name}"
        command = found
    command.make_context(command.name, words)


def commands_of_help() -> Iterator[str]:
    """The examples that `--help` shows."""
    groups: list[click.Group] = [cli.group]
    for group in groups:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            if isinstance(command, click.Group):
                groups.append(command)
            else:
                found = example.of(command)
                assert found, f"{name}: no example in its help"
                yield found


def commands_of_documents() -> Iterator[str]:
    """Those in blocks, and those in a sentence unless they leave something out."""
    for document in DOCUMENTS:
        yield from (one for one in commands(document, all_of_them=True) if one.startswith("tenfold "))
        prose = FENCE.sub("", document.read_text())
        yield from (one for one in re.findall(r"`(tenfold [^`,]+)`", prose) if "..." not in one)


def test_every_command_that_is_shown_can_be_given() -> None:
    shown = [*commands_of_help(), *commands_of_documents()]
    assert len(shown) > 30
    for one in shown:
        words = shlex.split(re.split(r"[>&|]", one)[0], comments=True)[1:]
        try:
            parse(words)
        except click.ClickException as error:
            raise AssertionError(f"{one}: {error.format_message()}") from error


async def test_help_prints_the_reference_of_every_section(tmp_path: Path) -> None:
    printed = await project.Project(tmp_path, "").tenfold("help", "topology")
    for section in reference.SECTIONS:
        assert reference.text(section).strip() in printed


# the README


def test_the_ladder_of_the_readme_is_the_ladder() -> None:
    wanted = [
        f"| {rung.number} | `{rung.name}` | {rung.adds} | {rung.pain} | {'yes' if rung.is_built else 'not yet'} |"
        for rung in rungs.RUNGS
    ]
    assert wanted == [line for line in README.read_text().splitlines() if re.match(r"\| \d+ \|", line)]


def test_the_app_of_the_readme_is_the_guestbook() -> None:
    example = (ROOT / "examples" / "guestbook" / "web.py").read_text()
    assert [example] == [text for _, text in blocks(README, "python")]


# links, files, examples


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: one.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = FENCE.sub("", document.read_text())
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            found = (document.parent / path) if path else document
            assert found.exists(), target
            assert not anchor or anchor in _anchors(found), target


def _anchors(document: Path) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: one.name)
def test_files_of_the_code_that_are_named_exist(document: Path) -> None:
    there = [
        str(path)
        for folder in ("src", "tests", "benchmarks", "examples", "docs")
        for path in (ROOT / folder).rglob("*")
    ]
    for name in re.findall(r"`([\w/]+/[\w/.]+\.(?:py|j2|md))", FENCE.sub("", document.read_text())):
        assert any(path.endswith(f"/{name}") for path in there), f"{document.name}: {name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: one.name)
def test_python_examples_fit_the_sdk(document: Path) -> None:
    for _, text in blocks(document, "python"):
        tree = compile(text, document.name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (found := _ours(node.func)) is not None:
                _ensure_fits(found, node, ast.unparse(node))
            elif isinstance(node, ast.ImportFrom) and node.module == "tenfold":
                assert all(hasattr(tenfold, one.name) or one.name == "errors" for one in node.names)


ROOTS: dict[str, Any] = {
    "tf": service.Tenfold,
    "tf.db": database.Database,
    "tx": transaction.Transaction,
    "errors": errors,
}


def _ours(called: ast.expr) -> Any:
    """What of ours an example calls: `tf.wrap`, `tf.db.fetch`, `tf.db.reading(...).fetch`, `tx.execute`."""
    if not isinstance(called, ast.Attribute):
        return None
    owner = "tf.db" if isinstance(called.value, ast.Call) else ast.unparse(called.value)
    if owner not in ROOTS or (isinstance(called.value, ast.Call) and _ours(called.value.func) is None):
        return None
    return getattr(ROOTS[owner], called.attr)


def _ensure_fits(called: Any, call: ast.Call, text: str) -> None:
    """The call has arguments that the signature takes."""
    signature = inspect.signature(called)
    arguments = [None] * (len(call.args) + 1)
    try:
        signature.bind(*arguments, **{one.arg: None for one in call.keywords if one.arg})
    except TypeError as error:
        raise AssertionError(f"{text}: {error}") from error
