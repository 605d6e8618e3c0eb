"""Folders of code: what belongs to one, whether two hold the same, and a copy that nothing half made is taken for.

Called by `runtime/releases`. It reads and copies, and runs nothing. Raises OSError, which names the file.
"""

import fnmatch
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tenfold.kit import files

SKIPPED = (
    *(".git", ".hg", ".svn", ".tenfold", ".idea", ".vscode", "__pycache__", "node_modules", ".ipynb_checkpoints"),
    *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".import_linter_cache", ".hypothesis", ".tox", ".nox", ".eggs"),
    *("*.pyc", "*.egg-info", "*.ledger", ".coverage", ".DS_Store", "*.swp", "*~"),
)
"""What tools keep beside the code; so do virtual environments, which are known by their pyvenv.cfg."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder and what of it does not count."""

    root: Path
    excluded: tuple[str, ...] = ()
    """Patterns as in a shell: of a name anywhere, or with a slash of a path below `root`."""
    besides: tuple[Path, ...] = ()
    """Single files below `root` that do not count."""

    def fingerprint(self) -> str:
        """The same as long as the same files, with the same content, stand at the same places."""
        digest = hashlib.sha256()
        for one in self.entries():
            if one.kind != "folder":
                digest.update(f"{one.kind}\0{one.path}\0{one.is_program}\0".encode(errors="surrogateescape"))
                digest.update(self._content(one))
        return digest.hexdigest()[:16]

    def copy(self, target: Path) -> str:
        """Copy it to `target`, which appears complete or not at all. Returns the fingerprint of what was copied.

        Links stay links: within the folder they lead to the copy, elsewhere to where they led.
        """
        aside = target.with_name(f".{target.name}.partial")
        files.remove_tree(aside)
        aside.mkdir(parents=True, mode=0o700)
        try:
            for one in self.entries():
                self._copy(one, aside)
            copied = Tree(aside).fingerprint()
            files.remove_tree(target)
            aside.rename(target)
        except BaseException:
            files.remove_tree(aside)
            raise
        return copied

    def entries(self) -> Iterator["Entry"]:
        """Everything that counts, a folder before what is in it. Sockets, pipes and devices do not."""
        root = self.root.resolve()
        for folder, names, others in os.walk(root, onerror=_raise):
            names[:] = sorted(name for name in names if self._counts(root, Path(folder, name)))
            for path in (Path(folder, name) for name in sorted((*names, *others))):
                if self._counts(root, path) and (kind := _kind(path)) is not None:
                    is_program = kind == "file" and bool(path.stat().st_mode & stat.S_IXUSR)
                    yield Entry(str(path.relative_to(root)), kind, is_program)

    def _counts(self, root: Path, path: Path) -> bool:
        if path in self.besides or any(fnmatch.fnmatchcase(path.name, pattern) for pattern in SKIPPED):
            return False
        if os.path.exists(path / "pyvenv.cfg"):  # unlike Path.exists it does not raise where it may not look
            return False
        below = str(path.relative_to(root))
        return not any(_matches(path.name, below, pattern.strip("/")) for pattern in self.excluded)

    def _content(self, one: "Entry") -> bytes:
        path = self.root.resolve() / one.path
        if one.kind == "link":
            return os.fsencode(_leads(path, self.root.resolve()))
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    def _copy(self, one: "Entry", to: Path) -> None:
        source, target = self.root.resolve() / one.path, to / one.path
        if one.kind == "folder":
            target.mkdir(mode=0o700)
        elif one.kind == "link":
            target.symlink_to(_leads(source, self.root.resolve()))
        else:
            shutil.copy2(source, target)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a tree; `path` is below its root."""

    path: str
    kind: Literal["folder", "file", "link"]
    is_program: bool = False


def _raise(error: OSError) -> None:
    raise error


def _kind(path: Path) -> Literal["folder", "file", "link"] | None:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return "link"
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else None


def _matches(name: str, below: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(below if "/" in pattern else name, pattern)


def _leads(link: Path, root: Path) -> str:
    """Where the link leads: relative to itself when that is within the root, else absolute."""
    place = os.path.normpath(link.parent / link.readlink())
    is_within = place == str(root) or place.startswith(f"{root}/")
    return os.path.relpath(place, link.parent) if is_within else place
