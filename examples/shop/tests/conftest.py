"""What the shop's tests share. `client`, `new_client`, `tf` and `simulate` are tenfold's, loaded by pytest itself."""

import uuid

import httpx
import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The loop that async tests run on."""
    return "asyncio"


@pytest.fixture
async def customer(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Somebody who has just signed up, with one thing in the cart."""
    account = {"email": "ada@example.test", "password": "correct horse", "name": "Ada"}
    assert (await client.post("/api/signup", json=account)).status_code == 201
    product = (await client.get("/api/products")).json()["products"][0]
    item = {"product_id": product["id"], "quantity": 2, "reference": str(uuid.uuid4())}
    assert (await client.post("/api/cart/items", json=item)).status_code == 200
    return client
