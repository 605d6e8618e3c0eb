"""The floors: up to which position what is cached under a slot is stale, and who may still have an entry.

`floors.Floors` is one, fed by `following` (from the database) and the channels (from other processes). Pure: no clock,
no I/O. Floors are only ever raised.

The rule. An entry's stamp is how far the node had come that it was read from, known *before* the read began. The floor
of a transaction is how far the log was flushed, read *after* its COMMIT had returned. An entry passes a floor exactly
when its stamp is above it. For let the stamp be above the floor: the log only grows, so the stamp was read later than
the floor, and therefore after the commit had returned; the primary showed the transaction by then, and a replica that
had come past the floor had replayed it. Equal is not enough: while a COMMIT waits for a replica its record is flushed
and nobody sees it yet, and whoever reads then has a stamp that the floor may be equal to.
"""

import zlib
from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tenfold import position
from tenfold.sdk.cache.entries import Entry
from tenfold.sdk.cache.parts import Verdict

SLOTS = 65_536
"""So many floors, whatever the number of tags: two that share a slot are stale together, which is rare and does no
harm. 512 KiB a process."""

NEVER = 2**63
"""A floor that no stamp is above."""

_KEY, _TAG = zlib.crc32(b"tenfold key "), zlib.crc32(b"tenfold tag ")


def slot_of_tag(tag: str) -> int:
    """The slot of a tag: the same in every process, whatever its Python's hash seed."""
    return zlib.crc32(tag.encode(errors="surrogatepass"), _TAG) & (SLOTS - 1)


def slot_of_key(key: str) -> int:
    """The slot of a key: it counts as a tag of its own."""
    return zlib.crc32(key.encode(errors="surrogatepass"), _KEY) & (SLOTS - 1)


class Row(NamedTuple):
    """What the database says of one slot: the highest floor on a timeline; None: it is not known yet."""

    slot: int
    timeline: int | None
    lsn: int | None


class Table:
    """One shard's floors, on the newest timeline that was heard of. Begins as knowing nothing and trusting nobody."""

    def __init__(self, shard: int = 0) -> None:
        self.shard = shard
        self.version = 0
        """Rises with every floor that is raised, and whenever trust is won or lost."""
        self.forget()

    def forget(self) -> None:
        """Know nothing again: the database may be another one."""
        self.version += 1
        self.is_trusted = False
        """Whether every floor that is raised anywhere arrives here."""
        self.epoch = 0
        self.timeline = 0
        self.history = position.History()
        """Where the older timelines were left, as far as it could be learnt. Set by whoever learns it."""
        self.newest = 0
        """The highest floor: a node that has come no further cannot give a stamp that is worth anything everywhere."""
        self._floors = array("Q", bytes(8 * SLOTS))
        self._base = NEVER
        self._complete = 0
        self._read_on = (0, 0)
        self._since = 0

    @property
    def is_current(self) -> bool:
        """Whether the database's rows were read as they are on this timeline: else they must be, from the first on."""
        return self._read_on == (self.epoch, self.timeline)

    @property
    def since(self) -> int | None:
        """Rows with a floor from here on, or without one, may be new; None: any may be, and all must be read."""
        return self._since if self.is_current else None

    def slots_of(self, key: str, tags: Sequence[str]) -> tuple[int, ...]:
        """The slot of the key, then those of the tags."""
        return (slot_of_key(key), *map(slot_of_tag, tags))

    def judge(self, entry: Entry, wanted: position.Position | None) -> Verdict:
        """Whether a session that has come to `wanted` (None: it has written nothing) may have this entry."""
        if not self.is_trusted:
            return Verdict.UNTRUSTED
        if not self.passes(entry.stamp, entry.slots):
            return Verdict.STALE
        if wanted is None:
            return Verdict.FRESH
        if entry.is_tagged:
            return Verdict.FRESH if self.is_complete(wanted) else Verdict.BEHIND
        is_newer = entry.stamp is not None and is_above(entry.stamp, wanted, self.history)
        return Verdict.FRESH if is_newer else Verdict.OLDER

    def allows(self, entry: Entry, wanted: position.Position | None) -> bool:
        """Whether `judge` says FRESH."""
        return self.judge(entry, wanted) is Verdict.FRESH

    def passes(self, stamp: position.Position | None, slots: Sequence[int]) -> bool:
        """Whether a value with this stamp is above every floor of these slots. Without a stamp: if there is none."""
        floors = self._floors
        if stamp is None:
            return self._base == 0 and not any(floors[slot] for slot in slots)
        lsn = self._comparable(stamp)
        if lsn <= self._base:
            return False
        for slot in slots:  # noqa: SIM110 - twice as quick as all()
            if lsn <= floors[slot]:
                return False
        return True

    def is_complete(self, wanted: position.Position) -> bool:
        """Whether every invalidation that a session at `wanted` may know of is in the table."""
        if wanted.timeline == self.timeline and wanted.epoch == self.epoch:
            return wanted.lsn < self._complete
        if wanted.epoch != self.epoch:
            return wanted.epoch < self.epoch and self._complete > 0
        left_at = self.history.left_at(wanted.timeline) if wanted.timeline < self.timeline else None
        return left_at is not None and min(wanted.lsn, left_at) < self._complete

    def raise_to(self, floor: position.Position, slots: Iterable[int]) -> None:
        """What is cached under these slots is stale up to the floor.

        It may be of a timeline that nobody was seen on yet: that only the database is believed (`learn`). Of another
        epoch it is not needed: an older one's entries are stale anyway, and with a newer one everything is read anew.
        """
        if floor.epoch == self.epoch:
            self._raise([(slot, self._clamped(floor.timeline, floor.lsn)) for slot in slots])

    def enter(self, epoch: int, timeline: int) -> bool:
        """Go on to a newer timeline, if it is one: what was read on the older one may not be all there is.

        The floors stay: an LSN beyond the point where a timeline was left only makes more stale than must be. Of
        another epoch nothing can be compared: everything is stale until `learn` has said where that epoch stands.
        """
        if (epoch, timeline) <= (self.epoch, self.timeline):
            return False
        if epoch != self.epoch:
            self._floors = array("Q", bytes(8 * SLOTS))
            self._base, self.newest = NEVER, 0
        self.epoch, self.timeline = epoch, timeline
        self._complete = 0
        self.distrust()
        return True

    def learn(self, rows: Iterable[Row], at: position.Position, *, is_replica: bool, since: int | None) -> bool:
        """Take in the database's rows, read from a node that had come to `at` before the read began.

        `since` is what was asked for: None means all rows, of which the one with slot -1 tells the base. True: from
        now on the table is complete up to there. False: that node is on an older timeline than the table.
        """
        self.enter(at.epoch, at.timeline)
        if (at.epoch, at.timeline) != (self.epoch, self.timeline):
            return False
        found = [(row.slot, at.lsn if row.lsn is None else self._clamped(row.timeline or 0, row.lsn)) for row in rows]
        self._raise([(slot, lsn) for slot, lsn in found if slot >= 0])
        if since is None:
            self._begin(at, max((lsn for slot, lsn in found if slot < 0), default=0))
        if self.is_current:
            # A primary may still hide what it has flushed up to here; a replica shows all that it has replayed.
            self._complete = max(self._complete, at.lsn + is_replica)
            self._since = max(self._since, at.lsn)
        return self.is_current

    def trust(self) -> None:
        """Nothing is missing, and nothing will be missed."""
        if not self.is_trusted:
            self.is_trusted = True
            self.version += 1

    def distrust(self) -> None:
        """Something may have been missed: nobody is given anything until the table has caught up."""
        if self.is_trusted:
            self.is_trusted = False
            self.version += 1

    def _begin(self, at: position.Position, pruned: int) -> None:
        """All rows were read on this timeline. Of rows that are deleted the highest floor is known."""
        if self._base == NEVER:
            is_first = self._read_on == (0, 0)
            self._base = pruned if is_first else at.lsn
        self._base = max(self._base, pruned)
        self._read_on, self._since = (self.epoch, self.timeline), at.lsn
        self.version += 1

    def _raise(self, floors: Sequence[tuple[int, int]]) -> None:
        known, is_raised = self._floors, False
        for slot, lsn in floors:
            if known[slot] < lsn:
                known[slot] = lsn
                is_raised = True
        if is_raised:
            self.newest = max(self.newest, *(lsn for _, lsn in floors))
            self.version += 1

    def _comparable(self, stamp: position.Position) -> int:
        """The stamp's LSN as it counts on our timeline; -1: it proves nothing here."""
        if stamp.timeline == self.timeline and stamp.epoch == self.epoch and stamp.shard == self.shard:
            return stamp.lsn
        if stamp.epoch != self.epoch or stamp.shard != self.shard:
            return -1
        if stamp.timeline > self.timeline:
            return stamp.lsn
        left_at = self.history.left_at(stamp.timeline)
        return stamp.lsn if left_at is not None and stamp.lsn <= left_at else -1

    def _clamped(self, timeline: int, lsn: int) -> int:
        """A floor of an older timeline: nothing of it came after the point where that was left."""
        left_at = self.history.left_at(timeline) if timeline < self.timeline else None
        return lsn if left_at is None else min(lsn, left_at)


def is_above(stamp: position.Position, wanted: position.Position, history: position.History) -> bool:
    """Whether a value with this stamp surely reflects what a session at `wanted` has written: `reached`, and more.

    Equal is not enough, as with floors.
    """
    if stamp.epoch != wanted.epoch:
        return stamp.epoch > wanted.epoch
    if stamp.timeline <= wanted.timeline:
        return stamp.timeline == wanted.timeline and stamp.lsn > wanted.lsn
    left_at = history.left_at(wanted.timeline)
    return stamp.lsn > (wanted.lsn if left_at is None else min(wanted.lsn, left_at))
