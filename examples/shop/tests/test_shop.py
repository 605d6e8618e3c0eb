"""What the shop promises its customers, also on the days when the database has trouble."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tenfold import Tenfold
from tenfold.testing import Cdn, Simulate

pytestmark = pytest.mark.anyio


async def order(customer: httpx.AsyncClient, reference: str = "") -> dict[str, Any]:
    """Order what is in the cart."""
    answer = await customer.post("/api/orders", json={"reference": reference or str(uuid.uuid4())})
    assert answer.status_code == 201, answer.text
    placed: dict[str, Any] = answer.json()
    return placed


async def test_signing_up_logs_in(client: httpx.AsyncClient, new_client: Callable[[], httpx.AsyncClient]) -> None:
    account = {"email": "Ada@Example.test", "password": "correct horse", "name": "Ada"}
    made = await client.post("/api/signup", json=account)
    assert (made.status_code, made.json()["email"]) == (201, "ada@example.test")
    assert (await client.get("/api/cart")).status_code == 200
    assert (await new_client().get("/api/cart")).status_code == 401


async def test_an_order_takes_the_cart(customer: httpx.AsyncClient) -> None:
    placed = await order(customer)
    assert placed["total_cents"] == 2 * 1400
    assert (await customer.get("/api/cart")).json()["items"] == []
    assert [one["id"] for one in (await customer.get("/api/orders")).json()["orders"]] == [placed["id"]]


async def test_an_order_lets_edges_forget_what_was_ordered(customer: httpx.AsyncClient, cdn: Cdn) -> None:
    ordered = (await customer.get("/api/cart")).json()["items"][0]["product_id"]
    page = await customer.get(f"/api/products/{ordered}")
    assert page.headers["surrogate-key"] == f"product:{ordered}"
    await order(customer)
    assert cdn.purged_tags == {f"product:{ordered}"}


async def test_a_page_names_files_that_may_be_kept_for_ever(client: httpx.AsyncClient, tf: Tenfold) -> None:
    style = tf.cdn.url("shop.css")
    assert style in (await client.get("/")).text
    assert "immutable" in (await client.get(style)).headers["cache-control"]
    assert "cdn-cache-control" not in (await client.get("/")).headers, "it shows who is logged in"


@pytest.mark.parametrize("committed", [True, False])
async def test_an_order_is_placed_exactly_once_though_the_answer_is_lost(
    customer: httpx.AsyncClient, tf: Tenfold, simulate: Simulate, committed: bool
) -> None:
    reference = uuid.uuid4()
    await simulate.lost_commit(committed=committed)
    await order(customer, str(reference))
    assert await tf.db.fetchval("select count(*) from shop_order where reference = $1", reference) == 1
    assert await tf.db.fetchval("select stock from shop_product order by id limit 1") == 1_000_000 - 2


async def test_a_customer_sees_the_order_though_the_replica_has_not_heard_of_it(
    customer: httpx.AsyncClient, tf: Tenfold, simulate: Simulate
) -> None:
    await simulate.replica_lag()
    placed = await order(customer)
    assert (await customer.get(f"/api/orders/{placed['id']}")).status_code == 200
    with tf.db.session():  # a reader who wrote nothing
        assert await tf.db.reading("eventual").fetchval("select count(*) from shop_order") == 0


async def test_orders_go_on_through_a_failover(customer: httpx.AsyncClient, tf: Tenfold, simulate: Simulate) -> None:
    product = (await customer.get("/api/products")).json()["products"][0]["id"]

    async def shop() -> None:
        for _ in range(10):
            await order(customer)
            item = {"product_id": product, "quantity": 1, "reference": str(uuid.uuid4())}
            assert (await customer.post("/api/cart/items", json=item)).status_code == 200

    await asyncio.gather(shop(), simulate.failover())
    assert await tf.db.reading("primary").fetchval("select count(*) from shop_order") == 10
