"""What is for sale, and what others have bought lately. Called by `pages`, `api` and `cart`; only reads.

Pages and products are kept in the cache. An order makes the products in it stale (`orders`), so that whoever has
bought sees the stock that is left; on the pages the stock may be a few seconds old.
"""

import math
from typing import Any
from uuid import UUID

from shop import refusals
from shop.service import tf

PAGE_SIZE = 12


async def page(number: int) -> tuple[list[dict[str, Any]], int]:
    """The products on a page, counted from 1, and how many pages there are."""
    found = await _page(number)
    return found["products"], found["pages"]


async def product(product_id: UUID) -> dict[str, Any]:
    """One product, with its description. Raises `NotFound`."""
    found = await _product(str(product_id))
    if found is None:
        raise refusals.NotFound
    return found


def tag(product_id: UUID | str) -> str:
    """What everything in the cache and at the edges is tagged with that shows this product as it is now."""
    return f"product:{product_id}"


@tf.cache.cached("catalogue:{number}", ttl=5, stale=60, tags=["catalogue"])
async def _page(number: int) -> dict[str, Any]:
    rows = await tf.db.fetch(
        "select id, name, price_cents, picture, stock from shop_product order by id limit $1 offset $2",
        PAGE_SIZE,
        (number - 1) * PAGE_SIZE,
    )
    count = await tf.db.fetchval("select count(*) from shop_product")
    return {"products": [_shown(row) for row in rows], "pages": max(1, math.ceil(count / PAGE_SIZE))}


@tf.cache.cached("product:{product_id}", ttl=300, negative=10, tags=["product:{product_id}"])
async def _product(product_id: str) -> dict[str, Any] | None:
    row = await tf.db.fetchrow(
        """select p.*, coalesce(b.times, 0) as bought
           from shop_product p left join shop_bought b on b.product_id = p.id where p.id = $1""",
        UUID(product_id),
    )
    return None if row is None else _shown(row)


def _shown(row: Any) -> dict[str, Any]:
    return {**row, "id": str(row["id"]), "picture": f"/pictures/{row['picture']}.svg"}
