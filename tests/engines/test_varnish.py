"""An edge keeps what may be kept and nothing else, forgets when it is told, and serves what it has when nobody else
can."""

import asyncio
import gzip
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support import edges, seats
from tenfold import errors
from tenfold.engines.varnish import admin, render
from tenfold.kit import clock

pytestmark = pytest.mark.anyio

NETWORK = 13

PUBLIC = {"CDN-Cache-Control": "max-age=60"}

RULES = [{"path": "/prices/", "ttl": "30s"}, {"path": "/prices/live", "ttl": "0s"}, {"path": "/brief", "grace": "1s"}]


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[seats.Site]:
    wanted = edges.topology(static="static", memory="16MiB", path=RULES)
    with edges.running(tmp_path_factory.mktemp("edge"), NETWORK, wanted) as made:
        yield made


@pytest.fixture
async def edge(machines: seats.Site) -> AsyncIterator[edges.Edges]:
    async with edges.used(machines) as made:
        yield made


KEPT: tuple[tuple[edges.Headers, edges.Headers, int], ...] = (
    ({}, {"Cache-Control": "max-age=60"}, 200),
    ({}, {"Cache-Control": "MAX-AGE = 60"}, 200),
    ({}, {"Cache-Control": "s-maxage=60, max-age=0"}, 200),
    ({}, [("Cache-Control", "public"), ("Cache-Control", "max-age=60")], 200),
    ({}, {"Expires": "Wed, 01 Dec 2094 16:00:00 GMT", "Date": "Wed, 01 Dec 2094 15:00:00 GMT"}, 200),
    ({}, {"CDN-Cache-Control": "max-age=60", "Cache-Control": "private, no-store"}, 200),
    ({}, {"CDN-Cache-Control": "public max-age 60", "Cache-Control": "max-age=60"}, 200),
    ({"Cookie": "a=b"}, {"Cache-Control": "public, max-age=60"}, 200),
    ({"Authorization": "Basic YTpi"}, {"Cache-Control": "public, max-age=60"}, 200),
    ({"Authorization": "Basic YTpi"}, {"Cache-Control": "s-maxage=60"}, 200),
    ({}, {"Cache-Control": "max-age=60", "Vary": "Accept-Language"}, 200),
    ({}, {"Cache-Control": "max-age=60", "Age": "30"}, 200),
    ({}, {"Cache-Control": "max-age=60"}, 404),
    ({}, {"Cache-Control": "max-age=60", "Location": "/elsewhere"}, 301),
    ({}, {"Cache-Control": "max-age=60", "Surrogate-Key": ", ,\t!\x80\xff {}\"' ,,,"}, 200),
)
"""What a request and its answer say when the answer is kept: (request, response, status)."""

PASSED: tuple[tuple[edges.Headers, edges.Headers, int], ...] = (
    ({}, {}, 200),
    ({}, {"ETag": '"a"', "Last-Modified": "Thu, 01 Dec 1994 16:00:00 GMT"}, 200),
    ({}, {"Cache-Control": "public"}, 200),
    ({}, {"Cache-Control": "max-age=0"}, 200),
    ({}, {"Cache-Control": "max-age=many"}, 200),
    ({}, {"Cache-Control": "x-max-age=60"}, 200),
    ({}, {"Cache-Control": "s-maxage=0, max-age=60"}, 200),
    ({}, {"Cache-Control": "no-cache, max-age=60"}, 200),
    ({}, {"Cache-Control": "no-store, max-age=60"}, 200),
    ({}, {"Cache-Control": "private, max-age=60"}, 200),
    ({}, {"Cache-Control": 'private="x-name", max-age=60'}, 200),
    ({}, [("Cache-Control", "max-age=60"), ("Cache-Control", "Private")], 200),
    ({}, {"Cache-Control": "max-age=60", "Set-Cookie": "a=b"}, 200),
    ({}, {"CDN-Cache-Control": "max-age=60", "Set-Cookie": "a=b"}, 200),
    ({}, {"CDN-Cache-Control": "no-store", "Cache-Control": "max-age=60"}, 200),
    ({}, {"CDN-Cache-Control": "private", "Cache-Control": "public, max-age=60"}, 200),
    ({}, {"CDN-Cache-Control": 'max-age="60"', "Cache-Control": "no-store"}, 200),
    ({}, {"CDN-Cache-Control": "&=", "Cache-Control": "no-store"}, 200),
    ({}, {"Cache-Control": "max-age=60", "Vary": "*"}, 200),
    ({}, [("Cache-Control", "max-age=60"), ("Vary", "Accept"), ("Vary", "*")], 200),
    ({}, {"Cache-Control": "max-age=60", "Age": "60"}, 200),
    ({}, {"Expires": "0"}, 200),
    ({}, {"Expires": "Thu, 01 Dec 1994 16:00:00 GMT"}, 200),
    ({"Authorization": "Basic YTpi"}, {"Cache-Control": "max-age=60"}, 200),
    ({}, {"Cache-Control": "public, max-age=60"}, 500),
    ({}, {"Cache-Control": "public, max-age=60"}, 503),
)
"""What they say when it is not."""


async def test_what_is_kept_is_what_says_so_and_nothing_personal(edge: edges.Edges) -> None:
    async def found(kind: str, number: int, row: tuple[edges.Headers, edges.Headers, int]) -> bool:
        asked, said, status = row
        path = f"/{kind}/{number}"
        edge.answer(path, said, status=status)
        return await edge.is_kept(path, asked)

    for kind, rows, expected in (("kept", KEPT, True), ("passed", PASSED, False)):
        for number, row in enumerate(rows):
            assert expected is await found(kind, number, row), row
    for path, kept in (("/prices/1", True), ("/prices/live", False), ("/prices/livestock", True)):
        edge.answer(path, {"Cache-Control": "no-cache"})
        assert kept is await edge.is_kept(path), path
        edge.answer(f"{path}?private", {"Cache-Control": "private"})
        assert not await edge.is_kept(f"{path}?private"), path
    edge.answer("/vary", {**PUBLIC, "Vary": "Accept-Language"})
    variants = [await edge.get("/vary", {"Accept-Language": one}) for one in ("de", "en", "de", "en")]
    assert [1, 2, 1, 2] == [one.number for one in variants]


async def test_what_is_between_origin_and_edge_does_not_reach_the_client_nor_the_other_way(edge: edges.Edges) -> None:
    edge.answer("/a", {**PUBLIC, "Surrogate-Key": "one two", "xkey": "three", "X-HashTwo": "four"})
    spoof = {"X-Forwarded-For": "192.0.2.7", "X-Request-Id": "42", "Tenfold-Stale": "serve", "Tenfold-Brotli": "1"}
    first, second = await edge.get("/a", spoof), await edge.get("/a")
    _, _, asked = edge.origins.seen[-1]
    assert "192.0.2.7" == asked["X-Forwarded-For"], "the front door knows who the client is"
    assert "42" == asked["X-Request-Id"]
    inner = [name for name in asked if name.lower().startswith(("tenfold", "x-varnish", "via"))]
    assert ["Tenfold-Edge"] == inner, "by which the origin counts"
    for got in (first, second):
        names = {name.lower() for name in got.headers}
        assert not names & {"surrogate-key", "xkey", "x-hashtwo", "cdn-cache-control", "x-varnish", "via"}
        assert not [name for name in names if name.startswith("tenfold")]
    assert ("edge-1; fwd=miss; stored", "edge-1; hit") == tuple(
        got.headers["Cache-Status"].partition("; ttl=")[0] for got in (first, second)
    )
    assert second.headers["Age"].isdecimal()
    assert 0 == int((await edge.purge(tags="three four")).headers["Tenfold-Purged"]), "xkey is not the app's to set"


async def test_text_is_kept_compressed_and_each_client_gets_the_form_that_it_takes(edge: edges.Edges) -> None:
    text = b"many words " * 500
    edge.answer("/page", {**PUBLIC, "Content-Type": "text/html"}, text)
    edge.answer("/tiny", {**PUBLIC, "Content-Type": "text/html"})
    edge.answer("/sealed", {"Cache-Control": "max-age=60, no-transform", "Content-Type": "text/html"}, text)
    edge.answer("/image", {**PUBLIC, "Content-Type": "image/png"}, text)
    packed = await edge.get("/page", {"Accept-Encoding": "gzip, br"})
    assert ("gzip", text) == (packed.headers["Content-Encoding"], gzip.decompress(packed.body))
    assert "Accept-Encoding" in packed.headers["Vary"]
    plain = await edge.get("/page", {"Accept-Encoding": "identity"})
    assert (None, text, packed.number) == (plain.headers.get("Content-Encoding"), plain.body, plain.number)
    for path in ("/tiny", "/sealed", "/image"):
        assert "Content-Encoding" not in (await edge.get(path, {"Accept-Encoding": "gzip"})).headers, path

    edge.answer("/static/a.css", {**PUBLIC, "Content-Encoding": "br", "Vary": "Accept-Encoding"}, b"brotli")
    assert b"brotli" == (await edge.get("/static/a.css", {"Accept-Encoding": "gzip, deflate, br"})).body
    assert "br, gzip" == edge.origins.seen[-1][2]["Accept-Encoding"]
    edge.answer("/static/a.css", {**PUBLIC, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}, gzip.compress(text))
    assert text == (await edge.get("/static/a.css", {"Accept-Encoding": "identity"})).body
    assert "gzip" == edge.origins.seen[-1][2]["Accept-Encoding"]
    assert b"brotli" == (await edge.get("/static/a.css", {"Accept-Encoding": "br"})).body


async def test_many_who_miss_at_once_are_one_request_to_the_origin_and_what_is_personal_waits_for_nobody(
    edge: edges.Edges,
) -> None:
    gate = asyncio.Event()
    edge.answer("/crowd", PUBLIC, gate=gate)
    async with asyncio.TaskGroup() as group:
        crowd = [group.create_task(edge.get("/crowd")) for _ in range(200)]
        assert await clock.until(lambda: is_running(edge, "/crowd", 1), seconds=10)
        await asyncio.sleep(0)
        gate.set()
    assert ({(200, 1)}, 1) == (
        {(one.result().status, one.result().number) for one in crowd},
        edge.origins.asked["/crowd"],
    )

    edge.answer("/mine", {"Cache-Control": "private"})
    await edge.get("/mine")
    gate = asyncio.Event()
    edge.answer("/mine", {"Cache-Control": "private"}, gate=gate)
    async with asyncio.TaskGroup() as group:
        mine = [group.create_task(edge.get("/mine")) for _ in range(20)]
        assert await clock.until(lambda: is_running(edge, "/mine", 20), seconds=10), "they wait for each other"
        gate.set()
    assert 20 == len({one.result().number for one in mine}), "somebody got what was another's"


async def is_running(edge: edges.Edges, path: str, count: int) -> bool:
    return edge.origins.running[path] == count


async def test_a_stale_answer_serves_while_it_is_renewed_or_when_no_origin_can_do_better(edge: edges.Edges) -> None:
    said = {
        "/renewed": "max-age=1, stale-while-revalidate=60",
        "/held": "max-age=1",
        "/held-too": "max-age=1",
        "/strict": "max-age=1, must-revalidate",
        "/brief": "max-age=1",
        "/allowed": "max-age=1, s-maxage=1, stale-if-error=60",
    }
    for path, words in said.items():
        edge.answer(path, {"Cache-Control": words})
        assert 1 == (await edge.get(path)).number
    edge.answer("/clock", PUBLIC)
    assert await clock.until(lambda: is_aged(edge, "/clock", 3), seconds=20), (
        "longer than a life, and than /brief's grace"
    )

    assert 1 == (await edge.get("/renewed")).number, "it waited for an origin"
    assert await clock.until(lambda: is_number(edge, "/renewed", 2), seconds=10), "nobody renewed it"

    for path in ("/held", "/allowed"):
        edge.answer(path, {}, status=500)
        assert (200, 1) == await outcome(edge, path), "an origin that fails"
        asked = edge.origins.asked[path]
        assert {(200, 1)} == {await outcome(edge, path) for _ in range(20)}
        assert edge.origins.asked[path] - asked <= 20
    edge.answer("/held-too", {"Cache-Control": "max-age=60"})
    assert (200, 2) == await outcome(edge, "/held-too"), "an origin that answers is asked first"

    await edge.origins.stop()
    for path in ("/held", "/allowed", "/held-too"):
        assert 200 == (await outcome(edge, path))[0], "origins that are dead, and were alive a moment ago"
    await edge.until_origins_are(healthy=False)
    assert [(200, 1), (200, 1), (503, 0), (503, 0)] == [
        await outcome(edge, path) for path in ("/held", "/allowed", "/strict", "/brief")
    ]
    assert (503, 0) == await outcome(edge, "/never-seen")
    assert 200 == (await edge.get("/-/edge")).status, "it is well, and serves what it has"


async def is_aged(edge: edges.Edges, path: str, seconds: int) -> bool:
    return int((await edge.get(path)).headers["Age"]) >= seconds


async def outcome(edge: edges.Edges, path: str) -> tuple[int, int]:
    got = await edge.get(path)
    return got.status, got.number


async def is_number(edge: edges.Edges, path: str, number: int) -> bool:
    return (await edge.get(path)).number == number


async def test_when_one_origin_dies_the_other_is_asked_and_no_request_fails_but_a_change_is_not_repeated(
    edge: edges.Edges,
) -> None:
    gate = asyncio.Event()
    edge.answer("/change", {}, gate=gate)
    async with asyncio.TaskGroup() as group:
        change = group.create_task(edge.get("/change", method="POST"))
        assert await clock.until(lambda: is_running(edge, "/change", 1), seconds=10)
        died = edge.origins.last["/change"]
        await edge.origins.stop(died)
    assert (503, 1) == (change.result().status, edge.origins.asked["/change"]), "it was made twice"

    await edge.origins.start(died)
    await edge.until_origins_are(healthy=True)
    for round_number, dead in enumerate(edge.origin_addresses):
        await edge.origins.stop(dead)
        for number in range(10):
            edge.answer(f"/{round_number}/{number}", PUBLIC)
            assert 200 == (await edge.get(f"/{round_number}/{number}")).status, (dead, number)
        await edge.origins.start(dead)
        await edge.until_origins_are(healthy=True)


async def test_a_change_goes_through_and_what_is_kept_of_its_place_goes(edge: edges.Edges) -> None:
    for path in ("/thing", "/list", "/other"):
        edge.answer(path, PUBLIC)
        assert await edge.is_kept(path)
    edge.answer("/thing", {"Content-Location": f"{edge.url}/list"}, status=400)
    assert 400 == (await edge.get("/thing", method="DELETE")).status
    edge.answer("/thing", {**PUBLIC, "Content-Location": f"{edge.url}/list"})
    before = [(await edge.get(path)).number for path in ("/thing", "/list")]
    assert [1, 1] == before, "what failed changes nothing"
    assert 200 == (await edge.get("/thing", method="PUT")).status
    assert [4, 2, 1] == [(await edge.get(path)).number for path in ("/thing", "/list", "/other")]


async def test_what_is_too_large_goes_through_and_what_is_not_used_makes_room(edge: edges.Edges) -> None:
    large = os.urandom(4 * 1024**2)
    edge.answer("/large", PUBLIC, large)
    assert large == (await edge.get("/large")).body
    assert not await edge.is_kept("/large")
    await edge.get("/large", {"Range": "bytes=0-9"})
    assert "bytes=0-9" == edge.origins.seen[-1][2].get("Range"), "all of it was fetched for a part"
    before = admin.figures(edge.seat)
    for number in range(40):
        edge.answer(f"/{number}", PUBLIC, large[: 1024**2])
        await edge.get(f"/{number}")
    figures = admin.figures(edge.seat)
    assert before is not None
    assert figures is not None
    assert figures.evicted - before.evicted >= 20
    assert figures.used_bytes <= figures.most_bytes == 16 * 1024**2
    assert await edge.is_kept("/39")


async def test_it_counts_requests_hits_and_bytes(edge: edges.Edges) -> None:
    edge.answer("/a", PUBLIC, b"x" * 1000)
    edge.answer("/b", {}, b"x" * 100)

    def counted() -> list[int]:
        found = admin.figures(edge.seat)
        assert found is not None
        return [found.requests, found.hits, found.fetches, found.bytes_to_clients, found.bytes_from_origins]

    async def settled() -> list[int]:
        """Varnish's threads add up when they have nothing to do."""
        last = counted()
        await asyncio.sleep(0.5)
        return last if last == counted() else []

    before = await clock.until(settled, seconds=20)
    assert before
    for path in ("/a", "/a", "/a", "/b", "/b"):
        await edge.get(path)
    for _ in range(3):
        await edge.get("/-/edge")
    await edge.purge(tags="nothing")

    def added() -> list[int]:
        return [now - then for now, then in zip(counted(), before, strict=True)]

    async def are_right() -> bool:
        return added()[:3] == [5, 2, 3]

    assert await clock.until(are_right, seconds=20), added()
    *_, to_clients, from_origins = added()
    assert 1200 == from_origins
    assert 3200 <= to_clients <= 3300, "what the edge says itself is in it"


async def test_other_settings_are_taken_over_under_load_without_a_failed_request_and_nothing_is_lost(
    machines: seats.Site, edge: edges.Edges
) -> None:
    edge.answer("/a", {**PUBLIC, "Surrogate-Key": "one"})
    await edge.get("/a")
    gate = asyncio.Event()
    edge.answer("/late", {**PUBLIC, "Surrogate-Key": "late"}, gate=gate)
    wanted = edges.topology(grace="7s", memory="16MiB")
    other = seats.Site(machines.folder, wanted, machines.engine_of, NETWORK).seat("edge-1", "varnish")
    statuses: list[int] = []
    is_over = False

    async def ask() -> None:
        number = 0
        while not is_over:
            number += 1
            edge.answer(f"/{number}", PUBLIC)
            statuses.append((await edge.get(f"/{number}")).status)
            statuses.append((await edge.get("/a")).status)

    async with asyncio.TaskGroup() as group:
        late = group.create_task(edge.get("/late"))
        assert await clock.until(lambda: is_running(edge, "/late", 1), seconds=10)
        group.create_task(ask())
        try:
            machines.render(other)
            assert await admin.configure(other)
            assert render.revision(other) == await admin.revision(other)
            assert not await admin.configure(other), "twice is once"
            assert 1 == (await edge.get("/a")).number, "it was lost"
            await edge.purge(tags="late")
            gate.set()
            assert 1 == (await late).number
            assert 2 == (await edge.get("/late")).number, "other settings forgot the floors"
        finally:
            is_over = True
            machines.render(edge.seat)
            await admin.configure(edge.seat)
    assert {200} == set(statuses)


async def test_settings_that_do_not_compile_change_nothing_and_say_what_is_wrong(edge: edges.Edges) -> None:
    former = await admin.revision(edge.seat)
    file = edge.seat.config / render.VCL
    text = file.read_text()
    wanted = edges.topology(grace="8s", memory="16MiB")
    other = seats.Site(edge.machines.folder, wanted, edge.machines.engine_of, NETWORK).seat("edge-1", "varnish")
    try:
        file.write_text(text + "sub nonsense { call nobody; }\n")
        with pytest.raises(errors.EngineFailed, match="nobody"):
            await admin.configure(other)
    finally:
        file.write_text(text)
    assert former == await admin.revision(edge.seat)
    assert 200 == (await edge.get("/-/edge")).status


def test_a_folder_with_a_difficult_name_is_no_trouble(tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s "a" very \\ long näme' / ("x" * 120)
    folder.mkdir(parents=True)
    wanted = edges.topology(balancers=1)
    with edges.running(folder, NETWORK + 200, wanted) as made:
        seat = made.seat("edge-1", "varnish")
        assert admin.figures(seat) is not None
        other = seats.Site(folder, edges.topology(grace="9s"), made.engine_of, made.network).seat("edge-1", "varnish")
        made.render(other)
        assert asyncio.run(admin.configure(other))
