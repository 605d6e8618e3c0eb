"""Waiting until every copy that answers reads has a write: for what must count for everybody at once, such as a logout.

Called by `sdk/sessions` and `sdk/tokens`. Other writes do not wait: whoever wrote brings the position along.
"""

import asyncio

from tenfold import position
from tenfold.sdk.db import primary

MOST_SECONDS = 1.0
"""A copy that is further behind than this is not waited for; catching up takes milliseconds as a rule."""


async def until_seen(shards: primary.Shards, at: position.Position, seconds: float = MOST_SECONDS) -> bool:
    """True when every replica that this process reads from holds everything up to `at`; False when time ran out."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    shard = shards.shard(at.shard)
    while any(not shard.proves(node, at) for node in shard.readable):
        shard.poke()
        if not await shard.freshness.wait(until):
            return False
    return True
