"""The pages. Plain HTML forms: everything works without JavaScript, and every form ends in a redirect."""

import uuid
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.templating import Jinja2Templates

from shop import accounts, cart, catalogue, forms, logins, orders, pictures, refusals
from shop.service import tf
from tenfold import Session

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
templates = Jinja2Templates(Path(__file__).parent / "templates")
templates.env.filters["money"] = lambda cents: f"€{cents / 100:,.2f}"
templates.env.globals["static"] = tf.cdn.url
templates.env.filters["day"] = lambda moment: moment[:10]


@router.get("/")
async def show_catalogue(
    request: Request, visitor: logins.Visitor, page: Annotated[int, Query(ge=1, le=1_000_000)] = 1
) -> Response:
    products, pages = await catalogue.page(page)
    if not products:
        raise refusals.NotFound
    return render(request, "catalogue.html", visitor, products=products, page=page, pages=pages)


@router.get("/products/{product_id}")
async def show_product(request: Request, visitor: logins.Visitor, product_id: uuid.UUID) -> Response:
    return render(request, "product.html", visitor, product=await catalogue.product(product_id))


@router.get("/pictures/{name}.svg")
async def show_picture(name: str) -> Response:
    drawn = Response(pictures.draw(name), media_type="image/svg+xml")
    return tf.cdn.public(drawn, max_age=86400, tags=["pictures"])


@router.get("/cart")
async def show_cart(request: Request, session: logins.Visit, user: logins.User) -> Response:
    contents = await cart.contents(session)
    lines = cart.by_product(contents["items"])
    return render(request, "cart.html", user, lines=lines, total_cents=contents["total_cents"], reference=uuid.uuid4())


@router.post("/cart/items")
async def add_to_cart(
    session: logins.Visit,
    user: logins.User,
    product_id: Annotated[uuid.UUID, Form()],
    quantity: Annotated[forms.Quantity, Form()],
) -> Response:
    await cart.add(session, product_id, quantity, uuid.uuid4())
    return go("/cart")


@router.post("/cart/items/{product_id}/remove")
async def remove_from_cart(session: logins.Visit, user: logins.User, product_id: uuid.UUID) -> Response:
    await cart.remove(session, product_id)
    return go("/cart")


@router.post("/orders")
async def place_order(session: logins.Visit, user: logins.User, reference: Annotated[uuid.UUID, Form()]) -> Response:
    order = await orders.place(session, user.id, reference, is_form=True)
    return go(f"/orders/{order['id']}?new=1")


@router.get("/orders")
async def show_orders(request: Request, user: logins.User) -> Response:
    return render(request, "orders.html", user, orders=await orders.history(user.id))


@router.get("/orders/{order_id}")
async def show_order(request: Request, user: logins.User, order_id: uuid.UUID, new: bool = False) -> Response:
    return render(request, "order.html", user, order=await orders.find(user.id, order_id), is_new=new)


@router.get("/signup")
async def show_sign_up(request: Request, visitor: logins.Visitor, next: str = "/") -> Response:
    return render(request, "signup.html", visitor, next=next)


@router.post("/signup")
async def sign_up(
    request: Request,
    session: logins.Visit,
    email: Annotated[forms.Email, Form()],
    password: Annotated[forms.NewPassword, Form()],
    name: Annotated[forms.Name, Form()],
    next: Annotated[str, Form()] = "/",
) -> Response:
    try:
        account = await accounts.sign_up(email, password, name)
    except refusals.Refusal as refusal:
        return render(request, "signup.html", status=refusal.status, problem=refusal, email=email, name=name, next=next)
    return _welcome(session, account, next)


@router.get("/login")
async def show_log_in(request: Request, visitor: logins.Visitor, next: str = "/") -> Response:
    return render(request, "login.html", visitor, next=next)


@router.post("/login")
async def log_in(
    request: Request,
    session: logins.Visit,
    email: Annotated[forms.Email, Form()],
    password: Annotated[forms.Password, Form()],
    next: Annotated[str, Form()] = "/",
) -> Response:
    try:
        account = await accounts.check(email, password)
    except refusals.Refusal as refusal:
        return render(request, "login.html", status=refusal.status, problem=refusal, email=email, next=next)
    return _welcome(session, account, next)


@router.post("/logout")
async def log_out(session: logins.Visit) -> Response:
    session.end()
    return go("/")


def render(
    request: Request, template: str, visitor: accounts.Account | None = None, status: int = 200, **values: Any
) -> Response:
    """A page. It is about one person, so nothing between here and the browser may keep it."""
    session = request.scope.get("session")
    context = {"visitor": visitor, "cart_count": cart.count(session) if session else 0, "status": status, **values}
    return templates.TemplateResponse(
        request, template, context, status_code=status, headers={"Cache-Control": "private, no-cache"}
    )


def go(path: str) -> Response:
    """After a form: see there, by GET, so that a reload repeats nothing."""
    return RedirectResponse(path, status_code=303)


def is_local(path: str) -> bool:
    """Whether it is a path of this shop: a link made by somebody else must not lead away after the login."""
    return path.startswith("/") and not path.startswith("//") and "\\" not in path


def _welcome(session: Session, account: accounts.Account, next: str) -> Response:
    logins.log_in(session, account)
    return go(next if is_local(next) else "/")
