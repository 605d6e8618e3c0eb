"""Copying every live session from one store to another, for a store that is about to stop.

Called by the runtime's step MoveSessions, in the runtime's process. Makes its own connections, and changes nothing in
the store that it copies from.
"""

from tenfold import bindings


async def move(bound: bindings.Bindings, source: str, target: str) -> int:
    """Copy all sessions that live in `source` (`cache` or `database`) to `target` (`database` or `cache`).

    Returns how many it has copied. May be called again at any time: a session that is newer in the target, or was ended
    there, stays as it is there. Call it after `bound.sessions` was published with `store = target` and
    `former = (source,)`, and has been taken in by every process: from then on visits move their own sessions, logouts
    end both copies, and nothing new is written to the source. (Publish `store = source, former = (target,)` before
    that, so that no process is ever without one of the two.)

    Raises `StoreUnavailable`, or what `tf.db` raises, when one of them does not answer; some may be copied then.
    """
    raise NotImplementedError
