"""A primary, a replica and their log in a few lines: what a load may see, and what floors may be told. Pure.

Made for tests of the floors: whatever a real cluster can do with commits that wait, replicas that lag and failovers,
this can do too, thousands of times a second.
"""

from dataclasses import dataclass, field

from tenfold import position
from tenfold.sdk.cache import entries, table

EPOCH = 1


@dataclass(eq=False)
class Write:
    """A transaction that makes one slot stale."""

    slot: int
    record: int
    """Where its commit record ends."""
    floor: position.Position | None = None
    """Read after its COMMIT has returned; None: it has not."""
    mark: int | None = None
    """Where the record of its delivery ends; None: nobody has delivered it."""
    is_lost: bool = False


@dataclass
class Log:
    """The nodes: `flushed` is the primary's, `replayed` the replica's, both on `timeline` but for what lags."""

    timeline: int = 1
    flushed: int = 100
    replayed: int = 100
    writes: list[Write] = field(default_factory=list)
    switches: list[tuple[int, int]] = field(default_factory=list)
    made: list[tuple[entries.Entry, frozenset[Write]]] = field(default_factory=list)
    """Entries, and the writes that each reflects."""

    @property
    def history(self) -> position.History:
        return position.History(tuple(self.switches))

    def at(self, *, is_replica: bool) -> position.Position:
        """How far a node has come."""
        return position.Position(0, EPOCH, self.timeline, self.replayed if is_replica else self.flushed)

    def begin(self, slot: int) -> Write:
        """A COMMIT is sent and flushed; it waits for the replica and nobody sees it on the primary."""
        self.flushed += 10
        made = Write(slot, self.flushed)
        self.writes.append(made)
        return made

    def end(self, write: Write) -> None:
        """The replica has it, the COMMIT returns, and the position is read."""
        if write.floor is None and not write.is_lost:
            self.replayed = max(self.replayed, write.record)
            write.floor = self.at(is_replica=False)

    def deliver(self, write: Write) -> None:
        """The floor is put into its row, which is one more record."""
        if write.floor is not None and write.mark is None:
            self.flushed += 10
            write.mark = self.flushed

    def replay(self, by: int) -> None:
        self.replayed = min(self.flushed, self.replayed + by)

    def fail_over(self) -> None:
        """The replica becomes the primary where it stands: what it does not have is lost, what it has is visible."""
        self.switches.append((self.timeline, self.replayed))
        self.timeline += 1
        self.flushed = self.replayed
        for write in self.writes:
            if write.record > self.replayed and write.floor is None:
                write.is_lost = True
            elif write.floor is None:
                write.floor = position.Position(0, EPOCH, self.timeline, self.flushed + 1)
            if write.mark is not None and write.mark > self.replayed:
                write.mark = None
        self.flushed += 1

    def visible(self, *, is_replica: bool) -> frozenset[Write]:
        """What somebody sees who begins to read now."""
        return frozenset(
            one
            for one in self.writes
            if not one.is_lost and (one.record <= self.replayed if is_replica else one.floor is not None)
        )

    def load(self, stamp: position.Position, slot: int, *, is_replica: bool) -> None:
        """A value is read, with a stamp from before."""
        tags = (slot, slot)
        self.made.append((entries.Entry(b"", stamp, tags, 0, 1, 1), self.visible(is_replica=is_replica)))

    def rows(self, since: int | None, *, is_replica: bool) -> list[table.Row]:
        """What the database answers to who follows invalidations."""
        found = []
        for write in self.visible(is_replica=is_replica):
            end = self.replayed if is_replica else self.flushed
            is_marked = write.mark is not None and write.mark <= end and write.floor is not None
            if not is_marked:
                found.append(table.Row(write.slot, None, None))
            elif since is None or write.floor.lsn >= since:  # type: ignore[union-attr]
                found.append(table.Row(write.slot, write.floor.timeline, write.floor.lsn))  # type: ignore[union-attr]
        return found
