"""The Python files that may hold an app, each with the module name and the folder that it is imported from.

Called by `init`. It reads files and parses them; it imports none. Tests, examples, migrations and environments are left
out: what is an app in them is not the service.
"""

import ast
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SKIPPED = frozenset(
    {"tests", "test", "testing", "examples", "example", "docs", "migrations", "alembic", "benchmarks", "node_modules"}
    | {"__pycache__", "site-packages", "build", "dist", "venv", "env", "static", "templates"}
)
"""Folders that hold no service; so do hidden ones and virtual environments."""

MOST_FILES = 5000
"""A folder with more Python files than this is not an app's: a home directory, say."""

MOST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """One module. `directory` is relative to the project, and what goes to `service.directory`."""

    path: Path
    module: str
    directory: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """What its relative imports are relative to."""
        return self.module if self.path.name == "__init__.py" else self.module.rpartition(".")[0]


def read(project: Path) -> list[Source]:
    """Every module that may hold the app, those nearest to the project's folder first. Files that do not parse are
    left out: the app does not import them either."""
    found = []
    for path in _files(project):
        tree = _parsed(path)
        if tree is not None:
            directory, module = _home(project, path, tree)
            found.append(Source(path, module, directory, tree))
    return sorted(found, key=lambda one: (len(one.path.parts), one.path))


def _files(project: Path) -> Iterator[Path]:
    count = 0
    for root, folders, names in os.walk(project):
        folders[:] = sorted(name for name in folders if _may_hold_an_app(Path(root, name)))
        for name in sorted(names):
            if name.endswith(".py") and not _is_a_test(name):
                count += 1
                yield Path(root, name)
        if count > MOST_FILES:
            return


def _may_hold_an_app(folder: Path) -> bool:
    is_environment = (folder / "pyvenv.cfg").exists()
    return not folder.name.startswith(".") and folder.name not in SKIPPED and not is_environment


def _is_a_test(name: str) -> bool:
    return name.startswith("test_") or name.endswith("_test.py") or name in ("conftest.py", "setup.py", "noxfile.py")


def _parsed(path: Path) -> ast.Module | None:
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape in the user's code is not ours to say
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def _home(project: Path, path: Path, tree: ast.Module) -> tuple[str, str]:
    """Which folder the module is imported from, relative to the project, and its name from there."""
    root = _root(project, path, tree)
    parts = list(path.relative_to(root).with_suffix("").parts)
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    directory = root.relative_to(project).as_posix()
    return directory, ".".join(parts)


def _root(project: Path, path: Path, tree: ast.Module) -> Path:
    """A module that imports its neighbours by their bare names runs from its own folder; a package from the folder
    that it is in; what lies below `src`, from there; everything else from the project's folder."""
    folder = path.parent
    if folder != project and _imports_neighbours(project, folder, tree):
        return folder
    while (folder / "__init__.py").exists() and folder != project:
        folder = folder.parent
    if folder != path.parent or folder == project:
        return folder
    above = [one for one in (folder, *folder.parents) if one.is_relative_to(project)]
    return next((one for one in above if one.name == "src" and not (one / "__init__.py").exists()), project)


def _imports_neighbours(project: Path, folder: Path, tree: ast.Module) -> bool:
    """`import database` where database.py lies beside it, and not in the project's folder."""
    names = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    names |= {
        node.module.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module
    }
    return any(_is_module(folder, name) and not _is_module(project, name) and name != folder.name for name in names)


def _is_module(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()
