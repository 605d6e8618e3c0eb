"""What counts as code while it is edited: the texts that a process loads when it starts, and keeps.

Used by `changes`, which watches them. Reads no file. (A release holds everything that
is in the folder, static files and data included: `kit/tree`.)
"""

import os
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".py", ".html", ".jinja", ".jinja2", ".j2")

SKIPPED = frozenset({"__pycache__", "node_modules"})
"""Folders that hold no code of the app's; so do hidden ones and virtual environments."""


def folders(folder: Path) -> Iterator[Path]:
    """The folder and every one below it that may hold code, sorted."""
    for root, below, _ in os.walk(folder):
        below[:] = sorted(name for name in below if _may_hold_code(Path(root, name)))
        yield Path(root)


def _may_hold_code(folder: Path) -> bool:
    is_environment = (folder / "pyvenv.cfg").exists()
    return not folder.name.startswith(".") and folder.name not in SKIPPED and not is_environment
