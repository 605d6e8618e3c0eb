"""Positions: where in the write-ahead log a write is, and how far a copy has come.

Called by everything that compares copies: read routing, caches, failover. Pure: no clock, no I/O.

A position is `(shard, epoch, timeline, lsn)`. Within a shard positions are ordered by epoch first, then along
the timeline's *history*, then by LSN: timeline numbers of two regions collide, and an LSN past the point where
a timeline was left does not prove that a session's own write was lost (a flush LSN covers other sessions' WAL),
so it is clamped to the switch point.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tenfold import errors


@dataclass(frozen=True, slots=True)
class Position:
    """Where one write is, or how far one copy has come. `lsn` is a byte address in the log of `timeline`."""

    shard: int
    epoch: int
    timeline: int
    lsn: int

    def __str__(self) -> str:
        return f"{self.shard}.{self.epoch}.{self.timeline}.{self.lsn:X}"

    @classmethod
    def parse(cls, text: str) -> "Position":
        """The position that `str()` wrote. Raises `BadPosition` for anything else."""
        try:
            shard, epoch, timeline, lsn = text.split(".")
            parsed = cls(int(shard), int(epoch), int(timeline), int(lsn, 16))
        except ValueError as error:
            raise errors.BadPosition(
                f"position: {text[:80]!r} found, SHARD.EPOCH.TIMELINE.LSN (the last in hex) expected"
            ) from error
        if min(parsed.shard, parsed.epoch, parsed.timeline, parsed.lsn) < 0:
            raise errors.BadPosition(f"position: {text[:80]!r} found, numbers of 0 or more expected")
        return parsed


def parse_lsn(text: str) -> int:
    """PostgreSQL's `16/B374D848` as a number of bytes."""
    high, low = text.split("/")
    return (int(high, 16) << 32) | int(low, 16)


def format_lsn(lsn: int) -> str:
    """A number of bytes as PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


@dataclass(frozen=True, slots=True)
class History:
    """How a shard's timelines follow each other: `(timeline, lsn)` pairs, each the point where it was left.

    Source: PostgreSQL's `NNNNNNNN.history` files, whose lines hold the parent timeline and the switch point.
    """

    switches: tuple[tuple[int, int], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "History":
        """From a history file's text; comments and blank lines are skipped."""
        rows = (line.split() for line in text.splitlines() if line.strip() and not line.startswith("#"))
        return cls(tuple((int(row[0]), parse_lsn(row[1])) for row in rows))

    def left_at(self, timeline: int) -> int | None:
        """The LSN at which `timeline` was left, or None while it is the newest that is known."""
        return next((lsn for number, lsn in self.switches if number == timeline), None)


def reached(copy: Position, wanted: Position, history: History) -> bool:
    """True when `copy` holds everything up to `wanted`.

    Both must be of one shard. False when the histories do not say: a caller then asks the primary.
    """
    if copy.epoch != wanted.epoch:
        return copy.epoch > wanted.epoch
    if copy.timeline == wanted.timeline:
        return copy.lsn >= wanted.lsn
    if copy.timeline < wanted.timeline:
        return False
    left_at = history.left_at(wanted.timeline)
    return left_at is not None and copy.lsn >= min(wanted.lsn, left_at)


def later(first: Position, second: Position) -> Position:
    """The later of two positions of one shard, as a session remembers them (epoch, timeline, LSN)."""
    return max(first, second, key=lambda one: (one.epoch, one.timeline, one.lsn))


@dataclass(frozen=True, slots=True)
class Positions(Mapping[int, Position]):
    """What a session has seen: at most one position a shard. A value; `raised` gives a new one."""

    by_shard: Mapping[int, Position] = field(default_factory=dict)

    def __getitem__(self, shard: int) -> Position:
        return self.by_shard[shard]

    def __iter__(self) -> Iterator[int]:
        return iter(self.by_shard)

    def __len__(self) -> int:
        return len(self.by_shard)

    def __str__(self) -> str:
        return "~".join(str(self.by_shard[shard]) for shard in sorted(self.by_shard))

    @classmethod
    def parse(cls, text: str) -> "Positions":
        """The positions that `str()` wrote. Raises `BadPosition` for anything else."""
        return cls().raised(Position.parse(part) for part in text.split("~") if part)

    def raised(self, others: Iterable[Position]) -> "Positions":
        """These positions, each raised to the later of itself and the one given. Never lower."""
        merged = dict(self.by_shard)
        for other in others:
            known = merged.get(other.shard)
            merged[other.shard] = other if known is None else later(known, other)
        return Positions(merged)
