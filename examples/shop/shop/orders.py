"""Orders. Called by `pages` and `api`."""

from collections import Counter
from typing import Any
from uuid import UUID

from shop import accounts, refusals
from shop.service import tf
from tenfold import Transaction

NEWEST = 100
"""How many orders the history goes back."""


async def place(tx: Transaction, login: bytes, reference: UUID) -> dict[str, Any]:
    """Order what is in the cart; to be passed to `tf.db.run`. Raises `NotLoggedIn`, `EmptyCart`, `OutOfStock`."""
    user_id = await accounts.owner(tx, login)
    quantities = await _take_cart(tx, user_id)
    products = await _take_stock(tx, quantities)
    items = [
        {
            "product_id": str(product["id"]),
            "name": product["name"],
            "quantity": quantities[product["id"]],
            "price_cents": product["price_cents"],
        }
        for product in products
    ]
    return await _write(tx, user_id, reference, items)


async def place_once(tx: Transaction, login: bytes, reference: UUID) -> dict[str, Any]:
    """`place`, unless this user has an order with this reference: then that one. For forms, which have no
    `Idempotency-Key`: the hidden field of a form that is sent twice is the same."""
    user_id = await accounts.owner(tx, login)
    await tx.execute(
        "select 1 from shop_user where id = $1 for no key update", user_id
    )  # the second waits for the first
    known = await tx.fetchval("select id from shop_order where user_id = $1 and reference = $2", user_id, reference)
    return {"id": str(known)} if known else await place(tx, login, reference)


async def history(user_id: UUID) -> list[dict[str, Any]]:
    """A user's orders, newest first."""
    rows = await tf.db.fetch(
        """select id, reference, total_cents, created_at from shop_order where user_id = $1
           order by id desc limit $2""",
        user_id,
        NEWEST,
    )
    return [_order(row) for row in rows]


async def find(user_id: UUID, order_id: UUID) -> dict[str, Any]:
    """One of a user's orders with its items. Raises `NotFound`, for somebody else's order too."""
    order = await tf.db.fetchrow(
        "select id, reference, total_cents, created_at from shop_order where id = $1 and user_id = $2",
        order_id,
        user_id,
    )
    if order is None:
        raise refusals.NotFound
    rows = await tf.db.fetch(
        """select i.product_id, i.name, i.quantity, i.price_cents, p.picture
           from shop_order_item i join shop_product p on p.id = i.product_id where i.order_id = $1
           order by i.product_id""",
        order_id,
    )
    items = [
        {**row, "product_id": str(row["product_id"]), "picture": f"/pictures/{row['picture']}.svg"} for row in rows
    ]
    return {**_order(order), "items": items}


async def _take_cart(tx: Transaction, user_id: UUID) -> Counter[UUID]:
    """Empty the cart. Of two orders at once the second waits here and finds nothing."""
    rows = await tx.fetch("delete from shop_cart_item where user_id = $1 returning product_id, quantity", user_id)
    if not rows:
        raise refusals.EmptyCart
    quantities: Counter[UUID] = Counter()
    for row in rows:
        quantities[row["product_id"]] += row["quantity"]
    return quantities


async def _take_stock(tx: Transaction, quantities: Counter[UUID]) -> list[Any]:
    """Take the quantities off the stock. Rows are locked in the order of their ids: two orders cannot deadlock."""
    products = await tx.fetch(
        "select id, name, price_cents, stock from shop_product where id = any($1) order by id for no key update",
        list(quantities),
    )
    for product in products:
        if product["stock"] < quantities[product["id"]]:
            raise refusals.OutOfStock(product["name"], product["stock"])
    await tx.execute(
        """update shop_product p set stock = p.stock - taken.quantity
           from unnest($1::uuid[], $2::int[]) as taken (id, quantity) where p.id = taken.id""",
        list(quantities.keys()),
        list(quantities.values()),
    )
    return list(products)


async def _write(tx: Transaction, user_id: UUID, reference: UUID, items: list[dict[str, Any]]) -> dict[str, Any]:
    order = await tx.fetchrow(
        """insert into shop_order (user_id, reference, total_cents) values ($1, $2, $3)
           returning id, reference, total_cents, created_at""",
        user_id,
        reference,
        sum(item["quantity"] * item["price_cents"] for item in items),
    )
    await tx.execute(
        """insert into shop_order_item (order_id, product_id, name, quantity, price_cents)
           select $1, * from unnest($2::uuid[], $3::text[], $4::int[], $5::int[])""",
        order["id"],
        [item["product_id"] for item in items],
        [item["name"] for item in items],
        [item["quantity"] for item in items],
        [item["price_cents"] for item in items],
    )
    return {**_order(order), "items": items}


def _order(row: Any) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "reference": str(row["reference"]),
        "total_cents": row["total_cents"],
        "created_at": row["created_at"].isoformat(),
    }
