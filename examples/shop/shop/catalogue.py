"""What is for sale. Called by `pages` and `api`; only reads."""

import math
from typing import Any
from uuid import UUID

from shop import refusals
from shop.service import tf

PAGE_SIZE = 12


async def page(number: int) -> tuple[list[dict[str, Any]], int]:
    """The products on a page, counted from 1, and how many pages there are."""
    rows = await tf.db.fetch(
        "select id, name, price_cents, picture, stock from shop_product order by id limit $1 offset $2",
        PAGE_SIZE,
        (number - 1) * PAGE_SIZE,
    )
    count = await tf.db.fetchval("select count(*) from shop_product")
    return [_product(row) for row in rows], max(1, math.ceil(count / PAGE_SIZE))


async def product(product_id: UUID) -> dict[str, Any]:
    """One product, with its description. Raises `NotFound`."""
    row = await tf.db.fetchrow("select * from shop_product where id = $1", product_id)
    if row is None:
        raise refusals.NotFound
    return _product(row)


def _product(row: Any) -> dict[str, Any]:
    return {**row, "id": str(row["id"]), "picture": f"/pictures/{row['picture']}.svg"}
