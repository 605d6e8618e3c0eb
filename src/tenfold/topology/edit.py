"""Changes the text of `tenfold.toml` and keeps its comments, order and line ends.

Called by `tenfold grow` and `shrink` with the changes that `rungs` asks for. Pure: text in, text out; a result that
does not say exactly what was asked for is refused, never returned.
"""

import tomllib
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import tomlkit
from tomlkit import container, items

from tenfold import errors

Value = str | int | bool | tuple[str, ...] | Mapping[str, int] | None


@dataclass(frozen=True, slots=True)
class Change:
    """One key (`("database", "replicas")`) set to a value; None takes the key, or the whole section, away."""

    path: tuple[str, ...]
    value: Value

    def __str__(self) -> str:
        key = ".".join(self.path)
        return f"remove {key}" if self.value is None else f"set {key} to {_item(self.value).as_string()}"


def apply(text: str, changes: Iterable[Change]) -> str:
    """The text with the changes made. Raises BadInput when it cannot be changed without rewriting the rest."""
    changes = tuple(changes)
    line_end = "\r\n" if "\r\n" in text else "\n"
    document = tomlkit.parse(text.replace("\r\n", "\n"))
    expected = tomllib.loads(text)
    for change in changes:
        _apply(document, change)
        _apply_plainly(expected, change)
    edited = tomlkit.dumps(document)
    _ensure_exact(edited, expected, changes)
    return edited.replace("\n", line_end)


def _apply(document: tomlkit.TOMLDocument, change: Change) -> None:
    *sections, key = change.path
    table: Any = document
    for name in sections:
        if name not in table:
            if change.value is None:
                return
            _add_section(document, table, name)
        table = table[name]
    if change.value is None:
        if key in table:
            del table[key]
    elif key in table:
        table[key] = _item(change.value)
    else:
        _add_key(table, key, _item(change.value))


def _item(value: Value) -> items.Item:
    """As it stands in the file: what has parts, on one line."""
    if isinstance(value, tuple):
        return tomlkit.item(list(value))
    if not isinstance(value, Mapping):
        return tomlkit.item(value)
    return tomlkit.value("{ " + ", ".join(f"{key} = {number}" for key, number in value.items()) + " }")


def _add_section(document: tomlkit.TOMLDocument, table: Any, name: str) -> None:
    """A new section at the end, a blank line before it."""
    if isinstance(table, container.Container) and table.body:
        text = tomlkit.dumps(document)
        if not text.endswith("\n"):
            document.add(tomlkit.nl())
        if not text.endswith("\n\n"):
            document.add(tomlkit.nl())
    table.add(name, tomlkit.table())


def _add_key(table: Any, key: str, value: items.Item) -> None:
    """After the section's last key and its comment, before the blank lines that part it from the next."""
    body = table.value.body if isinstance(table, items.Table) else None
    last = _last_key(body) if body is not None else None
    if last is None or isinstance(table, items.InlineTable):
        table.append(key, value)
    else:
        table.value._insert_after(last, key, value)


def _last_key(body: list[tuple[items.Key | None, items.Item]]) -> items.Key | None:
    keys = [key for key, item in body if key is not None and not isinstance(item, items.Table | items.AoT)]
    return keys[-1] if keys else None


def _apply_plainly(expected: MutableMapping[str, Any], change: Change) -> None:
    *sections, key = change.path
    for name in sections:
        if name not in expected and change.value is None:
            return
        expected = expected.setdefault(name, {})
    if change.value is None:
        expected.pop(key, None)
    else:
        expected[key] = _plain(change.value)


def _plain(value: Value) -> object:
    """As a parser reads it."""
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _ensure_exact(edited: str, expected: dict[str, Any], changes: tuple[Change, ...]) -> None:
    try:
        found = tomllib.loads(edited)
    except tomllib.TOMLDecodeError:
        found = {}
    if found != expected:
        wanted = "; ".join(str(change) for change in changes)
        raise errors.BadInput(f"the file is written in a way that cannot be edited with its comments kept: {wanted}")
