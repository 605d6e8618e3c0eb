"""Carts: a part of the visitor's session, one field for each time that something was put in.

Called by `pages`, `api` and `orders`. Fields of their own let two requests of one visitor put something in at the same
moment, and both stay.
"""

import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from shop import catalogue, refusals
from tenfold import Session

FIELD = "cart."

MOST = 18
"""So many items fit into every store of sessions; the smallest is a cookie of 4 KB."""


async def contents(session: Session) -> dict[str, Any]:
    """The cart, oldest item first, and what it costs at today's prices; without what is no longer for sale."""
    kept = [(name.removeprefix(FIELD), session[name]) for name in session if name.startswith(FIELD)]
    kept.sort(key=lambda one: (one[1]["at"], one[0]))
    items = [item for one in kept if (item := await _item(*one))]
    return {"items": items, "total_cents": total(items)}


async def add(session: Session, product_id: UUID, quantity: int, reference: UUID) -> dict[str, Any]:
    """Put something in. Raises `NotFound`, `FullCart`. The same reference again is the same item."""
    await catalogue.product(product_id)
    name = field(str(reference))
    if name not in session and sum(one.startswith(FIELD) for one in session) >= MOST:
        raise refusals.FullCart
    session[name] = {
        "product_id": str(product_id),
        "quantity": quantity,
        "at": time.time_ns() // 1_000_000,
    }
    return await contents(session)


async def remove(session: Session, product_id: UUID) -> dict[str, Any]:
    """Take out all of a product. What is not in the cart is out already."""
    forget(session, [name for name in session if _product_of(session, name) == str(product_id)])
    return await contents(session)


def take(session: Session) -> list[dict[str, Any]]:
    """What is in the cart, for an order; it stays in until `forget`."""
    names = [name for name in session if name.startswith(FIELD)]
    return [{"reference": name.removeprefix(FIELD), **session[name]} for name in names]


def forget(session: Session, names: Sequence[str]) -> None:
    """Take these fields out."""
    for name in names:
        session.pop(name, None)


def field(reference: str) -> str:
    """The session's field of an item."""
    return f"{FIELD}{reference}"


def count(session: Session) -> int:
    """How many things are in the cart."""
    return sum(session[name]["quantity"] for name in session if name.startswith(FIELD))


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


async def _item(reference: str, kept: dict[str, Any]) -> dict[str, Any] | None:
    try:
        product = await catalogue.product(kept["product_id"])
    except refusals.NotFound:
        return None
    return {
        "product_id": kept["product_id"],
        "name": product["name"],
        "picture": product["picture"],
        "quantity": kept["quantity"],
        "price_cents": product["price_cents"],
        "reference": reference,
    }


def _product_of(session: Session, name: str) -> str | None:
    return session[name]["product_id"] if name.startswith(FIELD) else None
