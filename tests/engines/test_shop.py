"""The example shop against a real PostgreSQL: its JSON API, its pages, and what they promise when repeated."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from support import postgres_cluster, shop_service
from support.shop_service import Shop
from tenfold.kit import clock

PASSWORD = "correct horse"
NETWORK = 10

ROUNDS = 8
"""How often a race is run: a missing lock does not show every time."""


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One event loop for the module: its tests share one shop."""
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture(scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENFOLD_BINDINGS", str(folder / "bindings.json"))
        patch.setenv("SHOP_PASSWORD_COST", "8")
        async with postgres_cluster.cluster(folder, NETWORK, replicas=0) as cluster:
            await shop_service.migrated(cluster)
            shop_service.write_bindings(folder / "bindings.json", cluster.bound)
            from shop import web  # reads its settings when it is imported

            async with shop_service.running(web.app):
                yield Shop(web.app, cluster)


@pytest.fixture
async def visitor(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody without an account."""
    async with shop.browser() as browser:
        yield browser


@pytest.fixture
async def customer(visitor: httpx.AsyncClient) -> httpx.AsyncClient:
    """Somebody who has just signed up."""
    assert 201 == (await sign_up(visitor)).status_code
    return visitor


async def sign_up(browser: httpx.AsyncClient, email: str = "", **options: Any) -> httpx.Response:
    body = {"email": email or f"{uuid.uuid4().hex}@example.test", "password": PASSWORD, "name": "Ada"}
    return await browser.post("/api/signup", json=body, **options)


async def products(browser: httpx.AsyncClient) -> list[dict[str, Any]]:
    return list((await browser.get("/api/products")).json()["products"])


async def put_in(browser: httpx.AsyncClient, product_id: str, quantity: int = 1, **options: Any) -> httpx.Response:
    body = {"product_id": product_id, "quantity": quantity, "reference": str(uuid.uuid4())}
    return await browser.post("/api/cart/items", json=body, **options)


async def order(browser: httpx.AsyncClient, reference: str = "", **options: Any) -> httpx.Response:
    return await browser.post("/api/orders", json={"reference": reference or str(uuid.uuid4())}, **options)


# The JSON API


@pytest.mark.anyio
async def test_the_catalogue_has_pages_of_products_with_pictures(visitor: httpx.AsyncClient) -> None:
    first, last = [(await visitor.get("/api/products", params={"page": page})).json() for page in (1, 4)]
    assert (12, 12, 4) == (len(first["products"]), len(last["products"]), first["pages"])
    assert {"id", "name", "price_cents", "picture", "stock"} == set(first["products"][0])
    assert "Harbour mug" == first["products"][0]["name"]
    for product in first["products"] + last["products"]:
        picture = await visitor.get(product["picture"])
        assert (200, "image/svg+xml") == (picture.status_code, picture.headers["content-type"])
    assert {"products": [], "pages": 4} == (await visitor.get("/api/products?page=5")).json()
    assert 422 == (await visitor.get("/api/products?page=0")).status_code


@pytest.mark.anyio
async def test_a_product_is_shown_and_one_that_is_not_there_is_not_found(visitor: httpx.AsyncClient) -> None:
    wanted = (await products(visitor))[3]
    assert wanted.items() <= (await visitor.get(f"/api/products/{wanted['id']}")).json().items()
    assert 404 == (await visitor.get(f"/api/products/{uuid.uuid4()}")).status_code


@pytest.mark.anyio
async def test_an_account_can_be_made_left_and_entered_again(shop: Shop, visitor: httpx.AsyncClient) -> None:
    made = await sign_up(visitor, "  Ada@Example.test ")
    assert (201, "ada@example.test") == (made.status_code, made.json()["email"])
    assert 200 == (await visitor.get("/api/cart")).status_code

    assert 204 == (await visitor.post("/api/logout")).status_code
    assert 401 == (await visitor.get("/api/cart")).status_code

    body = {"email": "ada@example.test", "password": PASSWORD}
    assert 401 == (await visitor.post("/api/login", json={**body, "password": "wrong"})).status_code
    assert 401 == (await visitor.post("/api/login", json={**body, "email": "nobody@example.test"})).status_code
    entered = await visitor.post("/api/login", json=body)
    assert (200, made.json()) == (entered.status_code, entered.json())
    assert 200 == (await visitor.get("/api/cart")).status_code


@pytest.mark.anyio
async def test_logging_out_ends_the_login_and_not_only_the_cookie(customer: httpx.AsyncClient) -> None:
    cookie = customer.cookies["shop-session"]
    await customer.post("/api/logout")
    customer.cookies.set("shop-session", cookie)
    assert 401 == (await customer.get("/api/cart")).status_code
    assert 401 == (await put_in(customer, (await products(customer))[0]["id"])).status_code


@pytest.mark.anyio
async def test_the_database_holds_neither_password_nor_token(shop: Shop, visitor: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    made = await sign_up(visitor, headers=key)
    token = visitor.cookies["shop-session"]
    for table in ("shop_user", "tenfold.session", "tenfold.commit"):
        rows = await shop.value(f"select string_agg(t::text, ' ') from {table} t")
        texts = await shop.value(
            "select coalesce(string_agg(convert_from(result, 'UTF8'), ' '), '') from tenfold.commit"
        )
        for secret in (PASSWORD, token, token.encode().hex()):
            assert secret not in rows
            assert secret not in texts
    assert made.json()["id"] in texts


@pytest.mark.anyio
async def test_the_login_cookie_is_secure_exactly_by_https(shop: Shop) -> None:
    for scheme, is_secure in (("http", False), ("https", True)):
        transport = httpx.ASGITransport(shop.app)
        async with httpx.AsyncClient(transport=transport, base_url=f"{scheme}://shop.test") as browser:
            made = await sign_up(browser)
        cookie = next(one for one in made.headers.get_list("set-cookie") if one.startswith("shop-session="))
        assert is_secure == ("; secure" in cookie.lower())
        assert "; HttpOnly" in cookie
        assert "; SameSite=Lax" in cookie


@pytest.mark.anyio
async def test_an_email_address_has_one_account(visitor: httpx.AsyncClient) -> None:
    email = f"{uuid.uuid4().hex}@example.test"
    first = await sign_up(visitor, email)
    second = await sign_up(visitor, email.upper())
    assert (201, 409) == (first.status_code, second.status_code)


@pytest.mark.anyio
@pytest.mark.parametrize("email", ["", "nobody", "a@b@c", "a b@c.test", "a\x00@c.test", "a@" + "c" * 300])
async def test_what_is_no_email_address_is_refused(visitor: httpx.AsyncClient, email: str) -> None:
    body = {"email": email, "password": PASSWORD, "name": "Ada"}
    assert 422 == (await visitor.post("/api/signup", json=body)).status_code


@pytest.mark.anyio
async def test_a_cart_is_filled_and_emptied(customer: httpx.AsyncClient) -> None:
    mug, lamp = (await products(customer))[:2]
    await put_in(customer, mug["id"], 2)
    filled = (await put_in(customer, lamp["id"])).json()
    assert filled == (await customer.get("/api/cart")).json()
    assert [("Harbour mug", 2, 1400), ("Terracotta table lamp", 1, 8900)] == [
        (item["name"], item["quantity"], item["price_cents"]) for item in filled["items"]
    ]
    assert 2 * 1400 + 8900 == filled["total_cents"]

    left = await customer.delete(f"/api/cart/items/{mug['id']}")
    assert (200, 8900) == (left.status_code, left.json()["total_cents"])
    assert 404 == (await put_in(customer, str(uuid.uuid4()))).status_code
    assert 422 == (await put_in(customer, lamp["id"], 0)).status_code


@pytest.mark.anyio
async def test_an_order_takes_the_cart_and_the_stock(shop: Shop, customer: httpx.AsyncClient) -> None:
    bowl = next(one for one in await products(customer) if one["name"] == "Tide bowl")
    await put_in(customer, bowl["id"], 2)
    await put_in(customer, bowl["id"], 3)
    reference = str(uuid.uuid4())

    placed = await order(customer, reference)
    assert (201, 5 * 2200) == (placed.status_code, placed.json()["total_cents"])
    assert [(bowl["id"], 5)] == [(item["product_id"], item["quantity"]) for item in placed.json()["items"]]
    assert {"items": [], "total_cents": 0} == (await customer.get("/api/cart")).json()
    assert bowl["stock"] - 5 == await shop.value("select stock from shop_product where id = $1", bowl["id"])

    history = (await customer.get("/api/orders")).json()["orders"]
    assert [(placed.json()["id"], reference, 5 * 2200)] == [
        (one["id"], one["reference"], one["total_cents"]) for one in history
    ]
    shown = (await customer.get(f"/api/orders/{placed.json()['id']}")).json()
    assert [("Tide bowl", 5, 2200)] == [(one["name"], one["quantity"], one["price_cents"]) for one in shown["items"]]


@pytest.mark.anyio
async def test_what_is_no_longer_for_sale_leaves_the_cart(shop: Shop, customer: httpx.AsyncClient) -> None:
    gone = await shop.value(
        """insert into shop_product (name, description, picture, price_cents, stock)
           values ('Last year''s lamp', '', 'lamp', 100, 9) returning id"""
    )
    lamp = (await products(customer))[0]
    await put_in(customer, str(gone), 2)
    await shop.value("delete from shop_product where id = $1 returning id", gone)
    from shop import catalogue, service

    await service.tf.cache.invalidate(tags=[catalogue.tag(gone)])
    assert 404 == (await customer.get(f"/api/products/{gone}")).status_code
    assert (200, []) == ((answer := await customer.get("/api/cart")).status_code, answer.json()["items"])
    assert 200 == (await customer.get("/cart")).status_code
    assert 409 == (await order(customer)).status_code, "an order of nothing"
    await put_in(customer, lamp["id"])
    assert [lamp["id"]] == [one["product_id"] for one in (await order(customer)).json()["items"]]


@pytest.mark.anyio
async def test_an_empty_cart_cannot_be_ordered(customer: httpx.AsyncClient) -> None:
    assert 409 == (await order(customer)).status_code


@pytest.mark.anyio
async def test_nobody_sees_the_orders_of_others(shop: Shop, customer: httpx.AsyncClient) -> None:
    await put_in(customer, (await products(customer))[0]["id"])
    placed = (await order(customer)).json()
    async with shop.browser() as stranger:
        assert 401 == (await stranger.get(f"/api/orders/{placed['id']}")).status_code
        await sign_up(stranger)
        assert 404 == (await stranger.get(f"/api/orders/{placed['id']}")).status_code
        assert {"orders": []} == (await stranger.get("/api/orders")).json()


@pytest.fixture
async def buyers(shop: Shop) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Six people with accounts."""
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(shop.browser()) for _ in range(6)]
        for buyer in found:
            await sign_up(buyer)
        yield found


@pytest.mark.anyio
async def test_no_more_is_sold_than_there_is(shop: Shop, buyers: list[httpx.AsyncClient]) -> None:
    product_id = await shop.value(
        "insert into shop_product (name, description, picture, price_cents, stock) "
        "values ('Last mugs', '', 'mug-sea', 100, 0) returning id::text"
    )
    try:
        for _ in range(ROUNDS):
            await shop.value("update shop_product set stock = 5 where id = $1", product_id)
            for buyer in buyers:
                await buyer.delete(f"/api/cart/items/{product_id}")
                await put_in(buyer, product_id, 2)
            answers = await asyncio.gather(*(order(buyer) for buyer in buyers))
            assert [201, 201, 409, 409, 409, 409] == sorted(answer.status_code for answer in answers)
            assert 1 == await shop.value("select stock from shop_product where id = $1", product_id)
            refused = next(n for n, answer in enumerate(answers) if answer.status_code == 409)
            assert "Last mugs: only 1 left" in answers[refused].json()["detail"]
            assert 200 == (await buyers[refused].get("/api/cart")).json()["total_cents"]  # the cart stays as it was
    finally:
        await shop.value("delete from shop_order_item where product_id = $1", product_id)
        await shop.value("delete from shop_bought where product_id = $1", product_id)
        await shop.value("delete from shop_product where id = $1", product_id)


@pytest.mark.anyio
async def test_one_cart_ordered_twice_at_once_is_one_order(shop: Shop, customer: httpx.AsyncClient) -> None:
    await put_in(customer, (await products(customer))[0]["id"])
    answers = await asyncio.gather(order(customer), order(customer))
    assert [201, 409] == sorted(answer.status_code for answer in answers)


# What happens behind the requests


async def becomes(shop: Shop, expected: Any, query: str, *args: Any) -> None:
    """The database says so before long."""
    seen: list[Any] = []

    async def is_there() -> bool:
        seen[:] = [await shop.value(query, *args)]
        return seen == [expected]

    assert await clock.until(is_there, seconds=30), seen


@pytest.mark.anyio
async def test_who_signs_up_gets_one_mail_and_is_counted_once(shop: Shop, visitor: httpx.AsyncClient) -> None:
    email = f"{uuid.uuid4().hex}@example.test"
    await sign_up(visitor, email)
    await becomes(shop, 1, "select count(*) from shop_mail where recipient = $1 and body like 'Hello Ada,%'", email)
    accounts = await shop.value("select count(*) from shop_user")
    await becomes(shop, accounts, "select sum(accounts)::bigint from shop_day")


@pytest.mark.anyio
async def test_what_is_bought_is_counted_and_shown_with_the_stock_that_is_left(
    shop: Shop, customer: httpx.AsyncClient
) -> None:
    vase = next(one for one in await products(customer) if one["name"] == "Clay bud vase")
    assert vase["stock"] == (await customer.get(f"/api/products/{vase['id']}")).json()["stock"]
    await put_in(customer, vase["id"], 3)
    await order(customer)

    assert vase["stock"] - 3 == (await customer.get(f"/api/products/{vase['id']}")).json()["stock"]
    await becomes(shop, 3, "select times from shop_bought where product_id = $1", vase["id"])
    revenue = await shop.value("select sum(total_cents)::bigint from shop_order")
    await becomes(shop, revenue, "select sum(revenue_cents)::bigint from shop_day")

    async def is_shown() -> bool:
        return "bought 3 times lately" in (await customer.get(f"/products/{vase['id']}")).text

    assert await clock.until(is_shown, seconds=10)


@pytest.mark.anyio
async def test_things_put_into_a_cart_at_once_all_stay(customer: httpx.AsyncClient) -> None:
    found = await products(customer)
    await asyncio.gather(*(put_in(customer, product["id"]) for product in found))
    assert len(found) == len((await customer.get("/api/cart")).json()["items"])


# Requests that are repeated with their Idempotency-Key


@pytest.mark.anyio
async def test_a_repeated_sign_up_is_one_account_and_logs_in(shop: Shop) -> None:
    email, key = f"{uuid.uuid4().hex}@example.test", {"Idempotency-Key": uuid.uuid4().hex}
    async with shop.browser() as first, shop.browser() as again:
        answers = [await sign_up(browser, email, headers=key) for browser in (first, again)]
        assert [201, 201] == [answer.status_code for answer in answers]
        assert answers[0].json() == answers[1].json()
        assert 200 == (await first.get("/api/cart")).status_code
        assert 200 == (await again.get("/api/cart")).status_code
    assert 1 == await shop.value("select count(*) from shop_user where email = $1", email)


@pytest.mark.anyio
async def test_a_repeated_order_is_one_order(shop: Shop, customer: httpx.AsyncClient) -> None:
    key, product, reference = {"Idempotency-Key": uuid.uuid4().hex}, (await products(customer))[0], str(uuid.uuid4())
    cart = {"product_id": product["id"], "quantity": 1, "reference": str(uuid.uuid4())}
    item = {"Idempotency-Key": uuid.uuid4().hex}
    added = [await customer.post("/api/cart/items", json=cart, headers=item) for _ in range(2)]
    assert added[0].json() == added[1].json()

    before = await shop.value("select sum(times) from shop_bought where product_id = $1", product["id"]) or 0
    placed = [await order(customer, reference, headers=key) for _ in range(2)]
    assert [201, 201] == [answer.status_code for answer in placed]
    assert placed[0].json() == placed[1].json()
    assert 1 == await shop.value("select count(*) from shop_order where reference = $1", reference)
    assert 1 == len(placed[0].json()["items"])

    assert 422 == (await order(customer, headers=key)).status_code  # another order under the same key

    await put_in(customer, product["id"], 5)
    await order(customer)
    await becomes(shop, before + 1 + 5, "select times from shop_bought where product_id = $1", product["id"])


@pytest.mark.anyio
async def test_a_key_of_somebody_else_says_nothing_about_them(shop: Shop, customer: httpx.AsyncClient) -> None:
    key, reference = {"Idempotency-Key": uuid.uuid4().hex}, str(uuid.uuid4())
    await put_in(customer, (await products(customer))[0]["id"])
    assert 201 == (await order(customer, reference, headers=key)).status_code
    async with shop.browser() as stranger:
        await sign_up(stranger)
        assert 409 == (await order(stranger, reference, headers=key)).status_code  # their own cart is empty


# The pages, as a browser without JavaScript uses them


def hidden(page: httpx.Response, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert found, page.text
    return found[1]


async def sign_up_by_form(browser: httpx.AsyncClient, next: str = "/") -> httpx.Response:
    form = {"email": f"{uuid.uuid4().hex}@example.test", "password": PASSWORD, "name": "Grace <Hopper>", "next": next}
    return await browser.post("/signup", data=form)


@pytest.mark.anyio
async def test_a_visitor_buys_with_forms_alone(shop: Shop) -> None:
    async with shop.browser(follow_redirects=True) as browser:
        front = await browser.get("/")
        assert 200 == front.status_code
        assert 12 == front.text.count('class="card"')
        path = re.search(r'class="card" href="([^"]+)"', front.text)
        assert path
        login = re.search(r'class="button" href="(/login[^"]+)"', (await browser.get(path[1])).text)
        assert login
        assert path[1] == hidden(await browser.get(login[1]), "next")

        page = await sign_up_by_form(browser, next=path[1])
        assert path[1] == page.url.path
        cart = await browser.post("/cart/items", data={"product_id": hidden(page, "product_id"), "quantity": "2"})
        assert "/cart" == cart.url.path
        assert "€28.00" in cart.text
        assert "<b>2</b>" in cart.text

        thanks = await browser.post("/orders", data={"reference": hidden(cart, "reference")})
        assert "Thank you, Grace &lt;Hopper&gt;." in thanks.text
        assert "€28.00" in (await browser.get("/orders")).text
        assert "Nothing in here yet" in (await browser.get("/cart")).text

        out = await browser.post("/logout")
        assert "Log in" in out.text
        assert "/login" == (await browser.get("/orders")).url.path


@pytest.mark.anyio
async def test_an_order_form_sent_several_times_is_one_order(shop: Shop) -> None:
    async with shop.browser() as browser:
        await sign_up_by_form(browser)
        product = (await products(browser))[0]
        for _ in range(ROUNDS):
            await browser.post("/cart/items", data={"product_id": product["id"], "quantity": "1"})
            form = {"reference": hidden(await browser.get("/cart"), "reference")}
            answers = await asyncio.gather(*(browser.post("/orders", data=form) for _ in range(5)))
            assert [303] * 5 == [answer.status_code for answer in answers]
            assert 1 == len({answer.headers["location"] for answer in answers})
            assert 1 == await shop.value("select count(*) from shop_order where reference = $1", form["reference"])


@pytest.mark.anyio
async def test_a_page_of_another_site_cannot_act_for_a_visitor(shop: Shop, customer: httpx.AsyncClient) -> None:
    form = {"product_id": (await products(customer))[0]["id"], "quantity": "1"}
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
    ):
        assert 403 == (await customer.post("/cart/items", data=form, headers=headers)).status_code
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://shop.test"}, {}):
        assert 303 == (await customer.post("/cart/items", data=form, headers=headers)).status_code


@pytest.mark.anyio
@pytest.mark.parametrize("next", ["https://evil.test/", "//evil.test/", "/\\evil.test", "evil.test"])
async def test_the_login_never_leads_to_another_site(shop: Shop, next: str) -> None:
    async with shop.browser() as browser:
        assert "/" == (await sign_up_by_form(browser, next)).headers["location"]


@pytest.mark.anyio
async def test_wrong_input_is_answered_with_a_page_that_says_so(visitor: httpx.AsyncClient) -> None:
    assert 404 == (await visitor.get("/products/nonsense")).status_code
    assert 404 == (await visitor.get("/?page=9")).status_code
    nowhere = await visitor.get("/nowhere")
    assert (404, True) == (nowhere.status_code, "<h1>404</h1>" in nowhere.text)
    wrong = await visitor.post("/login", data={"email": "a@b.test", "password": "wrong"})
    assert 401 == wrong.status_code
    assert "do not match" in wrong.text
    assert 'value="a@b.test"' in wrong.text
    short = await visitor.post("/signup", data={"email": "a@b.test", "password": "short", "name": "A"})
    assert 422 == short.status_code
    assert "Password" in short.text


@pytest.mark.anyio
async def test_static_files_are_served_and_nothing_comes_from_elsewhere(visitor: httpx.AsyncClient) -> None:
    assert 200 == (await visitor.get("/static/shop.css")).status_code
    style = re.search(r'href="(/static/shop\.[0-9a-f]{12}\.css)"', (await visitor.get("/")).text)
    assert style is not None
    assert "immutable" in (await visitor.get(style[1])).headers["cache-control"]
    assert 404 == (await visitor.get("/pictures/nothing-sea.svg")).status_code
    assert 404 == (await visitor.get("/pictures/frame-sea.svg")).status_code
    for path in ("/", "/login", "/signup"):
        assert "http" not in (await visitor.get(path)).text.replace("http-equiv", "")


def test_the_topology_of_the_example_is_the_first_rung() -> None:
    from tenfold.topology import load

    topology = load.load(Path(shop_service.FOLDER / "tenfold.toml"))
    assert ("shop.web:app", False, False) == (
        topology.service.app,
        topology.has_own_database,
        topology.has_failover,
    )
