"""Which copy may answer a read. Pure: no clock, no I/O; everything it looks at is handed in.

Called by `nodes` (after every sighting) and `reads` (for every read that is not answered by the pinned copy).
"""

import random
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenfold.sdk.db.nodes import Node

MOST_LAG_SECONDS = 10.0
"""A replica further behind than this leaves the read pool; it returns by itself when it has caught up."""


def newest_primary(nodes: "Iterable[Node]", known: tuple[int, int] = (0, 0)) -> "Node | None":
    """Of the nodes that say they are primary, the one of the newest epoch and timeline: it left the others behind.

    None of those on an older branch than `known`: their successor may only be out of sight for a moment.
    """
    claims = [(seen.branch, seen.lsn, node) for node in nodes if (seen := node.sighting) and seen.is_primary]
    newest = max(claims, key=lambda claim: claim[:2], default=None)
    return newest[2] if newest is not None and newest[0] >= known else None


def readable(nodes: "Iterable[Node]", primary_seen_at: float | None) -> "tuple[Node, ...]":
    """Replicas that are there and do not lag too far behind the primary as it was at `primary_seen_at`.

    Without a primary (None) nobody can tell lag, and any replica is better than no answer.
    """
    replicas = (node for node in nodes if (seen := node.sighting) and not seen.is_primary)
    if primary_seen_at is None:
        return tuple(replicas)
    return tuple(node for node in replicas if primary_seen_at - node.reflects_at <= MOST_LAG_SECONDS)


def near(replicas: "tuple[Node, ...]", region: str, primary: "Node | None") -> "tuple[Node, ...]":
    """Of these replicas the ones in this region. None of another region is asked before the region's own primary."""
    own = tuple(node for node in replicas if node.where.region == region)
    has_primary = primary is not None and primary.where.region == region
    return own if own or has_primary else replicas


def lightest(nodes: "Sequence[Node]") -> "Node | None":
    """The less busy of two taken at random: nearly as even as the least busy of all, and never a stampede.

    Source: Mitzenmacher, The Power of Two Choices in Randomized Load Balancing (2001).
    """
    if len(nodes) < 2:
        return nodes[0] if nodes else None
    first, second = nodes if len(nodes) == 2 else random.sample(nodes, 2)
    if first.pool.busy == second.pool.busy:
        return first if random.random() < 0.5 else second  # noqa: S311 - no secret
    return first if first.pool.busy < second.pool.busy else second
