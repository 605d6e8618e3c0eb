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


def tag(key: str) -> str:
    """What decides where in a cluster a key's entry and lease are: the key, or its digest when it has braces."""
    if "{" in key or "}" in key or not key:
        return hashlib.sha256(key.encode()).hexdigest()[:16]
    return key


def entry(key: str, its_tag: str) -> str:
    """The name of a key's entry, by the key and its tag."""
    return f"tf:c:{{{key}}}" if its_tag is key else f"tf:c:{{{its_tag}}}{key}"


def of(key: str) -> Names:
    """The names of a key's entry and lease."""
    its_tag = tag(key)
    name = entry(key, its_tag)
    return name, f"tf:l:{name[5:]}"


def stamp(at: position.Position | None) -> str:
    """A stamp whose order as text is that of `position.later`: epoch, timeline, address in the log."""
    return UNKNOWN if at is None else f"{at.epoch:08x}{at.timeline:08x}{at.lsn:016x}"
