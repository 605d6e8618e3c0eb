"""What `tenfold trace` asks an edge beside the traced request, and what it makes of the answer."""

import pytest

from tenfold.cli import trace_edge
from tenfold.traffic import connection, visit

ORIGIN = connection.Origin.parse("http://127.0.0.1:8080")


def call(method: str = "GET", body: bytes = b"", **headers: str) -> visit.Call:
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return visit.Call(ORIGIN, "shop.test", method, "/a?b=c", pairs, body)


def test_an_edge_is_asked_for_the_same_without_the_key_and_for_what_it_keeps_alone() -> None:
    asked = trace_edge.question(call(Tenfold_Debug="key", Cookie="a=b", Cache_Control="no-cache"))

    assert asked is not None
    assert ("HEAD", "/a?b=c", "shop.test") == (asked.method, asked.path, asked.host)
    assert (("Cookie", "a=b"), ("Cache-Control", "only-if-cached")) == asked.headers


@pytest.mark.parametrize("one", [call("POST"), call(body=b"x"), call(Upgrade="websocket")])
def test_what_goes_past_the_edges_is_not_asked_for(one: visit.Call) -> None:
    assert trace_edge.question(one) is None


SAID = {
    (200, "edge-1; hit; ttl=48", "12"): "edge-1 keeps an answer to this, 12 s old, fresh for 48 s more; without",
    (200, "edge-2; hit; ttl=-3", "63"): "edge-2 keeps an answer to this, 63 s old, stale by now; without",
    (200, "edge-2; hit", ""): "edge-2 keeps an answer to this; without",
    (404, "edge-1; hit; ttl=1", "x"): "edge-1 keeps an answer to this; without",
    (504, "edge-1; detail=not-kept", ""): "edge-1 keeps no answer to this; without",
    (200, "", ""): "such a request goes to a web server past them",
    (200, "edge-1; fwd=miss; stored=?0", ""): "such a request goes to a web server past them",
    (504, "", ""): "such a request goes to a web server past them",
}


@pytest.mark.parametrize(("answer", "said"), SAID.items())
def test_what_the_edge_says_is_told_in_a_sentence(answer: tuple[int, str, str], said: str) -> None:
    assert str(trace_edge.read(*answer)).startswith(f"edges: {said}")
