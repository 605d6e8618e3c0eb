"""What a response says about being kept, what a purge may name, and the cookies of who bypasses the edges."""

import logging
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from starlette.responses import JSONResponse, Response

from tenfold import errors, request
from tenfold.sdk.cdn import bypass, edges, marking, purges, settling, visits

pytestmark = pytest.mark.anyio

COOKIES = bypass.Cookies("5ec2e7" * 8, "shop")
IDS = [UUID(int=(7 << 76) | (0b10 << 62) | number << 80) for number in range(1, 40)]


def marked(response: Any, max_age: float = 60, stale: float = 30, tags: tuple[str, ...] = ("a", "b")) -> Any:
    return marking.public(response, max_age, stale, tags)


def test_a_public_response_says_so_to_edges_alone() -> None:
    made = marked(JSONResponse({}, headers={"cache-control": "max-age=1"}))
    assert "max-age=60, stale-while-revalidate=30" == made.headers["cdn-cache-control"]
    assert ("a b", "no-cache") == (made.headers["surrogate-key"], made.headers["cache-control"])
    assert marking.is_kept(made.raw_headers)
    marking.private(made)
    assert ("no-store", "private, no-cache") == (made.headers["cdn-cache-control"], made.headers["cache-control"])
    assert "surrogate-key" not in made.headers


def test_any_frameworks_response_will_do() -> None:
    plain = SimpleNamespace(headers={"cache-control": "max-age=1"})
    assert {"CDN-Cache-Control": "max-age=0", "Cache-Control": "no-cache"} == marked(plain, 0, 0, ()).headers
    for wrong in ({"a": 1}, None, "text"):
        with pytest.raises(errors.MisuseError, match="response with headers"):
            marked(wrong)


@pytest.mark.parametrize("said", [{"max_age": -1}, {"max_age": float("nan")}, {"stale": True}, {"max_age": "60"}])
def test_seconds_are_seconds(said: dict[str, Any]) -> None:
    with pytest.raises(errors.MisuseError, match="seconds"):
        marked(Response(), **said)


@pytest.mark.parametrize("tag", ["", "a b", "a,b", "a\n", "é", "x" * 257, 7])
def test_a_tag_is_what_every_edge_takes(tag: Any) -> None:
    with pytest.raises(errors.MisuseError, match=r"tf\.cdn\.public"):
        marked(Response(), tags=(tag,))
    with pytest.raises(errors.MisuseError, match="purge"):
        purges.purge([tag], [], everything=False, soft=False)


def test_there_is_room_for_so_many_tags() -> None:
    marked(Response(), tags=tuple(f"{number:099}" for number in range(80)))
    with pytest.raises(errors.TooLarge, match="8000 bytes"):
        marked(Response(), tags=tuple(f"{number:099}" for number in range(81)))


def test_a_url_is_what_a_request_line_says() -> None:
    for said, path in (
        ("/a?b=1,2#c", "/a?b=1,2"),
        ("https://shop.test/a?b", "/a?b"),
        ("http://shop.test", "/"),
        ("/caf\u00e9 au lait", "/caf%C3%A9%20au%20lait"),
        ("/caf%C3%A9", "/caf%C3%A9"),
    ):
        assert path == purges.path_of(said)


def test_purges_go_together_and_no_line_is_too_long() -> None:
    a, b = purges.Purge(("a",), ("/1",)), purges.Purge(("a", "b"))
    assert [purges.Purge(("a", "b"), ("/1",))] == purges.together([a, b])
    assert [purges.EVERYTHING] == purges.together([a, purges.EVERYTHING, purges.Purge(("a",), is_soft=True)])
    both = purges.together([a, purges.Purge(everything=True, is_soft=True)])
    assert [a, purges.Purge(everything=True, is_soft=True)] == both
    many = purges.Purge(tuple(f"{number:0200}" for number in range(100)), ("/1",))
    lines = list(purges.lines(many))
    assert max(len(text) for _, text in lines) <= 8192 - len("Tenfold-Tags: ")
    assert list(many.tags) == [word for name, text in lines if name == "Tenfold-Tags" for word in text.split()]
    assert ("Tenfold-Urls", "/1") == lines[-1]


def test_a_bypass_cookie_comes_back_as_it_was_written() -> None:
    name, header = COOKIES.write(IDS[:3], is_secure=True)
    pair, _, attributes = header.decode().partition("; ")
    assert (b"set-cookie", "Max-Age=60; Path=/; HttpOnly; SameSite=Lax; Secure") == (name, attributes)
    [(cookie, ids)] = COOKIES.read(f"a=b; {pair}".encode()).items()
    assert cookie.startswith("shop-edge-")
    assert IDS[:3] == list(ids)
    longest = COOKIES.write(IDS, is_secure=False)[1].split(b";")[0]
    assert IDS[-bypass.MOST_IDS :] == list(next(iter(COOKIES.read(longest).values())))


@pytest.mark.parametrize("value", ["", "x", "_", "a" * 32 + "_sig", "é" * 40, "1." * 500 + "_a"])
def test_a_forged_cookie_waits_for_nothing(value: str) -> None:
    assert {"shop-edge-1": ()} == COOKIES.read(f"shop-edge-1={value}".encode("latin-1"))
    other = bypass.Cookies("another", "shop").write(IDS[:1], is_secure=False)[1].split(b";")[0]
    assert [()] == list(COOKIES.read(other).values())


class Settled(settling.Settled):
    """What is settled the test says."""

    def __init__(self, *ids: UUID) -> None:
        self.ids = frozenset(ids)

    async def among(self, ids: Any) -> frozenset[UUID]:
        return frozenset(ids) & self.ids


class Told(edges.Edges):
    def __bool__(self) -> bool:
        return True


async def leave(visit: visits.Visit, *settled: UUID, headers: Any = (), told: edges.Edges | None = None) -> Any:
    serving = request.Request(edge=visit, scope={"scheme": "http", "path": "/p"})
    doors = visits.Doors(Told() if told is None else told, Settled(*settled))
    doors.cookies = COOKIES
    found = await doors.leaving(serving, list(headers))
    assert None is serving.edge
    return found


async def test_who_has_purged_passes_the_edges_by_until_that_has_settled() -> None:
    [(name, value)] = await leave(visits.Visit(purged=[IDS[0]]))
    assert (b"set-cookie", [IDS[0]]) == (name, [*next(iter(COOKIES.read(value.split(b";")[0]).values()))])
    brought = {"shop-edge-1": (IDS[0],), "shop-edge-2": (IDS[1],)}
    assert [] == await leave(visits.Visit(brought=brought))
    [(_, gone)] = await leave(visits.Visit(brought=brought), IDS[0])
    assert gone.startswith(b"shop-edge-1=; Max-Age=0")
    assert 2 == len(await leave(visits.Visit(brought=brought), told=edges.Edges())), "without edges nothing is awaited"
    assert [] == await leave(visits.Visit(purged=[IDS[0]]), told=edges.Edges())


async def test_many_cookies_become_one() -> None:
    brought = {f"shop-edge-{number}": (IDS[number],) for number in range(bypass.MOST_COOKIES)}
    said = await leave(visits.Visit(brought=brought, purged=[IDS[30]]))
    assert bypass.MOST_COOKIES == sum(b"=; Max-Age=0" in value for _, value in said)
    [ids] = COOKIES.read(said[-1][1].split(b";")[0]).values()
    assert [*IDS[: bypass.MOST_COOKIES], IDS[30]] == list(ids)


@pytest.mark.parametrize("personal", [(b"Set-Cookie", b"a=b"), (b"vary", b"accept, Cookie")])
async def test_what_is_one_persons_is_not_kept_and_that_is_said_once(
    personal: tuple[bytes, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    public = marked(Response()).raw_headers
    assert public == await leave(visits.Visit(is_marked=True), headers=public)
    with caplog.at_level(logging.WARNING):
        found = dict(await leave(visits.Visit(is_marked=True), headers=[*public, personal]))
    assert (b"no-store", b"private, no-cache") == (found[b"cdn-cache-control"], found[b"cache-control"])
    assert b"surrogate-key" not in found
    assert ["/p"] == [record.args[0] for record in caplog.records if record.args]  # type: ignore[index]


async def test_our_own_cookie_on_a_public_page_is_nobodys_mistake(caplog: pytest.LogCaptureFixture) -> None:
    public = marked(Response()).raw_headers
    visit = visits.Visit(is_marked=True, brought={"shop-edge-1": (IDS[0],)})
    found = await leave(visit, IDS[0], headers=public)
    assert not marking.is_kept(found)
    assert not caplog.records
