"""Why a read went where it went, in words: for the trace of a request.

Called by `reads`, only when the request is being traced. Pure.
"""

from dataclasses import dataclass

from tenfold import position
from tenfold.sdk.db import levels


@dataclass(frozen=True, slots=True)
class Read:
    """What was known when a node was chosen. `level` is what counted; `is_named`: the app asked for it."""

    level: levels.Level
    is_named: bool
    wanted: position.Position | None
    """What the session has seen; None: nothing that would bind it."""
    reflects: position.Position | None
    """How far the chosen node had come when it was last seen."""
    is_primary: bool
    pinned: str
    """The node that this request has read from before; empty: none."""
    chosen: str
    replicas: int
    """How many replicas were usable."""
    nodes: int
    waited_milliseconds: float | None
    """How long the read waited for a replica to catch up; None: not at all."""
    must_be_primary: bool = False
    """The read was tried on a replica, which had to cancel it."""


def why(read: Read) -> str:
    """One sentence: what was chosen, and why."""
    if read.must_be_primary:
        return "the primary: a replica had to cancel this read, replay had removed what it needs"
    if read.level.kind is levels.Kind.PRIMARY:
        return f"the primary: {'the app asked for it' if read.is_named else 'what a client without positions gets'}"
    if read.pinned == read.chosen:
        return f"pinned: this request has read from {read.chosen} before{_proof(read)}"
    return _why_primary(read) if read.is_primary else _why_replica(read)


def _why_replica(read: Read) -> str:
    waited = "" if read.waited_milliseconds is None else f", after {read.waited_milliseconds:.1f} ms for it to catch up"
    of_many = f" (the less busy of {read.replicas})" if read.replicas > 1 and not waited else ""
    return f"a replica{of_many}: {_enough(read)}{waited}"


def _enough(read: Read) -> str:
    """Why this copy is fresh enough."""
    if read.level.kind is levels.Kind.BOUNDED:
        return f"it misses nothing older than {read.level.seconds:g} s"
    if read.level.kind is levels.Kind.EVENTUAL:
        return "any copy will do, " + ("eventual was asked for" if read.is_named else "the client brought no position")
    if read.wanted is None:
        return "any copy will do, this session has written nothing"
    return f"it reflects {read.reflects}, the session needs {read.wanted}"


def _why_primary(read: Read) -> str:
    if read.nodes == 1:
        return "the primary: it is the only node"
    if not read.replicas:
        return "the primary: no replica is usable now"
    if read.pinned:
        older = f" or older than {read.wanted}" if read.wanted is not None else ""
        return f"the primary: {read.pinned}, which this request has read from before, is gone{older}"
    lacking = f"reflects {read.wanted}" if read.wanted is not None else f"is fresh enough for {read.level}"
    if read.waited_milliseconds is not None:
        return f"the primary: no replica {lacking}, waited {read.waited_milliseconds:.1f} ms for one"
    return f"the primary: no replica {lacking}, and waiting for one was in vain a moment ago"


def _proof(read: Read) -> str:
    if read.wanted is None or read.is_primary or read.level.kind is not levels.Kind.SESSION:
        return ""
    return f", it reflects {read.reflects}"
