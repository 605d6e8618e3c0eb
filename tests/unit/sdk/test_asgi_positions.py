"""Positions on their way through clients: signed, in several slots, never lowered."""

from http.cookies import SimpleCookie

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import asgi
from tenfold import position, request
from tenfold.sdk.asgi import cookies, protocol, tokens

pytestmark = pytest.mark.anyio


def at(lsn: int, shard: int = 0) -> position.Position:
    return position.Position(shard, 1, 1, lsn)


def positions(*each: position.Position) -> position.Positions:
    return position.Positions().raised(each)


SIGNER = tokens.Signer(asgi.SECRET, "shop")


class App:
    """Writes at `lsn` when asked to; remembers what each request had seen when it came."""

    def __init__(self) -> None:
        self.seen: list[position.Positions] = []
        self.known: list[bool] = []
        self.lsn = 0

    async def __call__(self, scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        one = request.current()
        assert one is not None
        self.seen.append(one.seen)
        self.known.append(one.is_known)
        if scope["method"] == "POST":
            one.wrote(at(self.lsn))
        await asgi.answer(send)


class Browser:
    """A cookie jar. Responses may be taken in in any order."""

    def __init__(self) -> None:
        self.jar: dict[str, str] = {}

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        text = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        return [(b"cookie", text.encode())] if text else []

    def take(self, response: asgi.Response) -> None:
        for header in response.all(b"set-cookie"):
            for name, morsel in SimpleCookie(header).items():
                if morsel["max-age"] == "0":
                    self.jar.pop(name, None)
                else:
                    self.jar[name] = morsel.value


async def test_the_next_request_of_the_same_browser_carries_the_position_of_the_write() -> None:
    app, browser = App(), Browser()
    app.lsn = 700
    async with asgi.opened(app) as wrapped:
        browser.take(await asgi.get(wrapped, method="POST"))
        await asgi.get(wrapped, headers=browser.headers)

    assert [positions(), positions(at(700))] == app.seen
    assert [False, True] == app.known


async def test_a_client_without_cookies_carries_the_header() -> None:
    app = App()
    app.lsn = 700
    async with asgi.opened(app) as wrapped:
        token = (await asgi.get(wrapped, method="POST")).header(b"x-tenfold-position")
        assert token is not None
        await asgi.get(wrapped, headers=[(b"x-tenfold-position", token.encode())])

    assert positions(at(700)) == app.seen[1]


async def test_a_request_that_does_not_write_sets_nothing() -> None:
    async with asgi.opened(App()) as wrapped:
        response = await asgi.get(wrapped)

    assert [] == response.all(b"set-cookie")
    assert response.header(b"x-tenfold-position") is None


@pytest.mark.parametrize(("scheme", "is_secure"), [("http", False), ("https", True)])
async def test_the_cookie_is_short_lived_unreadable_to_scripts_and_secure_exactly_over_https(
    scheme: str, is_secure: bool
) -> None:
    async with asgi.opened(App()) as wrapped:
        response = await asgi.get(wrapped, method="POST", scheme=scheme)

    (header,) = response.all(b"set-cookie")
    assert header.startswith("shop-pos-")
    assert "; Max-Age=60; Path=/; HttpOnly; SameSite=Lax" in header
    assert is_secure == header.endswith("; Secure")


async def test_the_cookie_is_secure_when_the_balancer_had_it_by_https() -> None:
    async with asgi.opened(App()) as wrapped:
        response = await asgi.get(
            wrapped, method="POST", headers=[(b"x-forwarded-proto", b"https")], client=(asgi.BALANCER, 1)
        )

    assert response.all(b"set-cookie")[0].endswith("; Secure")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_parallel_responses_do_not_lower_the_position_whatever_their_order(order: tuple[int, int]) -> None:
    app, browser = App(), Browser()
    async with asgi.opened(app) as wrapped:
        for round_number in range(20):
            responses = []
            for lsn in (1000 * round_number + 900, 1000 * round_number + 100):
                app.lsn = lsn
                responses.append(await asgi.get(wrapped, method="POST", headers=browser.headers))
            for index in order:
                browser.take(responses[index])
            await asgi.get(wrapped, headers=browser.headers)
            assert positions(at(1000 * round_number + 900)) == app.seen[-1]

    assert len(browser.jar) <= cookies.SLOTS


@given(st.sets(st.integers(0, cookies.SLOTS - 1), max_size=cookies.SLOTS - 1))
def test_a_response_never_writes_a_slot_that_its_request_brought(brought: set[int]) -> None:
    setup = asgi.Service().inflight.settings
    for _ in range(2 * cookies.SLOTS):
        written, *deleted = cookies.write("token", frozenset(brought), setup, is_secure=False)
        slot = int(written[1].decode().partition("=")[0].rpartition("-")[2])
        assert slot not in brought
        assert len(brought) == len(deleted)


async def test_a_browser_that_writes_on_and_on_carries_one_cookie() -> None:
    app, browser = App(), Browser()
    async with asgi.opened(app) as wrapped:
        for lsn in range(50):
            app.lsn = lsn
            browser.take(await asgi.get(wrapped, method="POST", headers=browser.headers))

    assert 1 == len(browser.jar)


async def test_a_forged_position_is_ignored() -> None:
    app = App()
    absurd = f"{positions(at(2**60))}_AAAAAAAAAAAAAAAAAAAAAA"
    elsewhere = tokens.Signer(asgi.SECRET, "other").write(positions(at(2**60)))
    async with asgi.opened(app) as wrapped:
        for token in (absurd, elsewhere, "", "_", "x" * 5000, "é"):
            await asgi.get(wrapped, headers=[(b"cookie", f"shop-pos-0={token}".encode())])
            await asgi.get(wrapped, headers=[(b"x-tenfold-position", token.encode())])

    assert all(not one for one in app.seen)
    assert not any(app.known)


async def test_other_services_cookies_are_not_looked_at() -> None:
    app = App()
    token = SIGNER.write(positions(at(5)))
    async with asgi.opened(app) as wrapped:
        await asgi.get(wrapped, headers=[(b"cookie", f"bookshop-pos-0={token}; shop-pos-9={token}".encode())])

    assert not app.seen[0]


async def test_an_answer_to_an_error_carries_what_was_written_before_it() -> None:
    from tenfold import errors

    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        one = request.current()
        assert one is not None
        one.wrote(at(9))
        raise errors.TryAgain("the second write waits")

    async with asgi.opened(app) as wrapped:
        response = await asgi.get(wrapped)

    assert 503 == response.status
    assert positions(at(9)) == SIGNER.read(response.header(b"x-tenfold-position") or "")


@given(
    st.lists(
        st.builds(position.Position, st.integers(0, 40), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**63)),
        min_size=1,
        max_size=30,
    )
)
def test_what_is_signed_is_read_again(each: list[position.Position]) -> None:
    assert positions(*each) == SIGNER.read(SIGNER.write(positions(*each)))


@given(st.text())
def test_no_text_makes_the_signer_raise(text: str) -> None:
    assert not SIGNER.read(text)
