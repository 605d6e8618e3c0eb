"""What other regions' servers keep of the home's messages: what a copy must be, and how much room each has. Pure.

Called by `keeping` and `transport`. A copy is a mirror of NATS: it is given every message, and is told of no deletion,
so it has limits: age and size, the oldest goes first.
"""

from typing import Any

from tenfold import bindings
from tenfold.sdk.queue.nats import naming, succession

ALONE_SHARE = 0.9
"""Of what a server may keep, what the stream may take: the rest is for consumers' records and for compacting."""

STREAM_SHARE, COPY_SHARE = 0.5, 0.4
"""The same where servers keep a copy of another region's stream, too: before a home moves there, and after."""

MOST_AGE_SECONDS = 20 * 3600
"""Of a message in a copy. Less than the inbox remembers: what is handled again after that would be done twice."""

FULL_SHARE = 0.5
"""How full the stream may be with what only waits for copies; then regions that are away have to do without."""

OF = "tenfold-of"
"""In a copy's metadata: when the stream was made that it is of."""

_MIRROR = "_nats.mirror.stream"
"""In the metadata of the consumer through which a mirror is given its messages."""


def home(bound: bindings.Queue) -> str:
    """The name of the home region; empty where there is one region."""
    return bound.nodes[0].region if bound.nodes else ""


def is_at_home(bound: bindings.Queue) -> bool:
    """Whether this process is in the home region, and there are others with queue servers."""
    return bool(bound.mirrors) and bool(bound.nodes) and all(one.name != home(bound) for one in bound.mirrors)


def answers_as(bound: bindings.Queue) -> bytes:
    """How the home's JetStream names itself when it acknowledges a message; empty: it does not."""
    domain = next((one.domain for one in bound.mirrors if one.name == home(bound)), bound.domain)
    return b'"domain":"%b"' % domain.encode() if domain else b""


def most_bytes(bound: bindings.Queue) -> int:
    """What the stream may take on each of its servers."""
    return int(bound.storage_bytes * (STREAM_SHARE if bound.mirrors else ALONE_SHARE))


def settings(bound: bindings.Queue, names: naming.Names, region: str, source: str, servers: int) -> dict[str, Any]:
    """A copy on so many servers of a region's stream, which was made at `source`; `bound` says its domain."""
    domain = next((one.domain for one in bound.mirrors if one.name == region), bound.domain)
    return {
        "name": names.copy(region),
        "retention": "limits",
        "discard": "old",
        "storage": "file",
        "num_replicas": min(3, servers) if servers != 2 else 1,
        "max_bytes": int(bound.storage_bytes * COPY_SHARE),
        "max_age": MOST_AGE_SECONDS * succession.SECOND,
        "mirror": {"name": names.stream, "external": {"api": f"$JS.{domain}.API"}},
        "metadata": {OF: source},
    }


def source_of(copy: succession.Info) -> str:
    """When the stream was made that this is a copy of."""
    return str(copy["config"].get("metadata", {}).get(OF, ""))


def holding_up(stream: succession.Info, listeners: list[succession.Info], settled: int) -> list[str]:
    """The consumers of copies for whose sake alone the stream is about to fill up."""
    most = int(stream["config"]["max_bytes"])
    if most <= 0 or int(stream["state"]["bytes"]) < most * FULL_SHARE:
        return []
    copying = [one for one in listeners if _MIRROR in one["config"].get("metadata", {})]
    return [one["name"] for one in copying if int(one["ack_floor"]["stream_seq"]) < settled]
