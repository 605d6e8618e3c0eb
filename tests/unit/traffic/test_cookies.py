"""The cookies of a virtual user."""

import pytest

from tenfold.traffic import cookies


def jar_with(*headers: str, path: str = "/", is_secure: bool = False) -> cookies.Jar:
    jar = cookies.Jar("shop.test")
    for header in headers:
        jar.take(header, path, is_secure, 1000.0)
    return jar


def test_a_cookie_is_sent_until_it_ends() -> None:
    jar = jar_with("who=ann; Max-Age=60; Path=/; HttpOnly")

    assert "who=ann" == jar.header("/cart", False, 1059.0)
    assert "" == jar.header("/cart", False, 1060.0)


def test_the_newest_value_replaces_the_older_and_max_age_zero_deletes() -> None:
    jar = jar_with("who=ann; Path=/", "who=bob; Path=/")
    assert "who=bob" == jar.header("/", False, 1000.0)

    jar.take("who=; Path=/; Max-Age=0", "/", False, 1000.0)

    assert "" == jar.header("/", False, 1000.0)


def test_expires_ends_a_cookie_unless_max_age_says_otherwise() -> None:
    past = "Thu, 01 Jan 1970 00:00:10 GMT"

    assert "" == jar_with(f"a=1; Expires={past}").header("/", False, 1000.0)
    assert "a=1" == jar_with(f"a=1; Expires={past}; Max-Age=5").header("/", False, 1000.0)
    assert "a=1" == jar_with("a=1; Expires=whenever").header("/", False, 1e12)


@pytest.mark.parametrize(
    ("scope", "path", "is_sent"),
    [
        ("/cart", "/cart", True),
        ("/cart", "/cart/items", True),
        ("/cart", "/cartoon", False),
        ("/cart", "/", False),
        ("/", "/anything", True),
    ],
)
def test_a_cookie_goes_to_its_path_and_below(scope: str, path: str, is_sent: bool) -> None:
    assert is_sent == bool(jar_with(f"a=1; Path={scope}").header(path, False, 1000.0))


def test_without_a_path_the_folder_of_the_request_counts() -> None:
    jar = jar_with("a=1", path="/account/login")

    assert "a=1" == jar.header("/account/orders", False, 1000.0)
    assert "" == jar.header("/", False, 1000.0)


def test_the_longest_path_comes_first() -> None:
    assert "b=2; a=1" == jar_with("a=1; Path=/", "b=2; Path=/cart").header("/cart", False, 1000.0)


@pytest.mark.parametrize(
    "header",
    [
        "a=1; Secure",
        "__Host-a=1; Path=/",
        "__Secure-a=1",
        "a=1; Domain=other.test",
        "a=1; Domain=hop.test",
        "nonsense",
        "=1",
    ],
)
def test_what_a_browser_would_drop_is_dropped(header: str) -> None:
    assert "" == jar_with(header).header("/", False, 1000.0)


def test_secure_cookies_are_kept_and_sent_over_https_alone() -> None:
    jar = jar_with("a=1; Secure; Path=/", "__Host-b=2; Secure; Path=/", is_secure=True)

    assert "a=1; __Host-b=2" == jar.header("/", True, 1000.0)
    assert "" == jar.header("/", False, 1000.0)
    assert "" == jar_with("__Host-b=2; Secure; Path=/x", is_secure=True).header("/x", True, 1000.0)


def test_the_domain_may_be_the_service_or_what_it_is_part_of() -> None:
    assert "a=1" == jar_with("a=1; Domain=.shop.test").header("/", False, 1000.0)
    assert "a=1" == jar_with("a=1; Domain=test").header("/", False, 1000.0)
