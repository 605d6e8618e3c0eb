"""Which requests go home, and the words that they and their answers are said in."""

import math

import pytest

from support import asgi
from tenfold.sdk.asgi import homeward, inflight, protocol, road

pytestmark = pytest.mark.anyio

LENGTH = b"content-length"


@pytest.mark.parametrize(
    ("may_go", "scope"),
    [
        (True, asgi.scope("/a")),
        (True, asgi.scope("/a", "HEAD")),
        (False, asgi.scope("/a", "POST")),
        (False, asgi.scope("/a", "OPTIONS")),
        (False, asgi.scope("/a", headers=[(homeward.SENT, b"1")])),
        (True, asgi.scope("/a", headers=[(LENGTH, b"%d" % homeward.MOST_BODY_BYTES)])),
        (False, asgi.scope("/a", headers=[(LENGTH, b"%d" % (homeward.MOST_BODY_BYTES + 1))])),
        (False, asgi.scope("/a", headers=[(b"transfer-encoding", b"chunked")])),
        (False, asgi.scope("/a", headers=[(LENGTH, b"1"), (LENGTH, b"2")])),
        (False, asgi.scope("/a", headers=[(LENGTH, b"-1")])),
        (False, asgi.scope("/a b")),
        (False, asgi.scope("/a\r\nEvil: 1")),
        (False, asgi.scope("/a", query_string=b"q=\n")),
        (False, asgi.scope("/a", http_version="2")),
        (False, asgi.scope("/a", type="websocket")),
    ],
)
def test_only_what_can_be_asked_as_a_whole_goes_home(may_go: bool, scope: protocol.Scope) -> None:
    assert may_go == homeward.may_go(scope)


def test_a_request_is_sent_as_it_came_without_what_is_about_one_connection() -> None:
    headers = [
        (b"host", b"shop.test"),
        (b"connection", b"keep-alive, X-Hop"),
        (b"x-hop", b"1"),
        (b"upgrade", b"h2c"),
        (b"te", b"trailers"),
        (b"expect", b"100-continue"),
        (b"cookie", b"a=1"),
        (b"x-request-id", b"7"),
    ]
    scope = asgi.scope("/caf%C3%A9", headers=headers, query_string=b"q=a%20b")
    expected = b"GET /caf%C3%A9?q=a%20b HTTP/1.1\r\nhost: shop.test\r\ncookie: a=1\r\nx-request-id: 7\r\n"
    assert expected + b"\r\n" == homeward.head(scope, b"", [])
    with_body = expected + b"content-length: 3\r\ntenfold-debug: key\r\n\r\n"
    assert with_body == homeward.head(scope, b"abc", [(b"tenfold-debug", b"key")])
    assert b"\r\nhost: home\r\n" in homeward.head(asgi.scope("/"), b"", [])


def test_an_answer_keeps_its_own_headers() -> None:
    answer = b"HTTP/1.1 201 Created\r\nSet-Cookie: a=1\r\nset-cookie:b=2\r\nTransfer-Encoding: chunked\r\n\r\n"
    status, headers = homeward.parsed(answer)
    assert (201, [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]) == (status, homeward.end_to_end(headers))
    for wrong in (b"\r\n\r\n", b"SSH-2.0 hello\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"):
        with pytest.raises(homeward.BadAnswerError):
            homeward.parsed(wrong)


async def test_at_home_and_once_it_writes_where_it_is_a_request_stays() -> None:
    stories: list[str] = []

    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        one = tracker.working.copy().pop()
        one.about_to_write()
        tracker.road = road.Road(())  # the home has moved away, under a request that has begun to write
        one.about_to_write()
        stories.append(one.place.value)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with asgi.opened(app) as wrapped:
        tracker: inflight.InFlight = wrapped.service.inflight
        assert 204 == (await asgi.get(wrapped)).status
        tracker.road = None
    assert ["here"] == stories


async def test_what_has_gone_home_writes_nothing_here_and_says_nothing_itself() -> None:
    """Nobody is at home: the request is told so, whatever its app makes of it, and later writes of its tasks fail."""

    async def app(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        one = tracker.working.copy().pop()
        for _ in range(2):
            with pytest.raises(homeward.GoHomeError):
                one.about_to_write()
        kept.append(one)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
        await send({"type": "http.response.body", "body": b"done"})

    kept: list[object] = []
    async with asgi.opened(app) as wrapped:
        tracker: inflight.InFlight = wrapped.service.inflight
        tracker.road = Nowhere(())
        response = await asgi.get(wrapped)
    assert (503, "1") == (response.status, response.header(b"retry-after"))
    assert b"nothing was done" in response.body
    with pytest.raises(homeward.GoHomeError):
        kept[0].about_to_write()  # type: ignore[attr-defined]


class Nowhere(road.Road):
    """A home whose balancers take no connection."""

    async def link(self, until: float) -> road.Link:
        assert until < math.inf, "a request has its time"
        raise road.UnreachableError("nobody answers")
