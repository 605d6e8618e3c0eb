"""A `Tenfold` that is started again, perhaps with another database: as users' tests do, once a test."""

import pytest

from tenfold import bindings, position
from tenfold.sdk.db import connect, primary


@pytest.mark.anyio
async def test_positions_of_the_last_start_do_not_count_in_the_next() -> None:
    shards = primary.Shards(connect.Connector())
    nothing = bindings.Database(shards=(), name="shop", user="shop", password="")
    await shards.start(nothing)
    shards.wrote(position.Position(shard=0, epoch=1, timeline=1, lsn=1000))
    assert shards.outside.seen.get(0) is not None
    await shards.stop()
    await shards.start(nothing)
    assert shards.outside.seen.get(0) is None
    await shards.stop()
