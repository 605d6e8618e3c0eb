"""Carts. Called by `pages`, `api` and `orders`."""

from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

from shop import accounts, refusals
from shop.service import tf
from tenfold import Transaction


class Reader(Protocol):
    """`tf.db`, which may ask a replica, or a transaction, which sees its own writes."""

    async def fetch(self, query: str, *args: Any) -> Sequence[Any]: ...


async def contents(user_id: UUID, reader: Reader | None = None) -> dict[str, Any]:
    """The cart, oldest item first, and what it costs. One item for each time that something was put in.

    Read from a copy as fresh as this session needs, or inside the transaction that is handed in.
    """
    rows = await (reader or tf.db).fetch(
        """select c.product_id, p.name, p.picture, c.quantity, p.price_cents, c.reference
           from shop_cart_item c join shop_product p on p.id = c.product_id where c.user_id = $1 order by c.id""",
        user_id,
    )
    items = [
        {
            **row,
            "product_id": str(row["product_id"]),
            "reference": str(row["reference"]),
            "picture": f"/pictures/{row['picture']}.svg",
        }
        for row in rows
    ]
    return {"items": items, "total_cents": total(items)}


async def add(tx: Transaction, login: bytes, product_id: UUID, quantity: int, reference: UUID) -> dict[str, Any]:
    """Put something in; to be passed to `tf.db.run`. Raises `NotLoggedIn` and `NotFound`."""
    user_id = await accounts.owner(tx, login)
    added = await tx.fetchval(
        """insert into shop_cart_item (user_id, product_id, quantity, reference)
           select $1, id, $3, $4 from shop_product where id = $2 returning id""",
        user_id,
        product_id,
        quantity,
        reference,
    )
    if added is None:
        raise refusals.NotFound
    return await contents(user_id, tx)


async def remove(tx: Transaction, login: bytes, product_id: UUID) -> dict[str, Any]:
    """Take out all of a product; to be passed to `tf.db.run`. What is not in the cart is out already."""
    user_id = await accounts.owner(tx, login)
    await tx.execute("delete from shop_cart_item where user_id = $1 and product_id = $2", user_id, product_id)
    return await contents(user_id, tx)


def total(items: Sequence[dict[str, Any]]) -> int:
    """What these items cost."""
    return sum(item["quantity"] * item["price_cents"] for item in items)


def by_product(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items with those of one product put together, as a person counts them."""
    lines: dict[str, dict[str, Any]] = {}
    for item in items:
        line = lines.setdefault(item["product_id"], {**item, "quantity": 0})
        line["quantity"] += item["quantity"]
    return list(lines.values())
