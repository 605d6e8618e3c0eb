"""What a customer and a developer see of edges: own orders at once, files of either release, purges by hand."""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from support import ordering, project

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]


async def test_orders_deploys_and_purges_behind_edges(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        shop.edit(r"^edges  = 0.*", "edges = 2")
        await shop.tenfold("up", "-d")
        async with httpx.AsyncClient(base_url=shop.url) as ann, httpx.AsyncClient(base_url=shop.url) as bob:
            await ordering.is_seen(ann, bob)
            await _files_outlive_their_release(shop, bob)
            product = (await bob.get("/api/products")).json()["products"][0]["id"]
            said = await shop.tenfold("cdn", "purge", "--tag", f"product:{product}", "--url", "/pictures/mug-sea.svg")
            assert ["edge-1 has forgotten", "edge-2 has forgotten"] == re.findall(r"edge-\d has forgotten", said)
            from_outside = await bob.request("PURGE", "/", headers={"Tenfold-Everything": "1", "Tenfold-Key": "a"})
            assert 405 == from_outside.status_code
            assert 404 == (await bob.get("/-/edge")).status_code


async def _files_outlive_their_release(shop: project.Project, bob: httpx.AsyncClient) -> None:
    """A page of the old release asks for its own style, also when the new one serves, and the other way round."""
    old = await _style(bob)
    assert b"/* new */" not in old["content"]
    style = shop.folder / "shop" / "static" / "shop.css"
    style.write_bytes(style.read_bytes() + b"/* new */\n")
    await shop.tenfold("deploy")
    new = await _style(bob)
    assert new["path"] != old["path"]
    assert b"/* new */" in new["content"]
    await shop.tenfold("cdn", "purge", "--all")
    for one in (old, new):
        again = await asyncio.gather(*(bob.get(one["path"]) for _ in range(4)))
        assert {(200, one["content"])} == {(answer.status_code, answer.content) for answer in again}
    unknown = await bob.get("/static/shop.0123456789ab.css")
    assert (404, "no-store") == (unknown.status_code, unknown.headers["cache-control"])


async def _style(client: httpx.AsyncClient) -> dict[str, Any]:
    found = re.search(r'href="(/static/shop\.[0-9a-f]{12}\.css)"', (await client.get("/")).text)
    assert found is not None
    answer = await client.get(found[1])
    assert 200 == answer.status_code
    assert "immutable" in answer.headers["cache-control"]
    return {"path": found[1], "content": answer.content}
