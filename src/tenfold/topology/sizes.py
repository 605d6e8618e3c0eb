"""Which fields of `tenfold.toml` say how large something is, and not how many of it there are; how to change them.

Called by `tenfold resize`. Pure: words in, changes of the text out; whether a value is right, `load` says.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tenfold import errors
from tenfold.topology import edit, nearest, tiers, units

ANY = "NAME"
"""The place of a name that the file chooses: that of a group of web servers."""

FIELDS: Mapping[tuple[str, ...], str] = {
    ("web", "workers_per_server"): "processes in each web server",
    ("web", "max_requests"): "requests that a web server works on at once",
    ("web_groups", ANY, "workers_per_server"): "processes in each web server of a group",
    ("workers", "processes"): "processes in each worker server",
    ("workers", "concurrency"): "messages that one worker process handles at once",
    ("database", "memory"): "PostgreSQL's shared buffers",
    ("database", "max_connections"): "connections that PostgreSQL takes",
    ("database", "pool_size"): "connections of one process to one database node",
    ("cache", "memory"): "what each cache server keeps",
    ("cache", "local_memory"): "what each process of the app keeps",
    ("queue", "storage"): "what each queue server keeps",
    ("cdn", "memory"): "what each edge keeps",
}
"""By path in the file, what it is."""

FORM = "NAME=VALUE, such as web.workers_per_server=4 or database.memory=256MiB"


@dataclass(frozen=True, slots=True)
class Size:
    """One size of a service: its name in the file, what it is now, what it means."""

    name: str
    value: str
    meaning: str


def of(topology: tiers.Topology) -> tuple[Size, ...]:
    """All sizes that this service has."""
    return tuple(
        Size(".".join(path), _said(topology, path), meaning)
        for known, meaning in FIELDS.items()
        for path in _present(topology, known)
    )


def changes(words: Iterable[str], topology: tiers.Topology) -> tuple[edit.Change, ...]:
    """`("database.memory=256MiB", ...)` as changes of the file. Raises BadInput, with all that is wrong with them."""
    made, problems = {}, []
    for word in words:
        name, equals, value = (part.strip() for part in word.partition("="))
        if not equals or not name or not value:
            problems.append(f"{word}: {FORM} expected")
        elif name in made:
            problems.append(f"{name}: twice found, once expected")
        elif problem := _problem(topology, name):
            problems.append(problem)
        else:
            made[name] = edit.Change(tuple(name.split(".")), _value(value))
    if problems:
        can = ", ".join(one.name for one in of(topology))
        raise errors.BadInput("\n".join([*problems, f"What can be resized: {can}."]))
    return tuple(made.values())


def _problem(topology: tiers.Topology, name: str) -> str:
    """Why this cannot be resized; empty: it can."""
    names = [one.name for one in of(topology)]
    if name in names:
        return ""
    path = tuple(name.split("."))
    if _is_size(path):
        return (
            f"{name}: the service has no [{'.'.join(path[:-1])}]; add it to tenfold.toml, or climb with: tenfold grow"
        )
    if path[-1] == "servers" or path in (("cdn", "edges"), ("database", "replicas")):
        return f"{name}: a number of servers, not a size; change it in tenfold.toml, then: tenfold apply"
    return f"{name}: not a size{nearest.hint(name, names)}"


def _is_size(path: tuple[str, ...]) -> bool:
    return any(
        len(known) == len(path) and all(one in (ANY, other) for one, other in zip(known, path, strict=True))
        for known in FIELDS
    )


def _present(topology: tiers.Topology, known: tuple[str, ...]) -> list[tuple[str, ...]]:
    if ANY in known:
        return [(known[0], name, known[-1]) for name in getattr(topology, known[0])]
    return [known] if getattr(topology, known[0]) is not None else []


def _said(topology: tiers.Topology, path: tuple[str, ...]) -> str:
    """The value as the file would say it."""
    section: Any = topology
    for part in path[:-1]:
        section = section[part] if isinstance(section, dict) else getattr(section, part)
    if path[-1] in type(section).model_fields:
        return str(getattr(section, path[-1]))
    return units.size(getattr(section, f"{path[-1]}_bytes"))


def _value(text: str) -> int | str:
    """A whole number, or a text: quotes that a shell has left around it are taken off."""
    bare = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    return int(bare) if bare.isdecimal() and bare.isascii() else bare
