"""One region becomes two and one again, live: what runs stays as it is, and both front doors serve."""

import json
import re
from pathlib import Path

import httpx
import pytest

from support import ordering, project
from tenfold import bindings, traffic
from tenfold.engines.granian import admin as granian
from tenfold.topology import layout
from tenfold.traffic import journeys

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

TWO = """
[regions.seoul]
primary = true

[regions.virginia]
listen = "FAR"

[wan]
"seoul-virginia" = { delay_ms = 20 }
"""

VISIT = """
    import os

    @made.get("/visit")
    async def visit() -> str:
        async with tf.db.transaction() as tx:
            for _ in range(10):
                await tx.execute("select pg_current_xact_id()")
        return os.environ["TENFOLD_SERVER"]

    return made
"""
"""A page that writes, in the shop's web.py: how many statements it takes, and on which server."""


async def test_a_second_region_comes_serves_and_goes_and_the_first_notices_nothing(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        door = f"127.0.0.1:{project.free_port()}"
        file = shop.folder / "tenfold.toml"
        shop.edit(r"^    return made$", VISIT, file="shop/web.py")
        shop.edit(r"^edges  = 0.*", "edges = 1")
        alone = file.read_text()
        await shop.tenfold("up", "-d")
        before = lasting(shop)
        async with shop.load(rate=40) as near:
            file.write_text(alone + TWO.replace("FAR", door))
            await shop.tenfold("apply", "--yes")
            assert before.items() <= lasting(shop).items(), "what runs stays as it is"
            far = await load_at(shop, door)
            assert far.writes_acknowledged <= await sent_home(shop), "what writes is worked on where the data is"
            await an_order_there_is_seen_everywhere(shop, door)
            await a_page_that_writes_is_one_request_to_home(shop, door)
            await survives_a_cut(shop)
            file.write_text(alone)
            await shop.tenfold("apply", "--yes")
        assert before == lasting(shop)
        await shop.ensure_nothing_lost(near.report)
        assert not far.failures, far.failures
        assert far.writes_acknowledged > 0
        await shop.tenfold("load", "--verify", str(shop.folder / "far.ledger"))


def lasting(shop: project.Project) -> dict[str, int]:
    """What runs, but for web servers: they are replaced, drained, to know the addresses of all regions' databases."""
    return {name: pid for name, pid in shop.alive().items() if not name.endswith("/granian")}


async def load_at(shop: project.Project, door: str) -> traffic.Report:
    """The shop's journeys at the far front door, for a while; the ledger is `far.ledger`."""
    plan = journeys.load("load.py", shop.folder)
    ledger = shop.folder / "far.ledger"
    async with traffic.Load(f"http://{door}", plan, rate=60, seconds=6, ledger_path=ledger, service="shop") as load:
        await load.wait()
    return load.report


async def sent_home(shop: project.Project) -> int:
    """How many requests other regions have sent to the home region."""
    servers = (await shop.status())["servers"]
    address = next(one["address"] for one in servers if one["name"] == "server-1")
    _, text = await granian.get(address, layout.PORTS["haproxy"], "/metrics?scope=frontend")
    found = re.findall(r'^haproxy_frontend_http_requests_total\{proxy="from-regions"\} (\d+)', text, re.MULTILINE)
    return sum(int(one) for one in found)


async def an_order_there_is_seen_everywhere(shop: project.Project, door: str) -> None:
    """It is worked on at home, which tells the edges of both regions; who has ordered goes past those there."""
    far = f"http://{door}"
    async with (
        httpx.AsyncClient(base_url=far, timeout=30) as ann,
        httpx.AsyncClient(base_url=far, timeout=30) as eve,
        httpx.AsyncClient(base_url=shop.url, timeout=30) as bob,
    ):
        await ordering.is_seen(ann, eve, bob)


async def a_page_that_writes_is_one_request_to_home(shop: project.Project, door: str) -> None:
    """However many statements it needs: the far web server sends it, once, and home's works on it."""
    before = await pages_sent_home(shop)
    host, _, port = door.partition(":")
    status, text = await granian.get(host, int(port), "/visit")
    assert (200, '"server-1"') == (status, text)
    assert 1 == await pages_sent_home(shop) - before


async def pages_sent_home(shop: project.Project) -> int:
    """How many requests the far web server has found to write, and sent home."""
    servers = (await shop.status())["servers"]
    address = next(one["address"] for one in servers if one["name"] == "virginia-server-1")
    secret = bindings.load(shop.folder / ".tenfold" / "bindings.json").service.secret
    key = {"Tenfold-Key": bindings.private_key(secret)}
    _, text = await granian.get(address, layout.PORTS["granian"], "/-/load", key)
    return int(json.loads(text)["counts"].get("regions.sent_home", 0))


async def survives_a_cut(shop: project.Project) -> None:
    """What is cut says so, and is whole again after it was healed."""
    await shop.tenfold("wan", "cut", "seoul", "virginia")
    assert [True] == [link["is_cut"] for link in (await shop.status())["wan"]]
    await shop.tenfold("wan", "heal")
    assert [False] == [link["is_cut"] for link in (await shop.status())["wan"]]
