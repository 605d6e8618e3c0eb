"""Keys: patterns such as `product:{pid}`, filled with a call's arguments, and read back from a key. Pure.

Called by `cached` and `cache`. Two different calls never have the same key: where a pattern has more than one field,
what stands between two of them is escaped inside them.
"""

import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tenfold import errors

MOST_BYTES = 512
"""The longest key, or tag, in UTF-8."""

MOST_TAGS = 64
"""So many tags an entry may have."""


def check(key: Any, what: str = "key") -> str:
    """The key itself. Raises `MisuseError` when it is none, `NotEncodable` when it holds half a character, as JSON can
    say it (`"\\ud800"`), `TooLarge` when it is too long."""
    if not isinstance(key, str) or not key:
        raise errors.MisuseError(f'cache: {key!r} found as a {what}, a string expected, such as "product:7"')
    size = len(key) if key.isascii() else _size(key, what)
    if size > MOST_BYTES:
        raise errors.TooLarge(
            f"cache: a {what} of {size} bytes found ({key[:40]!r}...), "
            f"{MOST_BYTES} at most expected; put a hash of the long part into it"
        )
    return key


def _size(key: str, what: str) -> int:
    try:
        return len(key.encode())
    except UnicodeEncodeError as error:
        raise errors.NotEncodable(
            f"cache: a {what} with a lone surrogate found ({key[:40]!r}), text expected that can be written as UTF-8"
        ) from error


def check_tags(tags: Sequence[str]) -> Sequence[str]:
    """The tags themselves. Raises `MisuseError` or `TooLarge`."""
    if isinstance(tags, str):
        raise errors.MisuseError(f"cache: tags={tags!r} found, a list expected: tags=[{tags!r}]")
    if len(tags) > MOST_TAGS:
        raise errors.TooLarge(f"cache: {len(tags)} tags found, {MOST_TAGS} at most expected; use a coarser tag")
    for tag in tags:
        check(tag, "tag")
    return tags


class Pattern:
    """A format string. `names` are the arguments that there are; without them any name will do."""

    def __init__(self, text: str, names: Sequence[str] | None = None) -> None:
        self.text = check(text, "pattern")
        try:
            parts = [
                (before, field) for before, field, *rest in string.Formatter().parse(text) if not _odd(field, rest)
            ]
        except ValueError as error:
            raise errors.MisuseError(f"cache: the pattern {text!r} is no format string: {error}") from error
        self.fields = [field for _, field in parts if field is not None]
        self._literals = [before for before, _ in parts] + ([""] if parts and parts[-1][1] is not None else [])
        self._ensure_known(names)
        self._ensure_apart()
        self._escaped = frozenset("%" + "".join(self._literals[1:-1])) if len(self.fields) > 1 else frozenset()
        self._quote: Callable[[Any], str] = self._escape if self._escaped else str
        between = "".join(map(re.escape, self._escaped - {"%"}))
        field = f"([^{between}]+)" if between else "(.+)"  # no two ways to read a key: trying all takes for ever
        self._regex = re.compile(field.join(re.escape(one) for one in self._literals), re.DOTALL)

    def fill(self, values: Mapping[str, Any]) -> str:
        """The key for these values."""
        if not self.fields:
            return self.text
        try:
            filled = [self._quote(_value(field, values)) for field in self.fields]
        except (AttributeError, KeyError, TypeError) as error:
            raise errors.MisuseError(
                f"cache: the pattern {self.text!r} cannot be filled: {type(error).__name__}: {error}"
            ) from error
        literals = self._literals
        return literals[0] + "".join([one + literals[number] for number, one in enumerate(filled, 1)])

    def read(self, key: str) -> dict[str, str] | None:
        """What the fields were, if the key is of this pattern."""
        found = self._regex.fullmatch(key)
        if found is None:
            return None
        return {
            field: _unescape(text) if self._escaped else text
            for field, text in zip(self.fields, found.groups(), strict=True)
        }

    def _escape(self, value: Any) -> str:
        text = str(value)
        if self._escaped.isdisjoint(text):
            return text
        return "".join(
            "".join(f"%{byte:02X}" for byte in one.encode()) if one in self._escaped else one for one in text
        )

    def _ensure_known(self, names: Sequence[str] | None) -> None:
        for field in self.fields:
            name = re.split(r"[.\[]", field, maxsplit=1)[0]
            if not name or name.isdigit():
                raise errors.MisuseError(f"cache: a field without a name in {self.text!r}; write {{pid}}, not {{}}")
            if names is not None and name not in names:
                raise errors.MisuseError(
                    f"cache: {{{name}}} found in {self.text!r}, but the function has only {', '.join(names) or 'no'} "
                    "arguments"
                )

    def _ensure_apart(self) -> None:
        if any(not one for one in self._literals[1:-1]):
            raise errors.MisuseError(
                f"cache: two fields side by side in {self.text!r}; put something between them, as in {{shop}}:{{pid}}"
            )


def _odd(field: str | None, rest: list[str | None]) -> bool:
    """Conversions and formats are refused: what was rounded away would make two keys one."""
    if field is not None and any(rest):
        raise errors.MisuseError(f"cache: a format found in the field {{{field}}} of a pattern; write the name alone")
    return False


def _value(field: str, values: Mapping[str, Any]) -> Any:
    if field in values:
        return values[field]
    return string.Formatter().get_field(field, (), values)[0]


def _unescape(text: str) -> str:
    return re.sub("(?:%[0-9A-F]{2})+", lambda found: bytes.fromhex(found[0].replace("%", "")).decode(), text)
