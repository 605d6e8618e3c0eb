"""How far replicas are behind their primary, in bytes and in time. Pure.

Called by `runtime/observe`. A replica's own clock cannot tell: on an idle primary the age of the last transaction
replayed grows, though nothing is missing. So time is measured by the primary's own positions: a replica is behind by
as long as the primary has been past what the replica holds.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tenfold.observation import snapshot as snapshots

KEPT_SECONDS = 300.0
"""How long the primary's positions are remembered; a replica further behind than that is at least so late."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where the primary was at a moment (any clock that only goes forward)."""

    at: float
    timeline: int
    lsn: int


def marked(marks: Sequence[Mark], primary: snapshots.DatabaseNode | None, now: float) -> tuple[Mark, ...]:
    """The marks with the primary's present position. Those of another timeline are of no use any more."""
    if primary is None:
        return tuple(marks)
    kept = [one for one in marks if one.timeline == primary.timeline and now - one.at <= KEPT_SECONDS]
    if not kept or kept[-1].lsn < primary.lsn:
        kept.append(Mark(now, primary.timeline, primary.lsn))
    return tuple(kept)


def measured(
    nodes: Iterable[snapshots.DatabaseNode],
    primary: snapshots.DatabaseNode | None,
    told_seconds: Mapping[str, float | None],
    marks: Sequence[Mark],
    now: float,
) -> tuple[snapshots.DatabaseNode, ...]:
    """The nodes, each standby with its lag. `told_seconds`: what PostgreSQL itself measured last, by standby."""
    return tuple(
        one if primary is None or one.role != "standby" else _behind(one, primary, told_seconds, marks, now)
        for one in nodes
    )


def _behind(
    node: snapshots.DatabaseNode,
    primary: snapshots.DatabaseNode,
    told_seconds: Mapping[str, float | None],
    marks: Sequence[Mark],
    now: float,
) -> snapshots.DatabaseNode:
    if not node.is_reachable or node.timeline != primary.timeline:
        return node  # positions of two timelines cannot be compared, and a copy that is silent says nothing
    missing = max(0, primary.lsn - node.lsn)  # they were not asked in the very same moment
    if missing == 0:
        return dataclasses.replace(node, lag_bytes=0, lag_milliseconds=0.0)
    passed_at = next((mark.at for mark in marks if mark.lsn > node.lsn), now)
    seconds = max(told_seconds.get(node.server) or 0.0, now - passed_at)
    return dataclasses.replace(node, lag_bytes=missing, lag_milliseconds=round(seconds * 1000, 1))
