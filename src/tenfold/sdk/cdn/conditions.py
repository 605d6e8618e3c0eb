"""Conditional and partial requests for a file: is the client's copy good, and which bytes does it want. Pure.

Called by `serving`. RFC 9110, sections 13 and 14.
"""

import re
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from enum import Enum

RANGE = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)

Fields = dict[bytes, bytes]
"""A request's headers, by name in lower case."""


class Wanted(Enum):
    """What the answer is."""

    ALL = 200
    PART = 206
    NOTHING_NEW = 304
    NO_SUCH_PART = 416


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `first` to `last`, the last one included."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """How many bytes that are."""
        return self.last - self.first + 1


def http_date(seconds: int) -> str:
    """`Mon, 23 Nov 2026 20:00:00 GMT`."""
    return formatdate(seconds, usegmt=True)


def is_current(fields: Fields, tags: tuple[str, ...], modified: int) -> bool:
    """Whether the client has what we would send: by its entity tag, else by its date."""
    known = fields.get(b"if-none-match")
    if known is not None:
        said = {one.strip().removeprefix("W/") for one in known.decode("latin-1").split(",")}
        return "*" in said or not said.isdisjoint(tags)
    since = _date(fields.get(b"if-modified-since"))
    return since is not None and modified <= since


def part(fields: Fields, size: int, tag: str, modified: int) -> tuple[Wanted, Part]:
    """Which part of a file is asked for. More than one part, or none that we understand: all of it."""
    everything = Wanted.ALL, Part(0, size - 1)
    said = RANGE.fullmatch(fields.get(b"range", b"").decode("latin-1"))
    if said is None or not _still_holds(fields.get(b"if-range"), tag, modified):
        return everything
    first, last = said.groups()
    if not first:
        length = min(int(last or 0), size)
        return (Wanted.PART, Part(size - length, size - 1)) if length else (Wanted.NO_SUCH_PART, Part(0, -1))
    if last and int(last) < int(first):
        return everything
    if int(first) >= size:
        return Wanted.NO_SUCH_PART, Part(0, -1)
    return Wanted.PART, Part(int(first), min(int(last), size - 1) if last else size - 1)


def takes_gzip(fields: Fields) -> bool:
    """Whether the client has said that it takes gzip."""
    for one in fields.get(b"accept-encoding", b"").decode("latin-1").lower().split(","):
        name, _, parameters = one.partition(";")
        if name.strip() in ("gzip", "x-gzip", "*"):
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _still_holds(said: bytes | None, tag: str, modified: int) -> bool:
    """If-Range: the part is only of use to a client that has the rest of this very file."""
    if said is None:
        return True
    text = said.decode("latin-1").strip()
    return text == tag if text.startswith('"') else _date(said) == modified


def _date(said: bytes | None) -> int | None:
    try:
        return None if said is None else int(parsedate_to_datetime(said.decode("latin-1")).timestamp())
    except (ValueError, OverflowError):
        return None
