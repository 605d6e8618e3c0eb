"""Imports our modules when something of them is used, and not before.

Called around the import of a command's module, so that `tenfold up --help`, a usage error and a completion do not wait
for HTTP clients and database drivers that only a run of the command needs. The command's own module is imported at
once; with `from __future__ import annotations` it looks its types up as late as the rest.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


def module(name: str) -> ModuleType:
    """This module, imported. What it imports of ours is run at the first access to it."""
    finder = _Finder(name)
    sys.meta_path.insert(0, finder)
    try:
        return importlib.import_module(name)
    finally:
        sys.meta_path.remove(finder)


class _Finder:
    """Finds our modules where Python does. Packages are run at once: their submodules need them."""

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == self._wanted or not name.startswith("tenfold.") or path is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None or spec.submodule_search_locations is not None:
            return None
        spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec
