"""The shape of the code: what STYLE promises and no linter checks."""

import ast
import platform
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(ROOT.glob("src/**/*.py"))
OTHERS = sorted(one for folder in ("tests", "benchmarks", "examples") for one in ROOT.glob(f"{folder}/**/*.py"))
TEXTS = sorted(
    one
    for pattern in ("*.md", "*.toml", "*.lock", "Makefile", ".ci/*", "src/**/*", "docs/**/*", "tests/**/*")
    for one in (*ROOT.glob(pattern), *ROOT.glob(f"examples/**/{pattern}"), *ROOT.glob(f"benchmarks/**/{pattern}"))
    if one.is_file() and one.suffix in {"", ".py", ".md", ".toml", ".lock", ".j2", ".cfg", ".sql", ".html", ".css"}
)

MODULE_LINES = 500
FUNCTION_LINES = 60
FORBIDDEN_NAMES = {"util", "utils", "helper", "helpers", "common", "misc", "base", "manager", "handler", "handlers"}
UNFINISHED = re.compile("|".join(rf"\b{word}\b" for word in ("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")))
FOREIGN = re.compile(
    "|".join(("/wo" + "rk/", "/ro" + r"ot/[\w.]", r"\bpypi\." + "org", "files.python" + "hosted", "/tmp/br" + "ief"))
)


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the `def` to the end, the docstring left out: a promise may be long, a body may not."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None and first.end_lineno is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


@pytest.mark.parametrize("path", SOURCES, ids=names(SOURCES))
def test_a_module_fits_one_reading(path: Path) -> None:
    tree = ast.parse(path.read_text())

    too_long = {one.name: length(one) for one in functions(tree) if length(one) > FUNCTION_LINES}

    assert len(path.read_text().splitlines()) <= MODULE_LINES
    assert {} == too_long


@pytest.mark.parametrize("path", SOURCES, ids=names(SOURCES))
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "begin the module with a docstring: what it is, who calls it"


@pytest.mark.parametrize("path", OTHERS, ids=names(OTHERS))
def test_a_test_module_fits_one_reading(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MODULE_LINES


def test_no_module_has_a_name_that_says_nothing() -> None:
    said_nothing = [str(path.relative_to(ROOT)) for path in SOURCES if path.stem in FORBIDDEN_NAMES]

    assert [] == said_nothing


def test_nothing_is_left_unfinished() -> None:
    found = [f"{path.relative_to(ROOT)}: {hit}" for path in TEXTS for hit in UNFINISHED.findall(text_of(path))]

    assert [] == found


def test_the_project_does_not_know_the_machine_it_was_written_on() -> None:
    found = [f"{path.relative_to(ROOT)}: {hit}" for path in TEXTS for hit in FOREIGN.findall(text_of(path))]
    host = platform.node()
    found += [f"{path.relative_to(ROOT)}: {host}" for path in TEXTS if is_telling(host) and host in text_of(path)]

    assert [] == found


def is_telling(host: str) -> bool:
    """A host called `localhost` or `a` would be found everywhere."""
    return len(host) > 6 and host != "localhost"


def text_of(path: Path) -> str:
    return path.read_text(errors="replace")
