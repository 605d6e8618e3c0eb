"""The rules of `[cdn]` that no single field can state. Called by `validate`. Pure."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from tenfold.errors import Problem
from tenfold.topology import problems, tiers

PATH = re.compile(r"/[\w./~%@:+-]*", re.ASCII)
STATIC_PATH = re.compile(r"(?:/[\w.~%@:+-]+)+/", re.ASCII)
OWN_PATH = "/-/"
"""Below it are the pages of the service itself."""


def ensure_static(topology: tiers.Topology) -> Iterator[Problem]:
    """Static files are in a folder of their own: whatever is in it, everybody may read."""
    folder = PurePosixPath(topology.cdn.static) if topology.cdn and topology.cdn.static else None
    if folder is not None and (folder.is_absolute() or ".." in folder.parts or not folder.parts):
        advice = "everybody may read what is in it, so it is no folder that holds code"
        yield Problem("cdn.static", problems.as_toml(str(folder)), "a folder below service.directory", advice)


def ensure_static_path(topology: tiers.Topology) -> Iterator[Problem]:
    """Static files are served below a path, not in the place of the app."""
    path = topology.cdn.static_path if topology.cdn else "/static/"
    if not STATIC_PATH.fullmatch(path) or path.startswith(OWN_PATH):
        form = 'a path that begins and ends with a slash, such as "/static/"'
        advice = "below /-/ are the service's own pages" if path.startswith(OWN_PATH) else ""
        yield Problem("cdn.static_path", problems.as_toml(path), form, advice)


def ensure_paths(topology: tiers.Topology) -> Iterator[Problem]:
    """Every rule has a path of its own, and says something about it."""
    seen: set[str] = set()
    for number, rule in enumerate(topology.cdn.path if topology.cdn else ()):
        path = f"cdn.path[{number}]"
        if not PATH.fullmatch(rule.path):
            form = 'a path that begins with a slash, without spaces and queries, such as "/prices/"'
            yield Problem(f"{path}.path", problems.as_toml(rule.path), form)
        elif rule.path.startswith(OWN_PATH):
            yield Problem(
                f"{path}.path", problems.as_toml(rule.path), "a path of the app", "pages below /-/ are not kept"
            )
        elif rule.path in seen:
            yield Problem(f"{path}.path", f"{problems.as_toml(rule.path)} again", "a path of its own", "remove one")
        if rule.life_seconds is None and rule.grace_seconds is None:
            yield Problem(path, "a rule that says nothing", "ttl, grace or both", 'such as ttl = "30s"')
        seen.add(rule.path)
