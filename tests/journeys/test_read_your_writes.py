"""Through the front door, two web servers and replicas that stand still most of the time: a session sees its writes.

The same journey by a client that forgets its positions does find old copies, so the check can fail.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest

from support import project

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

SESSIONS = 8

STILL_SECONDS, MOVING_SECONDS = 0.15, 0.05


@pytest.mark.parametrize("pairs", [400, pytest.param(10_000, marks=pytest.mark.torture)])
async def test_a_session_sees_its_writes_and_a_client_without_positions_does_not(tmp_path: Path, pairs: int) -> None:
    async with project.shop(tmp_path) as shop:
        shop.edit(r"^\[database\]$", "[database]\nreplicas = 2\nsynchronous = true")
        shop.edit(r"^\[web\]\nservers = 1$", "[web]\nservers = 2\n\n[balancer]\nservers = 2")
        await shop.tenfold("up", "-d")
        async with _standing_still(shop):
            stale = await _stale_reads(shop, pairs, remembers=True)
            stale_without = await _stale_reads(shop, 200, remembers=False)
    print(f"{pairs} pairs: {stale} stale; of 200 without positions: {stale_without}")
    assert 0 == stale
    assert stale_without > 0


async def _stale_reads(shop: project.Project, pairs: int, *, remembers: bool) -> int:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_session(shop, pairs // SESSIONS, remembers)) for _ in range(SESSIONS)]
    return sum(task.result() for task in tasks)


async def _session(shop: project.Project, pairs: int, remembers: bool) -> int:
    """Put something into the cart, look into the cart, take it out; each on a connection of its own, so that the
    balancers and web servers change. How often the cart did not hold it."""
    limits = httpx.Limits(max_keepalive_connections=0)
    stale = 0
    async with httpx.AsyncClient(base_url=shop.url, limits=limits, timeout=15) as client:
        account = {"email": f"{uuid.uuid4()}@example.test", "password": "correct horse", "name": "Ada"}
        (await client.post("/api/signup", json=account)).raise_for_status()
        products = (await client.get("/api/products?page=1")).json()["products"]
        for number in range(pairs):
            product = products[number % len(products)]["id"]
            reference = str(uuid.uuid4())
            item = {"product_id": product, "quantity": 1, "reference": reference}
            (await client.post("/api/cart/items", json=item)).raise_for_status()
            if not remembers:
                _forget_positions(client)
            stale += reference not in await _cart(client)
            (await client.delete(f"/api/cart/items/{product}")).raise_for_status()
    return stale


async def _cart(client: httpx.AsyncClient) -> list[str]:
    """The references in the cart. An old copy may not even know of the login (401)."""
    answer = await client.get("/api/cart")
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        return []
    return [one["reference"] for one in answer.raise_for_status().json()["items"]]


def _forget_positions(client: httpx.AsyncClient) -> None:
    for cookie in list(client.cookies.jar):
        if "-pos-" in cookie.name:
            client.cookies.jar.clear(cookie.domain, cookie.path, cookie.name)


@asynccontextmanager
async def _standing_still(shop: project.Project) -> AsyncIterator[None]:
    """Replicas replay only now and then, each in its own rhythm."""
    nodes = [server for server in (await shop.status())["servers"] if server["database"]]
    addresses = [one["address"] for one in nodes if one["database"]["role"] == "standby"]
    assert 2 == len(addresses)
    tasks = [asyncio.create_task(_stop_and_go(shop, address)) for address in addresses]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _stop_and_go(shop: project.Project, address: str) -> None:
    password = json.loads((shop.folder / ".tenfold" / "secrets.json").read_text())["superuser"]
    connection = await asyncpg.connect(host=address, user="postgres", password=password, database="shop")
    try:
        while True:
            await connection.execute("select pg_wal_replay_pause()")
            await asyncio.sleep(STILL_SECONDS)
            await connection.execute("select pg_wal_replay_resume()")
            await asyncio.sleep(MOVING_SECONDS)
    finally:
        await connection.execute("select pg_wal_replay_resume()")
        await connection.close()
