"""How often a node is looked at: as often as there is traffic, and what the SDK asks by itself is none."""

from typing import Any

import pytest

from tenfold import bindings
from tenfold.sdk.db import classify, connect, nodes, pool, prober

pytestmark = pytest.mark.anyio


async def nobody(timeout: float) -> Any:
    raise AssertionError("nothing is connected here")


async def test_probes_follow_the_traffic_and_not_what_the_sdk_asks_by_itself() -> None:
    shard = nodes.Shard(0, epoch=1, poke=lambda: None)
    node = nodes.Node(bindings.DatabaseNode(name="database-1", host="127.0.0.1"), 0, pool.Pool(nobody, 4))
    one = prober.Prober(shard, node, connect.Connector(), classify.Classifier())

    def after(uses: int, now: float) -> float:
        shard.uses += uses
        return one._interval(now)

    assert prober.BUSY_SECONDS == after(0, now=100.0), "at the start"
    assert prober.IDLE_SECONDS == after(nodes.BACKGROUND_USES, now=102.0)
    assert prober.IDLE_SECONDS == after(nodes.BACKGROUND_USES, now=103.0)
    assert prober.BUSY_SECONDS == after(nodes.BACKGROUND_USES + 1, now=103.1)
    assert prober.BUSY_SECONDS == after(0, now=104.0)
    assert prober.IDLE_SECONDS == after(0, now=104.2)
