"""What this process knows of the database nodes: each node's last sighting, and what a shard's sightings add up to.

Written by `prober`, and by whoever runs into a node that is not what it was (`Shard.doubt`). Read by `primary` and
`routing`. No I/O of its own; times are `loop.time()`.
"""

import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tenfold import bindings, position
from tenfold.sdk.db import pool, routing, signal

SAMPLES = 256
"""How many of the primary's answers are kept to tell a replica's lag: 25 s of them while there is traffic."""

TIMELINE_SECONDS = 30.0
"""How long a timeline that nobody is on any more keeps primaries of older ones from being believed."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a node answered. It was so at some moment after `asked_at`."""

    asked_at: float
    is_primary: bool
    accepts_writes: bool
    """False on replicas, and on a primary that is fenced for a switch."""
    timeline: int
    """0: the node did not say; it then proves nothing about freshness."""
    lsn: int
    """Flushed (primary) or replayed (replica)."""
    epoch: int = 1
    """The newest epoch that its copy shows: rises with every promotion of a region."""

    @property
    def branch(self) -> tuple[int, int]:
        """Epoch and timeline: timeline numbers of two regions collide, those of one epoch do not."""
        return self.epoch, self.timeline


class Follower(Protocol):
    """A connection in somebody else's pool that is of use on the primary only."""

    def terminate(self) -> None:
        """Close it at once."""


class Node:
    """One PostgreSQL as this process sees it. `sighting` is None while nothing certain is known."""

    __slots__ = ("doubted_at", "followers", "pool", "reflects_at", "shard", "sighting", "trouble", "where")

    def __init__(self, where: bindings.DatabaseNode, shard: int, connections: pool.Pool) -> None:
        self.where = where
        self.shard = shard
        self.pool = connections
        self.followers: weakref.WeakSet[Follower] = weakref.WeakSet()
        """Connections that were opened because this node was the primary, and are not ours to keep."""
        self.sighting: Sighting | None = None
        self.doubted_at = float("-inf")
        self.reflects_at = float("-inf")
        """Everything that was committed before this moment is visible here."""
        self.trouble = "not asked yet"
        """Why there is no sighting, in words."""

    @property
    def name(self) -> str:
        """Its name in the bindings."""
        return self.where.name

    def dismiss(self) -> None:
        """This node is certainly not the primary: whoever follows it sees its connection closed, and opens another."""
        followers, self.followers = self.followers, weakref.WeakSet()
        for follower in followers:
            follower.terminate()

    def position(self) -> position.Position | None:
        """How far this copy had come when last seen, or None when that is not known."""
        seen = self.sighting
        return position.Position(self.shard, *seen.branch, seen.lsn) if seen and seen.timeline else None


BACKGROUND_USES = 5
"""In a second: so few are no traffic, but what the SDK does by itself: a look whether messages wait, whether the cache
is stale. To look at every node ten times a second would cost more than all of that."""


class Shard:
    """The nodes of one shard and what their sightings add up to. Every change fires `news`."""

    __slots__ = (
        "_newest",
        "_newest_at",
        "_samples",
        "busy_until",
        "epoch",
        "freshness",
        "has_epochs",
        "history",
        "history_of",
        "hopeless_until",
        "news",
        "nodes",
        "number",
        "poke",
        "primary",
        "readable",
        "region",
        "turned",
        "uses",
        "uses_since",
    )

    def __init__(self, number: int, epoch: int, poke: Callable[[], None], region: str = "home") -> None:
        self.number = number
        self.region = region
        """Where this process runs: replicas there are asked first."""
        self.epoch = epoch
        """The lowest epoch that a node can be in: what the bindings say. Which one it is in a node says itself."""
        self.has_epochs = False
        """Whether the database has the table of epochs: a probe finds out. Without it there was only one."""
        self.history = position.History()
        self.history_of = (0, 0)
        """The epoch and timeline whose history file `history` is from."""
        self.nodes: dict[str, Node] = {}
        self.primary: Node | None = None
        """The newest node that says it is primary; it may be fenced (`writable` tells)."""
        self.readable: tuple[Node, ...] = ()
        """Replicas that are there, do not lag too far, and are no further away than they must be."""
        self.uses = BACKGROUND_USES + 1
        """Reads and writes since `uses_since`, counted back by the probes: probing follows the traffic."""
        self.uses_since = 0.0
        self.busy_until = 0.0
        """Until when the probes look often."""
        self.hopeless_until = 0.0
        """Until when no read waits for a copy to catch up, because such a wait was in vain just now."""
        self.news = signal.Signal()
        """Fires after every sighting. Who waits here waits for a primary."""
        self.freshness = signal.Signal()
        """Fires after every sighting of a replica. Who waits here waits for a copy to catch up."""
        self.poke = poke
        """Asks the probes of this shard to look now."""
        self.turned: Callable[[], None] = _nobody
        """Called as soon as a node is seen on a newer timeline, or of a newer epoch, than any before."""
        self._samples: deque[tuple[float, tuple[int, int], int]] = deque(maxlen=SAMPLES)
        self._newest = (0, 0)
        """The newest epoch and timeline."""
        self._newest_at = float("-inf")
        """When some node, primary or replica, was last asked that turned out to be on it."""

    @property
    def writable(self) -> Node | None:
        """The primary, unless it holds its writes for a switch."""
        node = self.primary
        return node if node is not None and node.sighting is not None and node.sighting.accepts_writes else None

    @property
    def is_away(self) -> bool:
        """Whether the primary is in another region."""
        return self.primary is not None and self.primary.where.region != self.region

    @property
    def troubles(self) -> str:
        """What is wrong with which node, in words, for an error message."""
        return "; ".join(node.trouble or f"{node.name}: {_role(node)}" for node in self.nodes.values())

    def enter(self, epoch: int) -> None:
        """No node is of an older epoch than this one."""
        self.epoch = epoch

    def saw(self, node: Node, sighting: Sighting) -> None:
        """A probe was answered. An answer to a question older than the last doubt counts for nothing."""
        if sighting.asked_at <= node.doubted_at:
            return
        node.sighting, node.trouble = sighting, ""
        self._note_timeline(sighting)
        if sighting.is_primary:
            self._sample(sighting)
        else:
            node.reflects_at = self._reflected(sighting)
        self._add_up()
        if not sighting.is_primary:
            self.freshness.fire()
        self.news.fire()

    def lost(self, node: Node, trouble: str, *, is_certain: bool) -> None:
        """A probe failed: whoever waits for one of the node's connections goes elsewhere, and if that it is gone is
        certain (a new connection failed too) so does every read that it has not answered."""
        node.trouble = trouble
        self._forget(node)
        node.pool.scatter()
        if is_certain:
            node.pool.cut_reads()

    def doubt(self, node: Node, now: float) -> None:
        """Somebody ran into something that contradicts the last sighting: it is void until a new probe answers."""
        node.doubted_at = now
        self._forget(node)
        self.poke()

    def remove(self, name: str) -> None:
        """The node is no longer named by the bindings: what runs on it ends in peace, nothing new begins."""
        node = self.nodes.pop(name)
        self._forget(node)
        node.dismiss()
        node.pool.retire()

    def proves(self, node: Node, wanted: position.Position) -> bool:
        """Whether the node's last sighting proves that it holds everything up to `wanted`."""
        seen = node.position()
        return seen is not None and position.reached(seen, wanted, self.history)

    def _forget(self, node: Node) -> None:
        node.sighting = None
        node.reflects_at = float("-inf")
        self._add_up()
        self.freshness.fire()
        self.news.fire()

    def _note_timeline(self, sighting: Sighting) -> None:
        """Remember the newest timeline. A database that was made anew begins at 1: after a while it is believed."""
        is_forgotten = sighting.asked_at > self._newest_at + TIMELINE_SECONDS
        if sighting.branch >= self._newest or is_forgotten:
            is_newer = sighting.branch > self._newest
            self._newest = sighting.branch
            self._newest_at = sighting.asked_at
            if is_newer:
                self.turned()

    def _sample(self, sighting: Sighting) -> None:
        """Remember how far the primary was, and let replicas that hold all of it profit at once."""
        self._samples.append((sighting.asked_at, sighting.branch, sighting.lsn))
        for node in self.nodes.values():
            seen = node.sighting
            if seen and not seen.is_primary and (seen.branch, sighting.lsn) == (sighting.branch, seen.lsn):
                node.reflects_at = max(node.reflects_at, sighting.asked_at)

    def _reflected(self, sighting: Sighting) -> float:
        """When the primary had last been no further than this replica is: what was committed before is in it."""
        return next(
            (at for at, branch, lsn in reversed(self._samples) if branch == sighting.branch and lsn <= sighting.lsn),
            float("-inf"),
        )

    def _add_up(self) -> None:
        self.primary = routing.newest_primary(self.nodes.values(), self._newest)
        last = self._samples[-1][0] if self._samples and self.primary is not None else None
        self.readable = routing.near(routing.readable(self.nodes.values(), last), self.region, self.primary)
        for node in self.nodes.values():
            is_known = node.sighting is not None or self.primary is not None
            if node.followers and node is not self.primary and is_known:
                node.dismiss()


def _nobody() -> None:
    """Nobody asks to be told of a newer timeline."""


def _role(node: Node) -> str:
    seen = node.sighting
    if seen is None:
        return "unknown"
    return ("primary" if seen.accepts_writes else "primary, read-only") if seen.is_primary else "replica"
