"""What a session may hold, and how it is written down: plain JSON values, each field for itself. Pure.

Called by `session`. Only values that come back exactly as they were put in are taken: a tuple that returned as a list,
or a date that returned as a text, would be found out in another request, somewhere else. Never pickle.
"""

import math
from typing import Any

import msgspec

from tenfold import errors

MOST_DEPTH = 32
"""Lists and dicts within each other; a value that contains itself ends here too."""

MOST_NAME_CHARACTERS = 128

MOST_PRINCIPAL_CHARACTERS = 256
"""An id, not a document: the smallest store of sessions is a cookie of 4 KB."""

PLAIN = frozenset({str, int, float, bool, type(None)})

ADVICE = {
    "tuple": "write list(...)",
    "set": "write sorted(...) or list(...)",
    "frozenset": "write sorted(...) or list(...)",
    "bytes": "write ....hex()",
    "datetime": "write ....isoformat()",
    "date": "write ....isoformat()",
    "Decimal": "write str(...)",
    "UUID": "write str(...)",
}


def encode(name: str, value: Any) -> str:
    """The value as JSON text. Raises NotEncodable, naming the place, for what would not come back as it was."""
    place = f"session[{name!r}]"
    _ensure_plain(place, value, MOST_DEPTH)
    try:
        return msgspec.json.encode(value).decode()
    except (UnicodeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise errors.NotEncodable(f"{place}: it cannot be written as JSON ({error})") from error


def decode(text: str) -> Any:
    """The value that `encode` wrote. Raises msgspec.DecodeError for anything else."""
    return msgspec.json.decode(text)


def ensure_name(name: Any) -> None:
    """Raise NotEncodable for what cannot be a field's name."""
    is_text = type(name) is str and 0 < len(name) <= MOST_NAME_CHARACTERS
    if not is_text or "\0" in name or not name.isprintable():
        raise errors.NotEncodable(
            f"session: the name {str(name)[:40]!r} ({type(name).__name__}) found, a text of 1 to "
            f"{MOST_NAME_CHARACTERS} printable characters expected"
        )


def ensure_principal(where: str, principal: Any) -> None:
    """Raise MisuseError for what is no id of a user that every store of sessions can keep."""
    is_text = type(principal) is str and 0 < len(principal) <= MOST_PRINCIPAL_CHARACTERS
    if not is_text or "\0" in principal or _is_torn(principal):
        found = repr(principal)[:60] + (f"... ({len(principal):,} characters)" if len(repr(principal)) > 60 else "")
        raise errors.MisuseError(
            f"{where}: {found} found, a text of 1 to {MOST_PRINCIPAL_CHARACTERS} characters expected: str(user.id)"
        )


def _is_torn(text: str) -> bool:
    """Whether it holds half a character, as JSON can say it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _ensure_plain(place: str, value: Any, depth: int) -> None:
    kind = type(value)
    if kind in PLAIN:
        if kind is float and not math.isfinite(value):
            raise errors.NotEncodable(f"{place}: {value} found, which JSON has no word for")
        if kind is int and not -(2**63) <= value < 2**63:
            raise errors.NotEncodable(f"{place}: an int of more than 64 bits found; write str(...)")
    elif kind is not list and kind is not dict:
        advice = ADVICE.get(kind.__name__, "keep an id in the session, and the rest in the database")
        raise errors.NotEncodable(
            f"{place}: {kind.__module__}.{kind.__qualname__} found; text, numbers, True, False, None, lists and dicts "
            f"expected; {advice}"
        )
    elif not depth:
        raise errors.NotEncodable(f"{place[:80]}...: more than {MOST_DEPTH} levels found, or it contains itself")
    elif kind is list:
        for number, one in enumerate(value):
            _ensure_plain(f"{place}[{number}]", one, depth - 1)
    else:
        for key, one in value.items():
            if type(key) is not str:
                raise errors.NotEncodable(f"{place}: the key {key!r} ({type(key).__name__}) found; write str(...)")
            _ensure_plain(f"{place}[{key!r}]", one, depth - 1)
