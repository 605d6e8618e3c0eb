"""How the cache's keys are called in its servers: an entry and its lease, in one slot of the cluster.

Called by `shared` and `leases`. Pure.
"""

import hashlib

from tenfold import position
from tenfold.sdk.cache import entries

STAMP = 32
"""How long a stamp is."""

HEAD = STAMP + len(entries.MAGIC) + 4
"""How many bytes of what is stored tell one entry from every other: its stamp, and the head with its checksum."""

UNKNOWN = "0" * STAMP
"""The stamp of an entry that has none: older than every other."""

Names = tuple[str, str]
"""The name of an entry and that of its lease."""


def of(key: str) -> Names:
    """The names of a key's entry and lease. A key with braces gets a hash tag of its own, for both to share."""
    if "{" in key or "}" in key or not key:
        tag = hashlib.sha256(key.encode()).hexdigest()[:16]
        return f"tf:c:{{{tag}}}{key}", f"tf:l:{{{tag}}}{key}"
    return f"tf:c:{{{key}}}", f"tf:l:{{{key}}}"


def stamp(at: position.Position | None) -> str:
    """A stamp whose order as text is that of `position.later`: epoch, timeline, address in the log."""
    return UNKNOWN if at is None else f"{at.epoch:08x}{at.timeline:08x}{at.lsn:016x}"
