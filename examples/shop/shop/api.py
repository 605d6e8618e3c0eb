"""The JSON API, under /api. Sign-up and orders honour an `Idempotency-Key`, because they go through `tf.db.run`.

Products are the same for everybody, so edges may keep them; the pages show who is logged in, so nobody may.
"""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from shop import accounts, cart, catalogue, forms, logins, orders
from shop.service import tf

router = APIRouter(prefix="/api")


class SignUp(BaseModel):
    email: forms.Email
    password: forms.NewPassword
    name: forms.Name


class LogIn(BaseModel):
    email: forms.Email
    password: forms.Password


class NewItem(BaseModel):
    product_id: UUID
    quantity: forms.Quantity
    reference: UUID
    """Chosen by the client, to find the item again."""


class NewOrder(BaseModel):
    reference: UUID
    """Chosen by the client, to find the order again."""


@router.post("/signup", status_code=201)
async def sign_up(body: SignUp, session: logins.Visit) -> dict[str, Any]:
    account = await accounts.sign_up(body.email, body.password, body.name)
    logins.log_in(session, account)
    return {"id": str(account.id), "email": account.email}


@router.post("/login")
async def log_in(body: LogIn, session: logins.Visit) -> dict[str, Any]:
    account = await accounts.check(body.email, body.password)
    logins.log_in(session, account)
    return {"id": str(account.id), "email": account.email}


@router.post("/logout", status_code=204)
async def log_out(session: logins.Visit) -> None:
    session.end()


@router.get("/products")
async def list_products(response: Response, page: Annotated[int, Query(ge=1, le=1_000_000)] = 1) -> dict[str, Any]:
    products, pages = await catalogue.page(page)
    tf.cdn.public(response, max_age=5, stale=60, tags=["catalogue"])
    return {"products": products, "pages": pages}


@router.get("/products/{product_id}")
async def show_product(response: Response, product_id: UUID) -> dict[str, Any]:
    found = await catalogue.product(product_id)
    tf.cdn.public(response, max_age=300, tags=[catalogue.tag(product_id)])
    return found


@router.get("/cart")
async def show_cart(session: logins.Visit, user: logins.User) -> dict[str, Any]:
    return await cart.contents(session)


@router.post("/cart/items")
async def add_to_cart(body: NewItem, session: logins.Visit, user: logins.User) -> dict[str, Any]:
    return await cart.add(session, body.product_id, body.quantity, body.reference)


@router.delete("/cart/items/{product_id}")
async def remove_from_cart(product_id: UUID, session: logins.Visit, user: logins.User) -> dict[str, Any]:
    return await cart.remove(session, product_id)


@router.post("/orders", status_code=201)
async def place_order(body: NewOrder, session: logins.Visit, user: logins.User) -> dict[str, Any]:
    return await orders.place(session, user.id, body.reference)


@router.get("/orders")
async def list_orders(user: logins.User) -> dict[str, Any]:
    return {"orders": await orders.history(user.id)}


@router.get("/orders/{order_id}")
async def show_order(order_id: UUID, user: logins.User) -> dict[str, Any]:
    return await orders.find(user.id, order_id)
