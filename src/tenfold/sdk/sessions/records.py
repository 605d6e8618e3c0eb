"""A session as stores keep it: its id, its record, and what a request has changed in it. Pure values.

Made by `session` and `visits`, moved to and from the stores. The id is a secret: stores get to see its digest, and no
`repr` shows it.
"""

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from tenfold import errors

ID_BYTES = 32
"""256 bits: nobody guesses one of them."""

ID_CHARACTERS = 43

MOST_BYTES = 64 * 1024
"""All fields of a session together, in a store on a server."""

MOST_FIELDS = 1000

OVER_SECONDS = 3600.0
"""How long a store remembers that a session was ended: no request that was under way takes longer."""


class Id:
    """What the cookie carries."""

    __slots__ = ("digest", "secret")

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.digest = hashlib.sha256(secret).digest()

    @property
    def text(self) -> str:
        """As it stands in the cookie."""
        return base64.urlsafe_b64encode(self.secret).rstrip(b"=").decode()

    def __repr__(self) -> str:
        return "Id(...)"


def new_id() -> Id:
    """An id that nobody has."""
    return Id(secrets.token_bytes(ID_BYTES))


def parse_id(text: str) -> Id | None:
    """The id in a cookie, or None for what cannot be one."""
    if len(text) != ID_CHARACTERS or not text.isascii():
        return None
    try:
        secret = base64.b64decode(text + "=", altchars=b"-_", validate=True)
    except ValueError:
        return None
    found = Id(secret)
    return found if len(secret) == ID_BYTES and found.text == text else None


@dataclass(frozen=True, slots=True)
class Record:
    """A session's content. Times are Unix times, in seconds with milliseconds."""

    fields: Mapping[str, str]
    """By name, each value as JSON text."""
    principal: str | None
    created_at: float
    changed_at: float
    """Of two copies of a session, while it moves between stores, the one that changed later is the session."""
    expires_at: float
    is_over: bool = False
    """It was ended, or its id was changed, at `changed_at`; nothing else is known of it."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What one request has changed."""

    put: Mapping[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.put or self.dropped)

    def onto(self, fields: Mapping[str, str]) -> dict[str, str]:
        """The fields after the changes."""
        return {**{name: text for name, text in fields.items() if name not in self.dropped}, **self.put}


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a request's cookie says: an id, and for a session that is in the cookie itself, its record."""

    id: Id
    sealed: Record | None = None

    @property
    def is_blank(self) -> bool:
        """Whether it was given to a visitor of whom nothing was known yet."""
        return self.sealed is not None and not self.sealed.fields and self.sealed.principal is None


def ensure_fits(fields: Mapping[str, str], found_bytes: int, most_bytes: int) -> None:
    """Raise TooLarge, naming the largest field, when a session takes more than its store has room for."""
    if len(fields) > MOST_FIELDS:
        raise errors.TooLarge(f"session: {len(fields):,} fields found, {MOST_FIELDS:,} at most expected; use one dict")
    if found_bytes <= most_bytes:
        return
    sizes = {name: _size(name, text) for name, text in fields.items()}
    largest = max(sizes, key=sizes.__getitem__, default="")
    raise errors.TooLarge(
        f"session[{largest!r}]: {sizes.get(largest, 0):,} bytes found in it, and {found_bytes:,} in the whole session, "
        f"where {most_bytes:,} at most are expected; nothing was kept; keep ids in the session, and the data in the "
        "database"
    )


def size(fields: Mapping[str, str]) -> int:
    """What the fields take, in bytes."""
    return sum(_size(name, text) for name, text in fields.items())


def _size(name: str, text: str) -> int:
    return len(name.encode()) + len(text.encode())
