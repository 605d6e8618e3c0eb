"""`tenfold trace`: where a request goes, what it takes along, and how its tree looks."""

from pathlib import Path

import pytest

from tenfold import errors, spans
from tenfold.cli import trace, trace_tree, trust
from tenfold.topology import tiers
from tenfold.traffic import connection, cookie_file, cookies
from tenfold.traffic import visit as visits

SERVICE = tiers.Service(name="shop", app="shop:app", listen="0.0.0.0:8080", domain="shop.test")
ELSEWHERE = tiers.Service(name="shop", app="shop:app", listen="127.78.0.1:8080")


def target(url: str, service: tiers.Service | None = SERVICE) -> trace.Target:
    return trace.target(url, service, trust.Trust())


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("/", "127.0.0.1:8080", "/"),
        ("/a b?q=1", "127.0.0.1:8080", "/a%20b?q=1"),
        ("http://localhost:8080/x", "localhost:8080", "/x"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", "/"),
        ("http://shop.test:8080/%2F", "shop.test:8080", "/%2F"),
    ],
)
def test_the_services_own_front_door_is_known_by_all_its_names(url: str, host: str, path: str) -> None:
    found = target(url)

    assert (True, "127.0.0.1", 8080) == (found.is_own, found.origin.host, found.origin.port)
    assert (host, path) == (found.host, found.path)


@pytest.mark.parametrize("url", ["http://example.test/", "https://example.test:8080/", "http://127.0.0.1:8081/"])
def test_others_get_no_key(url: str) -> None:
    assert not target(url).is_own
    assert not target(url, None).is_own


def test_a_loopback_address_of_ones_own_is_not_the_whole_machine() -> None:
    assert target("http://127.78.0.1:8080/", ELSEWHERE).is_own
    assert not target("http://127.0.0.1:8080/", ELSEWHERE).is_own


@pytest.mark.parametrize("url", ["https://127.0.0.1:8080/", "shop.test/", "ftp://shop.test/", "http:///x", ""])
def test_what_is_no_url_is_bad_input(url: str) -> None:
    with pytest.raises(errors.BadInput, match="expected"):
        target(url)


def test_a_path_without_a_service_is_bad_input() -> None:
    with pytest.raises(errors.BadInput, match=r"there is no tenfold\.toml"):
        target("/", None)


def test_a_certificate_that_is_not_believed_is_not_taken_for_a_service_that_is_down() -> None:
    refused = visits.Visit(failure=connection.Failure(connection.Reason.REFUSED, "no connection"))
    untrusted = visits.Visit(failure=connection.Failure(connection.Reason.UNTRUSTED, "self-signed"))

    assert "is the service up?" in trace._hint(refused, target("/"))
    assert "--ca FILE" in trace._hint(untrusted, target("/"))


# the tree

ORIGIN = connection.Origin("http", "127.0.0.1", 8080)
CALL = visits.Call(ORIGIN, "shop.test", "GET", "/cart")
HOP = (
    "balancer; name=balancer-1; group=default; policy=random; route=; server=web-2; usable=2; cookie=----; retries=0; "
    "queue=0; connect=0; answer=8; microseconds=9000; id=abc"
)
STATEMENT = "select a_long_name_of_a_column from a_table_with_a_name_of_its_own"
WHY = "a replica: " + "why " * 20
INSIDE = [
    spans.Span("statement", STATEMENT, "database-2", WHY, 1.0, 2.0, []),
    spans.Span("cache", "product:1", "cache-3", "", 4.0, 1.0, []),
]
WEB = spans.Span("web", "web-2", "", "admitted: 1 of at most 512 at once", 0.0, 8.0, INSIDE, 500, 12.5)


def visit(*headers: tuple[str, str]) -> visits.Visit:
    answer = connection.Answer(200, tuple((name.encode(), value.encode()) for name, value in headers), b"hello")
    parts = [spans.Span("connect", "127.0.0.1:8080", "", "", 0.0, 0.4, [])]
    return visits.Visit(answer, None, parts, sent_ms=0.5, first_byte_ms=10.0, total_ms=10.5)


def shown(seen: visits.Visit, width: int = 100) -> list[str]:
    return [line.plain for line in trace_tree.lines(trace_tree.whole(CALL, seen), width)]


def test_the_tree_goes_from_the_client_to_the_last_statement() -> None:
    lines = shown(visit(("tenfold-hop", HOP), ("tenfold-trace", spans.encode(WEB, 4096))))

    assert lines[0].startswith("GET /cart ")
    assert "10.5 ms" in lines[0]
    assert any(line.startswith("└─ balancer balancer-1 → web-2") and "9.0 ms" in line for line in lines)
    assert any("web server web-2" in line for line in lines)
    assert any("admitted: 1 of at most 512 at once; 6.0 ms in the app's own code" in line for line in lines)
    assert any("… → database-2" in line for line in lines), "the server is shown however long the statement is"
    assert any("├─ cache product:1 → cache-3" in line for line in lines), "a kind that joins later"
    assert lines[-1].endswith("└─ and 500 quicker statements, 12.5 ms together")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_line_fits_the_terminal(width: int) -> None:
    assert all(len(line) <= width for line in shown(visit(("tenfold-trace", spans.encode(WEB, 4096))), width))


def test_times_and_bars_stand_below_each_other() -> None:
    lines = [
        line for line in shown(visit(("tenfold-trace", spans.encode(WEB, 4096)))) if " ms " in line and "━" in line
    ]

    assert 1 == len({line.index(" ms ") for line in lines})


def test_the_web_server_lies_inside_the_balancer_and_ends_with_it() -> None:
    root = trace_tree.whole(CALL, visit(("tenfold-hop", HOP), ("tenfold-trace", spans.encode(WEB, 4096))))
    balancer, web = (next(one for one in root.walk() if one.kind == kind) for kind in ("balancer", "web"))

    assert (1.0, 10.0) == (balancer.start_ms, balancer.end_ms)
    assert (2.0, 10.0) == (web.start_ms, web.end_ms)
    assert "abc" == trace_tree.request_id(visit(("tenfold-hop", HOP)))


def test_without_anything_from_the_service_the_clients_own_times_are_left() -> None:
    assert ["client", "connect"] == [one.kind for one in trace_tree.whole(CALL, visit()).walk()]


# cookies


def test_cookies_are_kept_in_a_file_that_curl_reads_too(tmp_path: Path) -> None:
    path = tmp_path / "cookies"
    path.write_text(
        "# a comment\nother.test\tFALSE\t/\tFALSE\t0\tkept\t1\n#HttpOnly_shop.test\tFALSE\t/\tTRUE\t0\tlogin\tx\n"
    )
    jar = cookies.Jar("shop.test")

    cookie_file.load(path, jar, jar.host)
    jar.take("cart=7; Path=/; Max-Age=60", "/", False, 1000.0)
    cookie_file.save(path, jar, jar.host)

    again = cookies.Jar("shop.test")
    cookie_file.load(path, again, again.host)
    assert "login=x; cart=7" == again.header("/", True, 1001.0)
    assert "cart=7" == again.header("/", False, 1001.0)
    assert "other.test\tFALSE\t/\tFALSE\t0\tkept\t1" in path.read_text()


def test_a_file_that_holds_no_cookies_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "cookies").write_text("login=x\n")
    with pytest.raises(errors.BadInput, match="seven fields"):
        cookie_file.load(tmp_path / "cookies", cookies.Jar("shop.test"), "shop.test")
