"""What a full cache forgets first: LRU, LFU, FIFO and S3-FIFO. Pure.

Made by `local`, which knows what is in the cache and how large it is; these know the order only. A hit raises the
entry's `uses`, and calls `touched` where a policy has one: nothing else happens on the way of a hit.
"""

from array import array
from collections.abc import Callable
from typing import Any, Protocol

MOST_LOOKED_AT = 32
"""So many entries are looked at for one victim: who makes room waits for no long search."""

MOST_USES = 3
"""S3-FIFO counts no further."""

GHOSTS = 65_536
"""So many keys S3-FIFO remembers at most; 1 MiB a process."""

SMALL = 0.1
"""The part of the bytes that S3-FIFO gives to what is new."""


class Item(Protocol):
    """What is kept, as far as it matters here. The links and the level are this module's."""

    key: str
    size: int
    uses: int
    level: int
    before: Any
    after: Any


class Queue:
    """Items in a circle of links, oldest first. It grows without a pause, however long it is, which no table does."""

    __slots__ = ("after", "before")

    def __init__(self) -> None:
        self.before: Any = self
        self.after: Any = self

    def __bool__(self) -> bool:
        return self.after is not self

    def add(self, item: Item) -> None:
        """At the end."""
        last = self.before
        item.before, item.after = last, self
        last.after = self.before = item

    def pop(self) -> Item:
        """Take out the oldest. There must be one."""
        item: Item = self.after
        remove(item)
        return item


def remove(item: Item) -> None:
    """Take it out of whatever queue it is in."""
    before, after = item.before, item.after
    before.after, after.before = after, before
    item.before = item.after = None


class Eviction(Protocol):
    """An order of forgetting."""

    touched: Callable[[Item], None] | None
    """To be called with each entry that is hit; None: its `uses` tell enough."""

    def add(self, item: Item) -> None:
        """Something new is kept. Its `uses` are 0."""

    def remove(self, item: Item) -> None:
        """It went for another reason: it expired, or it was replaced."""

    def victim(self) -> Item:
        """Take out what goes first. At least one must be kept."""


class Fifo:
    """First in, first out: a hit costs nothing and changes nothing."""

    touched: Callable[[Item], None] | None = None

    def __init__(self) -> None:
        self._queue = Queue()
        self.add = self._queue.add
        self.remove = remove
        self.victim = self._queue.pop


class Lru:
    """What was not used for the longest time goes first. One pass over many cold keys pushes everything else out.

    What is in the newer half already is not moved again when it is hit: most hits cost a comparison.
    """

    def __init__(self) -> None:
        self._queue = Queue()
        self._count = 0
        self._moves = 0
        self.touched: Callable[[Item], None] | None = self._touched

    def add(self, item: Item) -> None:
        """At the end."""
        self._count += 1
        self._append(item)

    def remove(self, item: Item) -> None:
        """Wherever it is."""
        self._count -= 1
        remove(item)

    def victim(self) -> Item:
        """The oldest."""
        self._count -= 1
        return self._queue.pop()

    def _touched(self, item: Item) -> None:
        """To the end, unless fewer than half of all have come there since."""
        if self._moves - item.level >= self._count >> 1:
            remove(item)
            self._append(item)

    def _append(self, item: Item) -> None:
        self._moves += 1
        item.level = self._moves
        self._queue.add(item)


class Lfu:
    """What was used the least often goes first; of those, the oldest. What was hot once stays long.

    An entry moves up when it is looked at for a victim, not when it is hit. In one search at most `MOST_LOOKED_AT`
    move; then the least used of those goes.
    """

    touched: Callable[[Item], None] | None = None

    def __init__(self) -> None:
        self._levels: dict[int, Queue] = {}
        self._lowest = 0

    def add(self, item: Item) -> None:
        """On the level of its uses: the lowest, when it is new."""
        item.level = item.uses
        queue = self._levels.get(item.level)
        if queue is None:
            queue = self._levels[item.level] = Queue()
        queue.add(item)
        self._lowest = min(self._lowest, item.level)

    def remove(self, item: Item) -> None:
        """From whatever level it is on."""
        remove(item)
        if not self._levels[item.level]:
            del self._levels[item.level]

    def victim(self) -> Item:
        """The first that is on its true level, from the lowest up."""
        best = self._first()
        for _ in range(MOST_LOOKED_AT):
            item = self._first()
            if item.uses == item.level:
                best = item
                break
            best = min(best, item, key=lambda one: one.uses)
            self.remove(item)
            self.add(item)
        self.remove(best)
        return best

    def _first(self) -> Item:
        """The oldest on the lowest level that has any."""
        if self._lowest not in self._levels:
            self._lowest = min(self._levels)
        found: Item = self._levels[self._lowest].after
        return found


class S3Fifo:
    """Three queues: what is new passes a small one, and only what was used there again gets into the main one.

    A ghost queue remembers the keys of what left the small one: what comes back from there belongs to the main one.
    One pass over many cold keys leaves the main one alone. Source: Yang, Zhang, Qiu, Yue, Vinayak: FIFO queues are all
    you need for cache eviction (SOSP 2023), algorithm 1; sizes are bytes here.
    """

    touched: Callable[[Item], None] | None = None

    def __init__(self) -> None:
        self._small, self._main = Queue(), Queue()
        self._ghosts = Ghosts()
        self._small_bytes = 0
        self._bytes = 0
        self._main_count = 0

    def add(self, item: Item) -> None:
        """Into the small queue, or the main one if it was here not long ago."""
        self._bytes += item.size
        if self._ghosts.take(item.key, self._main_count):
            self._promote(item)
        else:
            item.level = 0
            self._small.add(item)
            self._small_bytes += item.size

    def remove(self, item: Item) -> None:
        """From whichever queue it is in."""
        remove(item)
        self._bytes -= item.size
        if item.level:
            self._main_count -= 1
        else:
            self._small_bytes -= item.size

    def victim(self) -> Item:
        """From the small queue while it has more than its share, else from the main one."""
        item = None
        if self._small and (self._small_bytes >= SMALL * self._bytes or not self._main):
            item = self._from_small()
        if item is None:
            item = self._from_main() if self._main else self._small.after
            self.remove(item)
        return item

    def _from_small(self) -> Item | None:
        """The oldest that was not used again; those that were move to the main queue."""
        for _ in range(MOST_LOOKED_AT):
            if not self._small:
                break
            item: Item = self._small.after
            if item.uses <= 1:
                self.remove(item)
                self._ghosts.add(item.key)
                return item
            remove(item)
            self._small_bytes -= item.size
            self._promote(item)
        return None

    def _from_main(self) -> Item:
        """The oldest that was not used since it was last looked at; it stays where it is."""
        for _ in range(MOST_LOOKED_AT):
            item: Item = self._main.after
            if item.uses <= 0:
                break
            item.uses = min(item.uses, MOST_USES) - 1
            remove(item)
            self._main.add(item)
        found: Item = self._main.after
        return found

    def _promote(self, item: Item) -> None:
        item.uses, item.level = 0, 1
        self._main.add(item)
        self._main_count += 1


class Ghosts:
    """The keys that left not long ago, by their hashes, each in the one place that its hash gives it.

    A table of fixed size: one that grew would hold up the loop. Two that share a place forget the older, which is rare.
    """

    __slots__ = ("_clock", "_hashes", "_times")

    def __init__(self) -> None:
        self._hashes = array("q", bytes(8 * GHOSTS))
        self._times = array("q", bytes(8 * GHOSTS))
        self._clock = 0

    def add(self, key: str) -> None:
        """It has left now."""
        self._clock += 1
        found = hash(key)
        self._hashes[found % GHOSTS] = found
        self._times[found % GHOSTS] = self._clock

    def take(self, key: str, most: int) -> bool:
        """Whether it is among the last `most` that left; then no more."""
        found = hash(key)
        place = found % GHOSTS
        is_there = self._hashes[place] == found and self._clock - self._times[place] < max(most, 16)
        if is_there:
            self._hashes[place] = 0
        return is_there


POLICIES: dict[str, Callable[[], Eviction]] = {"lru": Lru, "lfu": Lfu, "fifo": Fifo, "s3fifo": S3Fifo}
