"""tf.cache on a real primary with a replica: strategies, freshness for writers, single flight, bounded loads."""

import asyncio
import dataclasses
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support import caches, postgres_cluster, routed_reads
from tenfold import errors, request, spans
from tenfold.kit import clock

pytestmark = pytest.mark.anyio

NETWORK = 5
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """As everywhere, but for the whole module: it shares one cluster."""
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[postgres_cluster.Cluster]:
    async with postgres_cluster.cluster(tmp_path_factory.mktemp("cache"), NETWORK, replicas=1) as made:
        await made.primary.script(routed_reads.schema.statements(postgres_cluster.USER))
        await made.primary.script(caches.TABLE)
        await made.until_caught_up()
        yield made


@pytest.fixture
async def here(cluster: postgres_cluster.Cluster) -> AsyncIterator[caches.Process]:
    async with caches.process(cluster) as made:
        yield made


@pytest.fixture
def pid() -> int:
    """A product that no other test uses."""
    return next(numbers)


async def test_a_value_is_loaded_once_and_the_writer_sees_the_new_one(here: caches.Process, pid: int) -> None:
    product = here.cache.cached("product:{pid}", tags=["product:{pid}"])(here.load)
    assert [f"product {pid}"] * 3 == [await product(pid) for _ in range(3)]
    assert 1 == here.loads

    with request.serving(caches.visitor()):
        await here.rename(pid, "new", f"product:{pid}")
        assert "new" == await product(pid)
    with request.serving(caches.visitor()):
        assert "new" == await product(pid)
    assert "new" == await product(pid)


async def test_what_was_invalidated_is_served_to_nobody_from_then_on(here: caches.Process, pid: int) -> None:
    """On the quickest way too: by the arguments, outside any request."""
    product = here.cache.cached("quick:{pid}", tags=["product:{pid}"])(here.load)
    assert [f"product {pid}"] * 3 == [await product(pid) for _ in range(3)]
    assert [f"product {pid}"] * 3 == [await product(pid=pid) for _ in range(3)]
    with request.serving(caches.visitor()):
        await here.rename(pid, "new", f"product:{pid}")
    assert ["new", "new"] == [await product(pid=pid), await product(pid)]


async def test_a_value_without_tags_is_only_for_who_has_not_written_after_it(here: caches.Process, pid: int) -> None:
    product = here.cache.cached("plain:{pid}")(here.load)
    await product(pid)
    with request.serving(caches.visitor()):
        await here.rename(pid, "new")
        assert "new" == await product(pid)
    assert here.counts("behind_session") > [0]


async def test_another_process_serves_no_value_that_was_made_stale(
    cluster: postgres_cluster.Cluster, here: caches.Process, pid: int
) -> None:
    async with caches.process(cluster) as there:
        product = there.cache.cached("product:{pid}", tags=["product:{pid}"])(there.load)
        assert f"product {pid}" == await product(pid)
        mine = caches.visitor()
        with request.serving(mine):
            await here.rename(pid, "new", f"product:{pid}")
        with request.serving(request.Request(seen=mine.seen, is_known=True)):
            assert "new" == await product(pid)


async def test_a_load_that_a_write_overtakes_is_served_and_not_kept(here: caches.Process, pid: int) -> None:
    has_read, may_return = asyncio.Event(), asyncio.Event()

    async def slow() -> Any:
        found = await here.load(pid)
        has_read.set()
        await may_return.wait()
        return found

    asked = asyncio.create_task(here.cache.get_or_load("slow", slow, tags=[f"product:{pid}"]))
    await has_read.wait()
    with request.serving(caches.visitor()):
        await here.rename(pid, "new", f"product:{pid}")
        joined = asyncio.create_task(here.cache.get_or_load("slow", lambda: here.load(pid), tags=[f"product:{pid}"]))
        await asyncio.sleep(0)
    may_return.set()

    assert f"product {pid}" == await asked
    assert "new" == await joined
    assert "new" == await here.cache.get_or_load("slow", lambda: here.load(pid), tags=[f"product:{pid}"])
    assert here.counts("loads_not_kept") > [0]


async def test_a_session_that_is_ahead_of_what_others_load_loads_for_itself(here: caches.Process, pid: int) -> None:
    has_read, may_return = asyncio.Event(), asyncio.Event()

    async def slow() -> Any:
        found = await here.load(pid)
        has_read.set()
        await may_return.wait()
        return found

    asked = asyncio.create_task(here.cache.get_or_load("ahead", slow))
    await has_read.wait()
    with request.serving(caches.visitor()):
        await here.rename(pid, "new")
        joined = asyncio.create_task(here.cache.get_or_load("ahead", lambda: here.load(pid)))
        await asyncio.sleep(0)
    may_return.set()

    assert [f"product {pid}", "new"] == await asyncio.gather(asked, joined)


async def test_a_hundred_who_ask_at_once_load_once_and_whoever_leaves_ends_it_for_nobody(
    here: caches.Process, pid: int
) -> None:
    may_return, begun = asyncio.Event(), []

    async def slow() -> Any:
        begun.append(pid)
        await may_return.wait()
        return await here.load(pid)

    async def has_begun() -> bool:
        return bool(begun)

    asked = [asyncio.create_task(here.cache.get_or_load("many", slow)) for _ in range(100)]
    assert await clock.until(has_begun, seconds=10, pause_seconds=0.001)
    asked[0].cancel()
    await asyncio.wait([asked[0]])
    may_return.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)

    assert isinstance(answers[0], asyncio.CancelledError)
    assert [f"product {pid}"] * 99 == answers[1:]
    assert [pid] == begun


async def test_a_load_that_nobody_waits_for_any_more_ends(here: caches.Process) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def endless() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    asked = asyncio.create_task(here.cache.get_or_load("endless", endless))
    await began.wait()
    asked.cancel()
    await asyncio.wait_for(ended.wait(), 10)
    with pytest.raises(errors.DeadlineExceeded):
        await here.cache.get_or_load("endless", endless, timeout=0.01)


async def test_only_so_many_loads_run_at_once_and_only_so_many_wait(here: caches.Process) -> None:
    here.cache.limit_loads(at_once=3, waiting=5)
    running, most, may_return = 0, 0, asyncio.Event()

    async def slow() -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await may_return.wait()
        running -= 1
        return most

    asked = [asyncio.create_task(here.cache.get_or_load(f"bounded:{number}", slow)) for number in range(20)]

    async def is_full() -> bool:
        return sum(one.done() for one in asked) == 12

    assert await clock.until(is_full, seconds=10, pause_seconds=0.005)
    may_return.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)

    assert 3 == most
    assert 12 == sum(isinstance(one, errors.Overloaded) for one in answers)


async def test_a_value_made_of_cached_values_is_as_old_as_they_are_and_stale_with_them(
    here: caches.Process, pid: int
) -> None:
    product = here.cache.cached("part:{pid}", tags=["part:{pid}"])(here.load)

    async def page() -> str:
        return f"<{await product(pid)}>"

    await product(pid)
    assert f"<product {pid}>" == await here.cache.get_or_load("page", page, tags=["pages"])
    with request.serving(caches.visitor()):
        await here.rename(pid, "new", f"part:{pid}")
        assert "<new>" == await here.cache.get_or_load("page", page, tags=["pages"])


async def test_cache_aside_can_neither_undo_nor_outlive_an_invalidation(here: caches.Process, pid: int) -> None:
    key, tags = f"aside:{pid}", [f"product:{pid}"]
    with request.serving(caches.visitor()):
        assert await here.cache.get(key) is None
        old = await here.load(pid)
        await here.rename(pid, "new", *tags)
        await here.cache.set(key, old, tags=tags)
        assert await here.cache.get(key) is None

    slow = caches.visitor()
    with request.serving(slow):
        assert await here.cache.get(key) is None
        old = await here.load(pid)
    with request.serving(caches.visitor()):
        await here.rename(pid, "newer", *tags)

    async def have_nodes_gone_on() -> bool:
        return min(at.lsn for at in here.cache._reading.bounds().values()) > here.cache._floors.newest

    assert await clock.until(have_nodes_gone_on, seconds=20, pause_seconds=0.02)
    with request.serving(slow):
        await here.cache.set(key, old, tags=tags)
    with request.serving(caches.visitor()):
        assert await here.cache.get(key) is None

    async def is_kept() -> bool:
        with request.serving(caches.visitor()):
            assert await here.cache.get(key) is None
            await here.cache.set(key, await here.load(pid), tags=tags)
            return await here.cache.get(key) == "newer"

    assert await clock.until(is_kept, seconds=10, pause_seconds=0.02)


async def test_write_through_caches_what_was_committed_unless_another_has_written_since(
    here: caches.Process, pid: int
) -> None:
    key = f"through:{pid}"

    async def rename(tx: Any, name: str) -> str:
        await tx.execute("update product set name = $2 where id = $1", pid, name)
        return name

    with request.serving(caches.visitor()):
        assert "one" == await here.cache.write_through(key, rename, "one", tags=[f"product:{pid}"])
        assert "one" == await here.cache.get(key)
    assert "one" == await here.cache.get(key)

    waits, may_go = asyncio.Event(), asyncio.Event()

    from tenfold.sdk.cache import through

    ask = through.stamp

    async def delayed(*args: Any) -> Any:
        if not waits.is_set():
            waits.set()
            await may_go.wait()
        return await ask(*args)

    through.stamp = delayed  # type: ignore[assignment]
    try:
        first = asyncio.create_task(here.cache.write_through(key, rename, "two", tags=[f"product:{pid}"]))
        await waits.wait()
        assert "three" == await here.cache.write_through(key, rename, "three", tags=[f"product:{pid}"])
        may_go.set()
        assert "two" == await first
    finally:
        through.stamp = ask
    assert await here.cache.get(key) in ("three", None)
    assert "three" == await here.cache.get_or_load(key, lambda: here.load(pid), tags=[f"product:{pid}"])


async def test_read_through_loads_by_the_pattern_of_a_key(here: caches.Process, pid: int) -> None:
    @here.cache.loader("named:{pid}", ttl=60)
    async def load(pid: int) -> dict[str, Any]:
        return {"id": pid, "name": await here.load(pid)}

    assert {"id": pid, "name": f"product {pid}"} == await here.cache.read(f"named:{pid}")
    assert {"id": pid, "name": f"product {pid}"} == await load(pid)
    assert 1 == here.loads
    with pytest.raises(errors.NotFound):
        await here.cache.read("named:abc")
    with pytest.raises(errors.MisuseError, match="no loader is registered for 'other:1'"):
        await here.cache.read("other:1")


async def test_nothing_is_kept_for_a_shorter_time_and_an_old_value_serves_while_its_loader_fails(
    here: caches.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = ahead = 0.0
    real = time.time

    def clock_now() -> float:
        return real() + ahead

    monkeypatch.setattr("tenfold.sdk.cache.reading.time.time", clock_now)
    product = here.cache.cached("nothing:{pid}", ttl=100, stale=1000, negative=5)(here.load)
    assert [None, None] == [await product(9999), await product(9999)]
    assert 1 == here.loads
    ahead = 6.0
    await product(9999)
    assert 2 == here.loads

    is_broken = False

    async def fragile() -> str:
        if is_broken:
            raise ZeroDivisionError
        return f"at {now}"

    rules: Any = {"ttl": 100, "stale": 1000}
    assert "at 0.0" == await here.cache.get_or_load("fragile", fragile, **rules)
    is_broken, ahead = True, 150.0
    assert "at 0.0" == await here.cache.get_or_load("fragile", fragile, **rules)
    is_broken, now, ahead = False, 1.0, 160.0

    async def is_renewed() -> bool:
        return await here.cache.get_or_load("fragile", fragile, **rules) == "at 1.0"

    assert await clock.until(is_renewed, seconds=10, pause_seconds=0.01)
    is_broken, ahead = True, 2000.0
    with pytest.raises(ZeroDivisionError):
        await here.cache.get_or_load("fragile", fragile, **rules)


async def test_a_value_is_loaded_anew_ahead_of_its_end_and_waited_for_as_long_as_was_said(
    here: caches.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead, made, may_return = 0.0, 0, asyncio.Event()
    real = time.time
    monkeypatch.setattr("tenfold.sdk.cache.reading.time.time", lambda: real() + ahead)

    async def load() -> int:
        nonlocal made
        made += 1
        number = made
        if number > 2:
            await may_return.wait()
        return number

    async def ask(**rules: Any) -> int:
        return await here.cache.get_or_load("ahead", load, ttl=100, stale=1000, **rules)

    async def is_second() -> bool:
        return await ask() == 2

    assert 1 == await ask(ahead=0.5)
    ahead = 60.0
    assert [1, 1] == [await ask(), await ask(ahead=0.5)]
    assert await clock.until(is_second, seconds=10, pause_seconds=0.005)

    ahead = 200.0
    assert [2, 2] == [await ask(), await ask(soft_timeout=0.01)]
    may_return.set()
    assert 3 == await ask(soft_timeout=20)
    assert 3 == made
    assert [2] == here.counts("refreshes")


async def test_what_is_not_there_is_raised_again_without_asking_again(here: caches.Process) -> None:
    @here.cache.cached("gone:{pid}", negative=60)
    async def gone(pid: int) -> str:
        here.loads += 1
        raise errors.NotFound(f"product {pid}")

    for _ in range(2):
        with pytest.raises(errors.NotFound, match="product 5"):
            await gone(5)
    assert 1 == here.loads


async def test_a_trace_tells_where_a_value_came_from(here: caches.Process, pid: int) -> None:
    product = here.cache.cached("traced:{pid}", tags=["product:{pid}"])(here.load)
    recorder = spans.Recorder(asyncio.get_running_loop().time, 0.0, "web", "here")
    with request.serving(request.Request(recorder=recorder)):
        await product(pid)
        await product(pid)
        await here.rename(pid, "new", f"product:{pid}")
        await product(pid)

    found = [span for span in recorder.finish().walk() if span.kind == "cache"]
    assert ["traced:{pid}"] * 3 == [span.name for span in found]
    assert [
        "a miss: this process does not keep it",
        "a hit in this process",
        "a miss: a floor has passed it",
    ] == [span.decision for span in found]
    assert ["load", "load"] == [child.kind for span in found for child in span.children if child.kind == "load"]
    assert "statement" in {span.kind for span in found[0].walk()}


async def test_invalidating_by_key_and_refreshing_do_what_they_say(here: caches.Process, pid: int) -> None:
    product = here.cache.cached("own:{pid}")(here.load)
    await product(pid)
    await here.db.execute("update product set name = 'new' where id = $1", pid)
    assert "new" == await product.refresh(pid)
    await here.db.execute("update product set name = 'newer' where id = $1", pid)
    await product.invalidate(pid)
    with request.serving(caches.visitor()):
        assert "newer" == await product(pid)
    await here.cache.delete(product.key(pid))
    assert await here.cache.get(product.key(pid)) is None


async def test_a_changed_value_changes_no_other_callers(here: caches.Process) -> None:
    @dataclasses.dataclass
    class Basket:
        items: list[str]

    async def load() -> Basket:
        return Basket(["apple"])

    first = await here.cache.get_or_load("basket", load, type=Basket)
    first.items.append("pear")
    second = await here.cache.get_or_load("basket", load, type=Basket)
    second.items.append("plum")
    assert Basket(["apple"]) == await here.cache.get_or_load("basket", load, type=Basket)
    assert await here.cache.get_or_load("one", load, type=Basket, shared=True) is await here.cache.get_or_load(
        "one", load, type=Basket, shared=True
    )
