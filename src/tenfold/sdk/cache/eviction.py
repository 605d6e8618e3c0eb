"""What a full cache forgets first: LRU, LFU, FIFO and S3-FIFO. Pure.

Made by `local`, which knows what is in the cache and how large it is; these know the order only. A hit raises the
entry's `uses`, and calls `touched` where a policy has one: nothing else happens on the way of a hit.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

MOST_LOOKED_AT = 32
"""So many entries are looked at for one victim: who makes room waits for no long search."""

MOST_USES = 3
"""S3-FIFO counts no further."""

SMALL = 0.1
"""The part of the bytes that S3-FIFO gives to what is new."""


class Item(Protocol):
    """What is kept, as far as it matters here."""

    key: str
    size: int
    uses: int


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
        self._queue: OrderedDict[Item, None] = OrderedDict()

    def add(self, item: Item) -> None:
        """At the end."""
        self._queue[item] = None

    def remove(self, item: Item) -> None:
        """Wherever it is."""
        del self._queue[item]

    def victim(self) -> Item:
        """The oldest."""
        return self._queue.popitem(last=False)[0]


class Lru(Fifo):
    """What was not used for the longest time goes first. One pass over many cold keys pushes everything else out."""

    def __init__(self) -> None:
        super().__init__()
        self.touched = self._queue.move_to_end


class Lfu:
    """What was used the least often goes first; of those, the oldest. What was hot once stays long.

    An entry moves up when it is looked at for a victim, not when it is hit. In one search at most `MOST_LOOKED_AT`
    move; then the least used of those goes.
    """

    touched: Callable[[Item], None] | None = None

    def __init__(self) -> None:
        self._levels: dict[int, OrderedDict[Item, None]] = {}
        self._level_of: dict[Item, int] = {}
        self._lowest = 0

    def add(self, item: Item) -> None:
        """On the lowest level."""
        self._put(item, item.uses)

    def remove(self, item: Item) -> None:
        """From whatever level it is on."""
        level = self._level_of.pop(item)
        items = self._levels[level]
        del items[item]
        if not items:
            del self._levels[level]

    def victim(self) -> Item:
        """The first that is on its true level, from the lowest up."""
        best = self._first()
        for _ in range(MOST_LOOKED_AT):
            item = self._first()
            if item.uses == self._level_of[item]:
                best = item
                break
            best = min(best, item, key=lambda one: one.uses)
            self.remove(item)
            self._put(item, item.uses)
        self.remove(best)
        return best

    def _first(self) -> Item:
        """The oldest on the lowest level that has any."""
        if self._lowest not in self._levels:
            self._lowest = min(self._levels)
        return next(iter(self._levels[self._lowest]))

    def _put(self, item: Item, level: int) -> None:
        self._levels.setdefault(level, OrderedDict())[item] = None
        self._level_of[item] = level
        self._lowest = min(self._lowest, level)


class S3Fifo:
    """Three queues: what is new passes a small one, and only what was used there again gets into the main one.

    A ghost queue remembers the keys of what left the small one: what comes back from there belongs to the main one.
    One pass over many cold keys leaves the main one alone. Source: Yang, Zhang, Qiu, Yue, Vinayak: FIFO queues are all
    you need for cache eviction (SOSP 2023), algorithm 1; sizes are bytes here.
    """

    touched: Callable[[Item], None] | None = None

    def __init__(self) -> None:
        self._small: OrderedDict[Item, None] = OrderedDict()
        self._main: OrderedDict[Item, None] = OrderedDict()
        self._ghost: OrderedDict[int, None] = OrderedDict()
        self._small_bytes = 0
        self._bytes = 0

    def add(self, item: Item) -> None:
        """Into the small queue, or the main one if it was here not long ago."""
        self._bytes += item.size
        if self._ghost.pop(hash(item.key), self) is None:
            self._main[item] = None
        else:
            self._small[item] = None
            self._small_bytes += item.size

    def remove(self, item: Item) -> None:
        """From whichever queue it is in."""
        self._bytes -= item.size
        if item in self._small:
            del self._small[item]
            self._small_bytes -= item.size
        else:
            del self._main[item]

    def victim(self) -> Item:
        """From the small queue while it has more than its share, else from the main one."""
        if self._small and (self._small_bytes >= SMALL * self._bytes or not self._main):
            found = self._from_small()
            if found is not None:
                return found
        return self._from_main()

    def _from_small(self) -> Item | None:
        """The oldest that was not used again; those that were move to the main queue."""
        for _ in range(min(MOST_LOOKED_AT, len(self._small))):
            item = self._small.popitem(last=False)[0]
            self._small_bytes -= item.size
            if item.uses > 1:
                item.uses = 0
                self._main[item] = None
                continue
            self._bytes -= item.size
            self._remember(item)
            return item
        return None

    def _from_main(self) -> Item:
        """The oldest that was not used since it was last looked at."""
        if not self._main:
            item = self._small.popitem(last=False)[0]
            self._small_bytes -= item.size
            self._bytes -= item.size
            return item
        for _ in range(min(MOST_LOOKED_AT, len(self._main))):
            item = self._main.popitem(last=False)[0]
            if item.uses <= 0:
                break
            item.uses = min(item.uses, MOST_USES) - 1
            self._main[item] = None
        else:
            item = self._main.popitem(last=False)[0]
        self._bytes -= item.size
        return item

    def _remember(self, item: Item) -> None:
        """Its key's hash, for as long as the main queue holds entries."""
        self._ghost[hash(item.key)] = None
        while len(self._ghost) > max(len(self._main), 16):
            self._ghost.popitem(last=False)


POLICIES: dict[str, Callable[[], Eviction]] = {"lru": Lru, "lfu": Lfu, "fifo": Fifo, "s3fifo": S3Fifo}
