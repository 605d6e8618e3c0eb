"""An edge forgets what it is told to, at once and for good, and takes orders from nobody who has not the key."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from signal import SIGKILL

import pytest

from support import edges, seats
from tenfold.engines import varnish
from tenfold.kit import clock, process

pytestmark = pytest.mark.anyio

NETWORK = 113

PUBLIC = {"CDN-Cache-Control": "max-age=60"}


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[seats.Site]:
    with edges.running(tmp_path_factory.mktemp("edge"), NETWORK) as made:
        yield made


@pytest.fixture
async def edge(machines: seats.Site) -> AsyncIterator[edges.Edges]:
    async with edges.used(machines) as made:
        yield made


async def is_running(edge: edges.Edges, path: str, count: int) -> bool:
    return edge.origins.running[path] == count


async def outcome(edge: edges.Edges, path: str) -> tuple[int, int]:
    got = await edge.get(path)
    return got.status, got.number


async def is_number(edge: edges.Edges, path: str, number: int) -> bool:
    return (await edge.get(path)).number == number


async def test_purged_by_tag_by_url_or_altogether_it_is_gone_when_that_is_acknowledged(edge: edges.Edges) -> None:
    for path, tags in (("/1", "product:1 all"), ("/2?q=a,b", "product:2 all"), ("/3", "product:11"), ("/4", "")):
        edge.answer(path, {**PUBLIC, "Surrogate-Key": tags})
    paths = ("/1", "/2?q=a,b", "/3", "/4")

    async def numbers() -> list[int]:
        return [(await edge.get(path)).number for path in paths]

    async def purged(**what: str) -> int:
        got = await edge.purge(**what)  # type: ignore[arg-type]
        assert 200 == got.status
        return int(got.headers["Tenfold-Purged"])

    assert [1, 1, 1, 1] == await numbers()
    assert (1, [2, 1, 1, 1]) == (await purged(tags="product:1"), await numbers())
    assert (2, [3, 2, 1, 1]) == (await purged(tags="all"), await numbers())
    assert (2, [3, 3, 1, 2]) == (await purged(urls="/2?q=a,b /4"), await numbers())
    assert (1, [3, 3, 2, 2]) == (await purged(tags="product:11 nobody", urls="/none"), await numbers())
    assert (0, [3, 3, 2, 2]) == (await purged(tags="product", urls="/2"), await numbers())
    assert (4, [4, 4, 3, 3]) == (await purged(Tenfold_Everything="1"), await numbers())

    edge.answer("/v", {**PUBLIC, "Vary": "Accept-Language"})
    for language in ("de", "en"):
        await edge.get("/v", {"Accept-Language": language, "Host": f"{language}.shop.test"})
    assert 2 == await purged(urls="/v"), "every variant, under every name"


async def test_purged_softly_it_is_stale_and_serves_its_grace_out(edge: edges.Edges) -> None:
    edge.answer("/a", {"CDN-Cache-Control": "max-age=60, stale-while-revalidate=60", "Surrogate-Key": "one"})
    edge.answer("/b", {"CDN-Cache-Control": "max-age=60", "Surrogate-Key": "one"})
    assert [1, 1] == [(await edge.get(path)).number for path in ("/a", "/b")]
    assert "2" == (await edge.purge(tags="one", soft=True)).headers["Tenfold-Purged"]
    assert [1, 2] == [(await edge.get(path)).number for path in ("/a", "/b")]
    assert await clock.until(lambda: is_number(edge, "/a", 2), seconds=10)
    await edge.purge(tags="one", soft=True)
    await edge.origins.stop()
    assert (200, 2) == await outcome(edge, "/b"), "with every origin dead"
    await edge.purge(tags="one")
    assert 503 == (await edge.get("/b")).status


async def test_an_answer_that_was_asked_for_before_a_purge_is_not_kept_however_late_it_comes(edge: edges.Edges) -> None:
    for number, what in enumerate(({"tags": "slow"}, {"urls": "/1"}, {"Tenfold_Everything": "1"}, {"tags": "else"})):
        path, gate = f"/{number}", asyncio.Event()
        edge.answer(path, {**PUBLIC, "Surrogate-Key": "slow"}, gate=gate)
        async with asyncio.TaskGroup() as group:
            early = group.create_task(edge.get(path))
            assert await clock.until(lambda path=path: is_running(edge, path, 1), seconds=10)  # type: ignore[misc]
            assert 200 == (await edge.purge(**what)).status  # type: ignore[arg-type]
            gate.set()
        assert 1 == early.result().number, "who asked before is answered"
        assert (1 if what == {"tags": "else"} else 2) == (await edge.get(path)).number, what
        assert await edge.is_kept(path), "what is asked for afterwards is kept again"


async def test_nobody_purges_without_the_key_or_from_outside_and_nothing_else_is_served_there(
    edge: edges.Edges,
) -> None:
    edge.answer("/a", {**PUBLIC, "Surrogate-Key": "one"})
    await edge.get("/a")
    said = {"Tenfold-Key": edges.KEY, "Tenfold-Purge": "hard", "Tenfold-Tags": "one"}
    bad: tuple[tuple[int, str, edges.Headers], ...] = (
        (403, "PURGE", {}),
        (403, "PURGE", {**said, "Tenfold-Key": ""}),
        (403, "PURGE", {**said, "Tenfold-Key": edges.KEY[:-1]}),
        (400, "PURGE", {**said, "Tenfold-Tags": ""}),
        (400, "PURGE", {**said, "Tenfold-Tags": " , "}),
        (400, "PURGE", {**said, "Tenfold-Purge": "everything"}),
        (400, "PURGE", {"Tenfold-Key": edges.KEY, "Tenfold-Tags": "one"}),
        (404, "GET", said),
        (404, "POST", said),
    )
    for expected, method, headers in bad:
        assert expected == (await edge.say(method, headers, "/a")).status, (method, headers)
    assert 405 == (await edge.get("/a", said, method="PURGE")).status
    assert 404 == (await edge.say("GET", {}, "/-/edge")).status
    assert await edge.is_kept("/a")
    assert 1 == (await edge.get("/a")).number


async def test_ten_thousand_tags_and_long_headers_cost_nobody_an_answer(edge: edges.Edges) -> None:
    tags = " ".join(f"t{number}" for number in range(10_000))
    edge.answer("/many", {**PUBLIC, "Surrogate-Key": tags[:60_000]})
    edge.answer("/several", [("Cache-Control", "max-age=60"), *(("Surrogate-Key", f"s{n}") for n in range(30))])
    edge.answer("/long", {**PUBLIC, "X-Long": "x" * 12_000})
    for path in ("/many", "/several", "/long"):
        assert 200 == (await edge.get(path)).status
        assert await edge.is_kept(path), path
    assert ["1", "1"] == [(await edge.purge(tags=one)).headers["Tenfold-Purged"] for one in ("t9999", "s29")]
    purged = await edge.purge(tags=" ".join(f"t{number}" for number in range(4000))[:16_000])
    assert 200 == purged.status
    assert 200 == (await edge.get("/many", {"X-Long": "x" * 12_000})).status


async def test_when_its_serving_process_dies_another_begins_empty_and_says_that_it_is_another(
    edge: edges.Edges,
) -> None:
    edge.answer("/a", {**PUBLIC, "Surrogate-Key": "one"})
    await edge.get("/a")
    boots = [(await edge.purge(tags="none")).headers["Tenfold-Boot"] for _ in range(2)]
    running = edge.machines.powered["edge-1"].find("varnish")
    assert running is not None
    (serving,) = process.children(running.pid)
    identity = process.identify(serving)
    assert identity is not None
    assert process.send(identity, SIGKILL)
    assert await process.gone(identity, 10)

    async def is_back() -> bool:
        return (await varnish.ENGINE.probe(edge.seat)).is_ready

    assert await clock.until(is_back, seconds=20)
    await edge.until_origins_are(healthy=True)
    boots.append((await edge.purge(tags="none")).headers["Tenfold-Boot"])
    assert boots[0] == boots[1] != boots[2]
    assert 2 == (await edge.get("/a")).number
    assert await edge.is_kept("/a")
