"""How fresh a read must be: the consistency levels, as values. Pure.

Written by users (`tf.db.reading("bounded", seconds=0.2)`), by the bindings (`unknown_client`), read by `reads`.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from tenfold import errors


class Kind(StrEnum):
    """The four promises."""

    PRIMARY = "primary"
    """Everything that was committed before the read began."""
    SESSION = "session"
    """At least everything that this session has written, and never older than what this request has read."""
    BOUNDED = "bounded"
    """Everything that was committed more than so many seconds before the read began."""
    EVENTUAL = "eventual"
    """Some state of the database; within one request never older than what it has read."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level. `seconds` is the bound of `bounded`, and 0 otherwise."""

    kind: Kind
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind}({self.seconds:g})" if self.kind is Kind.BOUNDED else str(self.kind)


PRIMARY = Level(Kind.PRIMARY)
SESSION = Level(Kind.SESSION)
EVENTUAL = Level(Kind.EVENTUAL)


def bounded(seconds: float) -> Level:
    """Reads that miss nothing which was committed more than `seconds` ago. Raises `MisuseError` below 0."""
    if not seconds >= 0:
        raise errors.MisuseError(f"reading: {seconds!r} seconds found, 0 or more expected")
    return Level(Kind.BOUNDED, float(seconds))


def parse(level: "Level | str", seconds: float | None = None) -> Level:
    """`primary`, `session`, `eventual`, or `bounded` with its seconds (also as `bounded(0.2)`).

    Raises `MisuseError` for anything else.
    """
    if isinstance(level, Level):
        return level
    written = re.fullmatch(r"bounded\(([0-9.]+)s?\)", level)
    if written is not None:
        return bounded(float(written[1]))
    if level == Kind.BOUNDED and seconds is not None:
        return bounded(seconds)
    if seconds is None and level in (Kind.PRIMARY, Kind.SESSION, Kind.EVENTUAL):
        return Level(Kind(level))
    raise errors.MisuseError(
        f'reading: {level!r} found, "primary", "session", "eventual" or ("bounded", seconds=0.2) expected'
    )
