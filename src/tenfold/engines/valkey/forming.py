"""How servers become a cluster: from what each of them sees to what each of them is to be told next. Pure.

Called by `admin`, which looks, gives the orders, and looks again until there are none: so a cluster that was half made,
or has lost a server for good, is completed by the same rules that make a new one.

Every slot has a primary, and every primary a replica on another server (Valkey's cluster specification: slots, epochs,
MEET, REPLICATE, FORGET).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SLOTS = 16384


@dataclass(frozen=True, slots=True)
class Order:
    """One command for one server."""

    address: str
    words: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """A member as some server knows it."""

    id: str
    address: str
    is_primary: bool
    primary_id: str = ""
    """A replica's."""
    is_known: bool = True
    """False while the two shake hands."""
    ranges: tuple[tuple[int, int], ...] = ()
    """Its slots, first and last of each range."""

    @property
    def slots(self) -> frozenset[int]:
        """Its slots, one by one."""
        return frozenset(slot for first, last in self.ranges for slot in range(first, last + 1))


@dataclass(frozen=True, slots=True)
class View:
    """What one server that answers sees."""

    address: str
    me: Node
    others: tuple[Node, ...] = ()
    epoch: int = 0
    is_settled: bool = True
    """Whether it sees every slot served and, as a replica, follows its primary."""

    def knows(self, id: str) -> Node | None:
        """The other member of this id."""
        return next((one for one in self.others if one.id == id), None)


def read(address: str, text: str, *, is_settled: bool) -> View:
    """What a server answers to CLUSTER NODES, one member a line."""
    nodes, me, epoch = [], None, 0
    for line in text.splitlines():
        name, where, flags, primary, _, _, its_epoch, _, *ranges = line.split()
        node = Node(
            id=name,
            address=where.partition(":")[0],
            is_primary="master" in flags.split(","),
            primary_id="" if primary == "-" else primary,
            is_known="handshake" not in flags.split(","),
            ranges=tuple(_range(one) for one in ranges if not one.startswith("[")),  # [ begins a slot on its way
        )
        if "myself" in flags.split(","):
            me, epoch = node, int(its_epoch)
        else:
            nodes.append(node)
    if me is None:
        raise ValueError(f"CLUSTER NODES of {address} names no server as itself")
    return View(address, me, tuple(nodes), epoch, is_settled)


def begin_anew(views: Iterable[View]) -> tuple[Order, ...]:
    """Let every server forget all it holds and everybody it knows."""
    found: list[Order] = []
    for view in views:
        if view.me.is_primary:  # a replica empties itself when it forgets its primary
            found.append(Order(view.address, ("FLUSHALL", "SYNC")))
        found.append(Order(view.address, ("CLUSTER", "RESET", "HARD")))
    return tuple(found)


def orders(views: Sequence[View], port: int) -> tuple[Order, ...]:
    """What to say next, in this order; nothing while the servers talk among themselves, or when all is done.

    `views`: of all servers that shall be the cluster; of a new one the first half become primaries.
    """
    for stage in (_forget, lambda seen: _meet(seen, port), _give_slots, _replicate):
        if found := stage(views):
            return found
    return ()


def is_whole(views: Sequence[View]) -> bool:
    """Whether every server sees the same finished cluster of exactly these."""
    actual = {view.me.id: (view.me.is_primary, view.me.primary_id) for view in views}
    for view in views:
        seen = {one.id: (one.is_primary, one.primary_id) for one in (view.me, *view.others) if one.is_known}
        if not view.is_settled or seen != actual or not all(one.is_known for one in view.others):
            return False
    followed = {view.me.primary_id for view in views}
    return all(view.me.id in followed for view in views if view.me.ranges) and not _uncovered(views)


def _forget(views: Sequence[View]) -> tuple[Order, ...]:
    """Members that are none of these servers, or what one of them was before it lost its data."""
    ids = {view.me.id for view in views}
    gone = {one.id for view in views for one in view.others if one.is_known and one.id not in ids}
    return tuple(
        Order(view.address, ("CLUSTER", "FORGET", one))
        for view in views
        for one in sorted(gone)
        if view.knows(one) is not None and view.me.primary_id != one  # its replica takes over before it forgets it
    )


def _meet(views: Sequence[View], port: int) -> tuple[Order, ...]:
    first = views[0]
    if all(not view.others for view in views):  # each begins with a number of its own: nobody disputes a slot
        numbered = [(view, number) for number, view in enumerate(views, 1) if view.epoch == 0]
        if numbered:
            return tuple(Order(view.address, ("CLUSTER", "SET-CONFIG-EPOCH", number)) for view, number in numbered)
    greeted = {one.address for one in first.others}
    return tuple(
        Order(first.address, ("CLUSTER", "MEET", view.address, port))
        for view in views[1:]
        if view.address not in greeted
    )


def _give_slots(views: Sequence[View]) -> tuple[Order, ...]:
    """The slots that nobody has: to the server that has them in a new cluster, or to the one with the fewest."""
    missing = _uncovered(views)
    if not missing or not _all_acquainted(views):
        return ()
    half = len(views) // 2
    found = []
    for number in range(half):
        share = sorted(missing & set(range(SLOTS * number // half, SLOTS * (number + 1) // half)))
        usual = views[number]
        owners = [view for view in views if view.me.is_primary and view.me.ranges]
        taker = usual if usual.me.is_primary or not owners else min(owners, key=lambda one: len(one.me.slots))
        for first, last in _ranges(share):
            found.append(Order(taker.address, ("CLUSTER", "ADDSLOTSRANGE", first, last)))
    return tuple(found)


def _replicate(views: Sequence[View]) -> tuple[Order, ...]:
    """Every server without slots copies a primary: the ones with the fewest replicas first."""
    if _uncovered(views) or not _all_acquainted(views):
        return ()
    following: dict[str, list[View]] = {view.me.id: [] for view in views if view.me.ranges}
    free: list[View] = []
    for view in views:
        if not view.me.ranges:
            following.get(view.me.primary_id, free).append(view)
    while not free and min(map(len, following.values())) == 0 and max(map(len, following.values())) > 1:
        free.append(max(following.values(), key=len).pop())
    found = []
    for view in free:
        primary = min(following, key=lambda one: len(following[one]))
        following[primary].append(view)
        found.append(Order(view.address, ("CLUSTER", "REPLICATE", primary)))
    return tuple(found)


def _all_acquainted(views: Sequence[View]) -> bool:
    ids = {view.me.id for view in views}
    return all({one.id for one in view.others if one.is_known} == ids - {view.me.id} for view in views)


def _uncovered(views: Iterable[View]) -> set[int]:
    covered: set[int] = set()
    for view in views:
        covered |= view.me.slots
    return set(range(SLOTS)) - covered


def _ranges(slots: Sequence[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for slot in slots:
        if found and found[-1][1] == slot - 1:
            found[-1] = (found[-1][0], slot)
        else:
            found.append((slot, slot))
    return found


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)
