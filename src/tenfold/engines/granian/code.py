"""Which code a web server runs: a fingerprint of the app's folder, so that `tenfold apply` sees that it has changed.

Called by `runtime/supervise`. Reads files, never runs any. It looks at the texts that a process loads when it starts,
and keeps; static files, data and notes beside the app may change without replacing a web server.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from tenfold import engines

SUFFIXES = (".py", ".html", ".jinja", ".jinja2", ".j2")

SKIPPED = frozenset({"__pycache__", "node_modules"})
"""Folders that hold no code of the app's; so do hidden ones and virtual environments."""


def fingerprint(seat: engines.Seat) -> str:
    """The same as long as every file of code in `service.directory` has the same path and content."""
    folder = (seat.project / seat.topology.service.directory).resolve()
    digest = hashlib.sha256()
    for path in _files(folder):
        try:
            content = path.read_bytes()
        except OSError:
            continue  # gone again, an editor's doing; or unreadable, which the app's own start will say better
        digest.update(f"{path.relative_to(folder)}\0{len(content)}\0".encode(errors="surrogateescape"))
        digest.update(content)
    return digest.hexdigest()[:16]


def folders(folder: Path) -> Iterator[Path]:
    """The folder and every one below it that may hold code, sorted."""
    for root, below, _ in os.walk(folder):
        below[:] = sorted(name for name in below if _may_hold_code(Path(root, name)))
        yield Path(root)


def _files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if _may_hold_code(Path(root, name)))
        yield from (Path(root, name) for name in sorted(names) if name.endswith(SUFFIXES))


def _may_hold_code(folder: Path) -> bool:
    is_environment = (folder / "pyvenv.cfg").exists()
    return not folder.name.startswith(".") and folder.name not in SKIPPED and not is_environment
