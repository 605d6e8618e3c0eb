"""An order of the example shop, and who sees it when: by the next request who has ordered, soon everybody.

Used by journeys with edges. The product is one that `examples/shop/load.py` never touches.
"""

import uuid

import httpx

from tenfold.kit import clock


async def is_seen(ann: httpx.AsyncClient, *strangers: httpx.AsyncClient) -> None:
    """Ann, who is new, orders something. Each of the strangers goes by an edge, at whichever front door."""
    account = {"email": f"{uuid.uuid4()}@example.test", "password": "correct horse", "name": "Ann"}
    assert 201 == (await ann.post("/api/signup", json=account)).status_code
    product = (await ann.get("/api/products", params={"page": 4})).json()["products"][0]["id"]
    page = f"/api/products/{product}"
    stock = (await strangers[0].get(page)).json()["stock"]
    for one in strangers:
        answers = [await one.get(page) for _ in range(4)]
        assert [stock] * 4 == [answer.json()["stock"] for answer in answers]
        assert is_kept(answers[-1]), answers[-1].headers
        assert not {"surrogate-key", "cdn-cache-control"} & set(answers[-1].headers)

    item = {"product_id": product, "quantity": 1, "reference": str(uuid.uuid4())}
    assert 200 == (await ann.post("/api/cart/items", json=item)).status_code
    ordered = await ann.post("/api/orders", json={"reference": str(uuid.uuid4())})
    assert 201 == ordered.status_code
    assert [one for one in ann.cookies if one.startswith("shop-edge-")], ordered.headers
    mine = await ann.get(page)
    assert (stock - 1, False) == (mine.json()["stock"], "cache-status" in mine.headers), "past the edges"

    async def is_over() -> bool:
        again = await ann.get(page)
        assert stock - 1 == again.json()["stock"]
        return is_kept(again)

    assert await clock.until(is_over, seconds=30, pause_seconds=0.2), list(ann.cookies)
    for one in strangers:

        async def is_there(one: httpx.AsyncClient = one) -> bool:
            return [stock - 1] * 4 == [(await one.get(page)).json()["stock"] for _ in range(4)]

        assert await clock.until(is_there, seconds=20, pause_seconds=0.2), one.base_url


def is_kept(answer: httpx.Response) -> bool:
    """Whether an edge has answered it from what it keeps."""
    return "; hit" in answer.headers.get("cache-status", "")
