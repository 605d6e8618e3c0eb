"""The session as an app sees it: a dict of plain values that knows which of its fields have changed.

Made by `visits`, one a request. No I/O: what was changed is kept when the response begins. A value that is a list or a
dict may be changed in place; every such value that was handed out is compared with what was loaded, so that
`session["cart"].append(7)` needs no word more.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Protocol

import msgspec

from tenfold import errors
from tenfold.sdk import counters
from tenfold.sdk.sessions import records, values


class Visit(Protocol):
    """What the session needs to know of its request."""

    def ensure_changeable(self, what: str) -> None:
        """Raise MisuseError when a change can no longer be kept."""

    def csrf(self) -> str:
        """A token for this request's forms."""


class Session(MutableMapping[str, Any]):
    """What the service remembers of one visitor. A dict with text for names and plain JSON for values.

    Changes are kept, field by field, before the response begins: requests at the same time that change different
    fields lose none, and of two that change the same one the later wins. A response of 500 or above keeps nothing.
    """

    __slots__ = ("_dropped", "_is_new", "_is_over", "_is_rotated", "_principal", "_texts", "_values", "_visit")

    def __init__(self, visit: Visit, found: records.Record | None) -> None:
        self._visit = visit
        self._is_new = found is None
        self._texts: dict[str, str] = {} if found is None else dict(found.fields)
        self._values: dict[str, Any] = {}
        """Of the fields that were asked for or set."""
        self._dropped: set[str] = set()
        self._principal = None if found is None else found.principal
        self._is_rotated = False
        self._is_over = False

    @property
    def is_new(self) -> bool:
        """Whether this visitor had no session when the request came, or it was ended since."""
        return self._is_new

    @property
    def principal(self) -> str | None:
        """Who has logged in, as `login` was told; None for a visitor."""
        return self._principal

    @property
    def csrf(self) -> str:
        """A token for the forms and scripts of this response, which `tf.csrf` wants back. A new one each time."""
        return self._visit.csrf()

    @property
    def is_rotated(self) -> bool:
        """Whether it gets a new id."""
        return self._is_rotated

    @property
    def is_over(self) -> bool:
        """Whether the session that the request came with ends. What is set afterwards begins another one."""
        return self._is_over

    def login(self, principal: str) -> None:
        """This visitor is `principal` from now on. The session gets a new id, the old one is invalid at once.

        What the visitor had in the session stays; what another principal had in it does not. At most 256 characters.
        """
        values.ensure_principal("session.login", principal)
        self._visit.ensure_changeable("session.login")
        if self._principal not in (None, principal):
            self.end()
        self._principal = principal
        self.rotate()

    def rotate(self) -> None:
        """Give the session a new id; the old one is invalid at once. For whenever a visitor gains rights."""
        self._visit.ensure_changeable("session.rotate")
        self._is_rotated = True

    def end(self) -> None:
        """Log out: the session is over and all of it forgotten, also for requests that are under way."""
        self._visit.ensure_changeable("session.end")
        self._is_over, self._is_new, self._is_rotated, self._principal = True, True, False, None
        self._texts, self._values, self._dropped = {}, {}, set()

    def changes(self) -> records.Changes:
        """What differs from what was loaded. Raises NotEncodable for what was put into a list or dict in place."""
        put = {}
        for name, value in self._values.items():
            text = values.encode(name, value)
            if text != self._texts.get(name):
                put[name] = text
        return records.Changes(put, frozenset(self._dropped - self._values.keys()))

    def __getitem__(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        if name in self._dropped or name not in self._texts:
            raise KeyError(name)
        try:
            value = self._values[name] = values.decode(self._texts[name])
        except msgspec.DecodeError:
            counters.add("sessions.corrupted")
            self._dropped.add(name)
            raise KeyError(name) from None
        return value

    def __setitem__(self, name: str, value: Any) -> None:
        self._visit.ensure_changeable(f"session[{name!r}] = ...")
        values.ensure_name(name)
        values.encode(name, value)
        self._values[name] = value
        self._dropped.discard(name)

    def __delitem__(self, name: str) -> None:
        self._visit.ensure_changeable(f"del session[{name!r}]")
        if name not in self:
            raise KeyError(name)
        self._values.pop(name, None)
        if name in self._texts:
            self._dropped.add(name)

    def __contains__(self, name: object) -> bool:
        return name in self._values or (name in self._texts and name not in self._dropped)

    def __iter__(self) -> Iterator[str]:
        yield from [name for name in {**self._texts, **self._values} if name in self]

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and dict(self) == dict(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Names alone: values and the id are nobody's business in a log."""
        return f"Session({', '.join(map(repr, self))})"


class Unavailable(MutableMapping[str, Any]):
    """In the place of a session that could not be loaded ahead: requests that do not need theirs go on."""

    __slots__ = ("_error",)

    def __init__(self, error: errors.TryAgain) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._again()

    def _again(self) -> Exception:
        return type(self._error)(str(self._error))

    def __getitem__(self, name: str) -> Any:
        raise self._again()

    def __setitem__(self, name: str, value: Any) -> None:
        raise self._again()

    def __delitem__(self, name: str) -> None:
        raise self._again()

    def __iter__(self) -> Iterator[str]:
        raise self._again()

    def __len__(self) -> int:
        raise self._again()
