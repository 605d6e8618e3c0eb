"""What the shop's visitors do, for `tenfold load`. Run it in this folder.

Most of them look around; some have an account and buy. After every write the visitor looks whether it is there.
"""

import uuid
from typing import Any

from tenfold.traffic import User, Write, journey

CHECKS = {
    # An account's e-mail address begins with its reference.
    "account": """select split_part(email, '@', 1)::uuid, count(*) from shop_user
                  where email = any(select one || '@visitor.test' from unnest($1::uuid[]) one) group by 1""",
    "order": "select reference, count(*) from shop_order where reference = any($1::uuid[]) group by 1",
}
"""By kind of write: how often each reference is in the database. `tenfold load --verify` asks."""

PASSWORD = "correct horse battery staple"  # noqa: S105 (of visitors who do not exist)

SHARE_THAT_SIGNS_UP = 0.5
"""Of the visitors without an account who have looked around and would buy. Hashing a password is slow on purpose, so
few sign up at once; the others look around again."""


@journey(weight=6)
async def browse(user: User) -> None:
    """The first page, a further one, and a product or two."""
    await user.get("/", name="catalogue page")
    products = await list_products(user)
    for product in user.random.sample(products, user.random.randint(1, 2)):
        await user.get(f"/products/{product['id']}", name="product page")
    user.memory["has_looked"] = True


@journey(weight=3)
async def buy(user: User) -> None:
    """Put one to three products into the cart and order them."""
    if not await has_account(user):
        await browse(user)
        return
    products = await list_products(user)
    before = await read_cart(user)
    items = [await add_to_cart(user, user.random.choice(products)) for _ in range(user.random.randint(1, 3))]
    cart = await read_cart(user)
    references = [one["reference"] for one in cart["items"]]
    if missing := set(items) - set(references):
        user.wrong(f"{len(missing)} of {len(items)} items are not in the cart that they were put into")
    if len(references) != len(before["items"]) + len(items):
        user.wrong(f"{len(references)} items in a cart of {len(before['items'])} after {len(items)} were put in")
    await order(user, cart["total_cents"])


@journey(weight=1)
async def look_back(user: User) -> None:
    """Read the order history, and one order."""
    if not await has_account(user):
        await browse(user)
        return
    orders = (await user.get("/api/orders", name="orders")).json()["orders"]
    await user.get("/orders", name="orders page")
    if orders:
        await user.get(f"/api/orders/{user.random.choice(orders)['id']}", name="one order")


@journey(weight=0.2)
async def come_back(user: User) -> None:
    """Log out, be a stranger, and log in again: to an empty cart, which went with the session."""
    if not await has_account(user):
        await browse(user)
        return
    # Both may be sent again when the connection dies: it is over however often it ends, and one of two logins is kept.
    await user.post("/api/logout", name="log out", headers={"Idempotency-Key": new_key(user)})
    await user.get("/api/cart", name="cart of a stranger", expect={401})
    credentials = {"email": user.memory["email"], "password": PASSWORD}
    await user.post("/api/login", name="log in", json=credentials, headers={"Idempotency-Key": new_key(user)})
    if (await read_cart(user))["items"]:
        user.wrong("something is in the cart of a new session")


@journey(weight=0.05)
async def leave(user: User) -> None:
    """Look at the cart's page, and never come back: the next visitor is somebody else."""
    await user.get("/cart" if "email" in user.memory else "/login", name="last page")
    user.forget()


async def has_account(user: User) -> bool:
    """Whether this visitor has an account; some make one now."""
    is_tempted = user.memory.get("has_looked", False) and user.random.random() < SHARE_THAT_SIGNS_UP
    if "email" not in user.memory and is_tempted:
        await sign_up(user)
    return "email" in user.memory


async def sign_up(user: User) -> None:
    account = Write("account")
    email = f"{account.reference}@visitor.test"
    body = {"email": email, "password": PASSWORD, "name": f"Visitor {user.number}"}
    await user.post("/api/signup", name="sign up", json=body, write=account)
    user.memory["email"] = email
    cart = await user.get("/api/cart", name="cart", expect={200, 401})  # 401: the copy that was read knows no account
    user.sees(account, {account.reference} if cart.status == 200 else ())


async def list_products(user: User) -> list[dict[str, Any]]:
    listed = (await user.get(f"/api/products?page={user.random.randint(1, 3)}", name="products")).json()
    if not listed["products"]:
        user.wrong("a catalogue page without products")
    return list(listed["products"])


async def read_cart(user: User) -> dict[str, Any]:
    return dict((await user.get("/api/cart", name="cart")).json())


async def add_to_cart(user: User, product: dict[str, Any]) -> str:
    """Put one product in; returns its reference in the cart."""
    reference = new_key(user)
    body = {"product_id": product["id"], "quantity": user.random.randint(1, 3), "reference": reference}
    # The same reference again is the same item: so it may be sent again when the connection dies.
    await user.post("/api/cart/items", name="add to cart", json=body, headers={"Idempotency-Key": reference})
    return reference


async def order(user: User, total_cents: int) -> None:
    """Order the cart, find the order in the history, and the cart empty."""
    placed = Write("order")
    body = {"reference": placed.reference}
    answer = (await user.post("/api/orders", name="order", json=body, write=placed)).json()
    if answer["total_cents"] != total_cents:
        user.wrong(f"an order of {answer['total_cents']} made from a cart of {total_cents}")
    history = (await user.get("/api/orders", name="orders")).json()["orders"]
    user.sees(placed, [one["reference"] for one in history])
    if left := (await read_cart(user))["items"]:
        user.wrong(f"{len(left)} items in the cart after ordering it")


def new_key(user: User) -> str:
    return str(uuid.UUID(int=user.random.getrandbits(128), version=4))
