"""Edges before one server: they come, die, hang, get other settings and go, under load. No request fails."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from support import project
from tenfold import traffic
from tenfold.kit import clock, process

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]

PATH = """
[[cdn.path]]
path = "/api/products"
ttl = "60s"
"""


async def test_edges_come_die_hang_change_and_go_and_no_request_fails(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        await shop.tenfold("up", "-d")
        async with shop.load(rate=25) as load:
            await _begun(load)
            shop.edit(r"^edges  = 0.*", "edges = 2\n" + PATH)
            await shop.tenfold("apply", "--yes")
            assert ["edge-1", "edge-2"] == (await shop.status())["told"]["edges"]
            await _hits(shop, 20)

            await _edge_dies(shop, "edge-1")
            await shop.tenfold("server", "kill", "edge-1")
            await shop.tenfold("server", "kill", "edge-2")
            await asyncio.sleep(1)
            for edge in ("edge-1", "edge-2"):
                await shop.tenfold("server", "start", edge)
            await _whole(shop)
            await _edge_hangs(shop, "edge-2")

            before = await _pids(shop)
            shop.edit(r'^ttl = "60s"', 'ttl = "50s"')
            assert "replace, one at a time, varnish" in await shop.tenfold("apply", "--yes")
            assert before == await _pids(shop), "it is taken over while they run"
            shop.edit(r"^edges = 2", 'edges = 2\nmemory = "32MiB"')
            await shop.tenfold("apply", "--yes")
            assert not set(before.values()) & set((await _pids(shop)).values()), "memory is given at the start"
            await _whole(shop)

            figures = await _figures(shop)
            await shop.tenfold("shrink", "--to", "single", "--yes")
        await shop.ensure_nothing_lost(load.report)

        assert 32 * 1024**2 == figures["edges"][0]["holds"]["most_bytes"]
        assert ["/api/products", "/static/", ""] == [one["path"] for one in figures["edges"][1]["paths"]]
        assert "There are no edges" in await shop.tenfold("cdn")
        assert ["server-1"] == [one["name"] for one in (await shop.status())["servers"]]
        print(f"edges before one server: {load.report.total.to_dict()}, repeated {load.report.repeated}")


async def _begun(load: traffic.Load) -> None:
    async def look() -> bool:
        return load.report.requests > 60

    assert await clock.until(look, seconds=20)


async def _figures(shop: project.Project) -> dict[str, Any]:
    return json.loads(await shop.tenfold("cdn", "--json"))


async def _hits(shop: project.Project, count: int) -> None:
    async def look() -> bool:
        return int((await _figures(shop))["total"]["hits"]) >= count

    assert await clock.until(look, seconds=30, pause_seconds=0.3), await _figures(shop)


async def _whole(shop: project.Project) -> None:
    async def look() -> bool:
        status = await shop.status()
        states = [one["state"] for one in status["balancers"][0]["edges"]]
        return states == ["up", "up"] and not status["conditions"]

    assert await clock.until(look, seconds=60, pause_seconds=0.3), await shop.status()


async def _pids(shop: project.Project) -> dict[str, int]:
    return {name: pid for name, pid in shop.alive().items() if name.endswith("/varnish")}


async def _edge_dies(shop: project.Project, edge: str) -> None:
    before = (await _pids(shop))[f"{edge}/varnish"]
    for pid in (*process.children(before), before):
        os.kill(pid, signal.SIGKILL)
    await _until_replaced(shop, edge, before)


async def _edge_hangs(shop: project.Project, edge: str) -> None:
    before = (await _pids(shop))[f"{edge}/varnish"]
    (serving,) = process.children(before)
    os.kill(serving, signal.SIGSTOP)
    await _until_replaced(shop, edge, before)


async def _until_replaced(shop: project.Project, edge: str, before: int) -> None:
    async def look() -> bool:
        return (await _pids(shop)).get(f"{edge}/varnish", before) != before

    assert await clock.until(look, seconds=60, pause_seconds=0.2), f"{edge} is not started again"
    await _whole(shop)
