"""Orders. Called by `pages` and `api`."""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from shop import bought, cart, catalogue, events, refusals
from shop.service import tf
from tenfold import Session, Transaction

NEWEST = 100
"""How many orders the history goes back."""


class Ordered:
    """What this request has ordered itself: nothing, when its answer is that of the request that it repeats."""

    items: Sequence[dict[str, Any]] = ()


async def place(session: Session, user_id: UUID, reference: UUID, *, is_form: bool = False) -> dict[str, Any]:
    """Order what is in the cart, and empty it. Raises `EmptyCart`, `OutOfStock`.

    A form that is sent twice (`is_form`) gets the order that it made: forms have no `Idempotency-Key`, but the same
    hidden reference.
    """
    items, ordered = cart.take(session), Ordered()
    placed = dict(await tf.db.run(_place_once if is_form else _place, user_id, items, reference, ordered))
    cart.forget(session, [cart.field(one) for one in placed.pop("taken")])
    await bought.count(ordered.items)
    return placed


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


async def _place_once(
    tx: Transaction, user_id: UUID, items: list[dict[str, Any]], reference: UUID, ordered: Ordered
) -> dict[str, Any]:
    await tx.execute("select 1 from shop_user where id = $1 for no key update", user_id)  # the second waits here
    known = await tx.fetchval("select id from shop_order where user_id = $1 and reference = $2", user_id, reference)
    if known:  # what was put into the cart since stays in it
        rows = await tx.fetch(
            "select reference from shop_ordered where reference = any($1::uuid[])",
            [UUID(item["reference"]) for item in items],
        )
        return {"id": str(known), "taken": [str(row["reference"]) for row in rows]}
    return await _place(tx, user_id, items, reference, ordered)


async def _place(
    tx: Transaction, user_id: UUID, items: list[dict[str, Any]], reference: UUID, ordered: Ordered
) -> dict[str, Any]:
    order_id = await tx.fetchval("select uuidv7()")
    quantities = await _take_items(tx, order_id, items)
    products = await _take_stock(tx, quantities)
    ordered.items = [
        {
            "product_id": str(product["id"]),
            "name": product["name"],
            "quantity": quantities[product["id"]],
            "price_cents": product["price_cents"],
        }
        for product in products
    ]
    placed = await _write(tx, order_id, user_id, reference, ordered.items)
    changed = [catalogue.tag(one["product_id"]) for one in ordered.items]
    await tx.invalidate(tags=changed)
    await tx.purge(tags=changed)
    event = events.Ordered(str(order_id), str(user_id), placed["total_cents"])
    await tx.publish(events.ORDERED, event, key=str(user_id))
    return {**placed, "taken": [one["reference"] for one in items]}


async def _take_items(tx: Transaction, order_id: UUID, items: list[dict[str, Any]]) -> Counter[UUID]:
    """Each item of a cart is ordered once: of two orders at once the second waits here and finds nothing left.

    The cart is in the session, which is not part of this transaction: only this says for sure what was ordered.
    """
    rows = await tx.fetch(
        """insert into shop_ordered (reference, order_id) select one, $2 from unnest($1::uuid[]) one order by one
           on conflict (reference) do nothing returning reference""",
        [UUID(item["reference"]) for item in items],
        order_id,
    )
    taken = {str(row["reference"]) for row in rows}
    if not taken:
        raise refusals.EmptyCart
    quantities: Counter[UUID] = Counter()
    for item in items:
        if item["reference"] in taken:
            quantities[UUID(item["product_id"])] += item["quantity"]
    return quantities


async def _take_stock(tx: Transaction, quantities: Counter[UUID]) -> list[Any]:
    """Take the quantities off the stock. Rows are locked in the order of their ids: two orders cannot deadlock."""
    products = await tx.fetch(
        "select id, name, price_cents, stock from shop_product where id = any($1) order by id for no key update",
        list(quantities),
    )
    if not products:  # whatever was in the cart is no longer for sale
        raise refusals.EmptyCart
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


async def _write(
    tx: Transaction, order_id: UUID, user_id: UUID, reference: UUID, items: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    order = await tx.fetchrow(
        """insert into shop_order (id, user_id, reference, total_cents) values ($1, $2, $3, $4)
           returning id, reference, total_cents, created_at""",
        order_id,
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
