"""Traces through a real front door, two real web servers and three real databases: each decision is told as it was."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy.ext import asyncio as sqlalchemy_async

from support import postgres_cluster, routed_reads, seats
from tenfold import bindings, engines, request, spans
from tenfold.cli import trace_tree
from tenfold.engines import granian, haproxy
from tenfold.engines.haproxy import admin, settings
from tenfold.kit import clock, files
from tenfold.sdk.asgi import tracing
from tenfold.topology import tiers
from tenfold.traffic import connection
from tenfold.traffic import visit as visits

NETWORK = 78
ORIGIN = connection.Origin("http", f"127.{NETWORK}.0.2", 8178)

pytestmark = pytest.mark.anyio

APP = """
import asyncio, os, pathlib, signal
from tenfold import Tenfold

tf = Tenfold()
READ = "select value from counter where id = $1"

async def app(scope, receive, send):
    assert scope["type"] == "http"
    path, body = scope["path"], b"done"
    if path == "/read":
        body = b"%d" % await tf.db.fetchval(READ, 7)
    elif path == "/twice":
        await tf.db.fetchval(READ, 7)
        await tf.db.fetchval(READ, 8)
    elif path == "/write":
        await tf.db.execute("update counter set value = value + 1 where id = $1", 7)
    elif path == "/write-and-read":
        await tf.db.execute("update counter set value = value + 1 where id = $1", 7)
        await tf.db.fetchval(READ, 7)
    elif path == "/many":
        async with tf.db.transaction() as tx:
            for number in range(500):
                await tx.fetchval(READ, number)
    elif path == "/die":
        died = pathlib.Path(__file__).with_name("died")
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    elif path == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"data: 1", "more_body": True})
        await asyncio.Event().wait()
    elif path == "/headers":
        body = repr(scope["headers"]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One event loop for the module: its tests share their servers."""
    return ("asyncio", {"use_uvloop": False})


@dataclass(frozen=True)
class Whole:
    """One service: a balancer, two web servers, a primary and two replicas."""

    site: seats.Site
    cluster: postgres_cluster.Cluster
    webs: tuple[engines.Seat, ...]
    door: engines.Seat

    @property
    def key(self) -> str:
        return bindings.debug_key(seats.PASSWORDS.signing)

    async def ask(
        self, path: str, key: str | None = None, method: str = "GET", **headers: str
    ) -> tuple[visits.Visit, connection.Answer]:
        """One request with the right key, or another one."""
        pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        debug = (("Tenfold-Debug", self.key if key is None else key),)
        visit = await visits.pay(visits.Call(ORIGIN, "shop.test", method, path, (*pairs, *debug)), 20)
        assert visit.answer is not None, visit.failure
        return visit, visit.answer

    async def traced(self, path: str, **headers: str) -> tuple[spans.Span, connection.Answer]:
        """The tree of a request, and its answer."""
        visit, answer = await self.ask(path, **headers)
        return trace_tree.whole(visits.Call(ORIGIN, "shop.test", "GET", path), visit), answer


@pytest.fixture(scope="module")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Whole]:
    folder = tmp_path_factory.mktemp("trace")
    wanted = tiers.Topology.model_validate(
        {
            "service": {"name": "shop", "app": "served:app", "listen": f"{ORIGIN.host}:{ORIGIN.port}"},
            "balancer": {"servers": 1, "policy": "round_robin"},
            "web": {"servers": 2},
        }
    )
    (folder / "served.py").write_text(APP)
    async with routed_reads.cluster(folder / "databases", NETWORK) as cluster:
        service = bindings.Service(
            name="shop", app="served:app", directory=str(folder), secret=seats.PASSWORDS.signing,
            trusted_proxies=("127.0.0.1",),
        )  # fmt: skip
        told = bindings.Bindings(service=service, database=cluster.bound)
        files.write_atomically(folder / "bindings.json", bindings.dump(told))
        known = {"granian": granian.ENGINE, "haproxy": haproxy.ENGINE}
        async with seats.site(folder, wanted, known, NETWORK) as site:
            webs = tuple(site.seat(f"web-{number}", "granian") for number in (1, 2))
            door = site.seat("balancer-1", "haproxy")
            await asyncio.gather(*(site.start(one) for one in (*webs, door)))
            made = Whole(site, cluster, webs, door)
            assert await clock.until(lambda: _sees_replicas(made), seconds=20)
            yield made


async def _sees_replicas(made: Whole) -> bool:
    """The balancer has found both web servers usable, and both answer reads from a replica."""
    found = [await made.traced("/read") for _ in range(2)]
    are_both_there = all(one(tree, "balancer").decision.startswith("of 2 ") for tree, _ in found)
    return are_both_there and all("a replica" in one(tree, "statement").decision for tree, _ in found)


def one(tree: spans.Span, kind: str, number: int = 0) -> spans.Span:
    """The n-th span of this kind."""
    return [span for span in tree.walk() if span.kind == kind][number]


def session(answer: connection.Answer) -> dict[str, str]:
    """What makes the next request the same session's."""
    return {"X_Tenfold_Position": answer.header("x-tenfold-position")}


async def test_a_read_names_its_balancer_its_web_server_and_its_replica(whole: Whole) -> None:
    tree, answer = await whole.traced("/read")
    balancer, web, statement = (one(tree, kind) for kind in ("balancer", "web", "statement"))

    road = ("client", "balancer", "web", "statement")
    assert list(road) == [span.kind for span in tree.walk() if span.kind in road]
    assert ("balancer-1", "of 2 each in its turn (round_robin)") == (balancer.name, balancer.decision)
    assert balancer.where == web.name
    assert re.fullmatch(r"admitted: 1 of at most 512 at once, [\d.]+ ms after the balancer had it", web.decision)
    assert "select value from counter where id = $1" == statement.name
    assert statement.where in {replica.name for replica in whole.cluster.replicas}
    assert re.fullmatch(r"a replica.*: any copy will do, the client brought no position", statement.decision)
    assert balancer.start_ms <= web.start_ms <= statement.start_ms
    assert statement.end_ms <= web.end_ms + 0.1 <= balancer.end_ms + 0.2 <= tree.end_ms + 0.3
    assert answer.header("server-timing").startswith("app;dur=")


async def test_the_tree_and_both_logs_name_the_same_request(whole: Whole) -> None:
    tree, answer = await whole.traced("/read")
    identity = answer.header("x-request-id")

    assert len(identity) == 36
    seat = next(web for web in whole.webs if web.server.name == one(tree, "web").name)
    assert f"request {identity}: traced: GET /read: 200" in seat.log.read_text()

    _, failed = await whole.ask("/die", method="POST")  # without a key it is not repeated: an error that is logged
    (whole.site.folder / "died").unlink()
    assert 502 == failed.status
    line = f"{failed.header('tenfold-hop').partition('id=')[2]}\n"
    assert await clock.until(lambda: _stands_in(whole.door.log, line), seconds=10)
    await _both_serve(whole)


async def test_a_write_is_told_from_begin_to_the_position_it_got(whole: Whole) -> None:
    tree, answer = await whole.traced("/write")
    transaction, commit = one(tree, "transaction"), one(tree, "commit")

    assert ("database-1", "the primary: it writes") == (transaction.where, transaction.decision)
    assert ["begin", "statement", "commit"] == [span.kind for span in transaction.children]
    position = answer.header("x-tenfold-position").partition("_")[0]
    assert f"committed at {position}" == commit.decision


async def test_reads_after_a_write_say_which_position_they_needed(whole: Whole) -> None:
    _, written = await whole.traced("/write")
    needed = written.header("x-tenfold-position").partition("_")[0]

    async def reads_from_a_replica() -> bool:
        tree, _ = await whole.traced("/twice", **session(written))
        first, second = one(tree, "statement"), one(tree, "statement", 1)
        if not first.decision.startswith("a replica"):
            return False  # the wait for one was in vain: on a busy machine it may be
        assert f"the session needs {needed}" in first.decision
        assert f"pinned: this request has read from {first.where} before, it reflects" in second.decision
        return first.where == second.where

    assert await clock.until(reads_from_a_replica, seconds=20)


async def test_a_stale_replica_is_waited_for_and_then_the_primary_answers(whole: Whole) -> None:
    for replica in whole.cluster.replicas:
        await replica.pause_replay()
    try:
        _, written = await whole.traced("/write")
        needed = written.header("x-tenfold-position").partition("_")[0]

        async def waits() -> bool:
            tree, _ = await whole.traced("/read", **session(written))
            statement = one(tree, "statement")
            assert "database-1" == statement.where
            assert statement.decision.startswith(f"the primary: no replica reflects {needed}, ")
            found = re.search(r"waited ([\d.]+) ms for one", statement.decision)
            assert found is None or 20 < float(found[1]) <= statement.duration_ms + 2
            return found is not None  # a second read does not wait: it knows that it would be in vain

        assert await clock.until(waits, seconds=10, pause_seconds=0.3)
    finally:
        for replica in whole.cluster.replicas:
            await replica.resume_replay()


async def test_a_replica_that_catches_up_in_time_is_told_with_the_wait(whole: Whole) -> None:
    async def catches_up() -> bool:
        tree, _ = await whole.traced("/write-and-read")
        return "for it to catch up" in one(tree, "statement", 1).decision

    assert await clock.until(catches_up, seconds=20)


async def test_a_request_whose_web_server_dies_is_told_to_have_been_repeated(whole: Whole) -> None:
    tree, answer = await whole.traced("/die")
    (whole.site.folder / "died").unlink()

    assert 200 == answer.status
    assert re.search(r"tried [234] times, and moved to another server", one(tree, "balancer").decision)
    assert one(tree, "balancer").where == one(tree, "web").name
    await _both_serve(whole)


async def _stands_in(log: Path, line: str) -> bool:
    return line in await asyncio.to_thread(log.read_text)


async def _both_serve(whole: Whole) -> None:
    """Start what died again, and wait until the balancer uses both."""
    for seat in whole.webs:
        if not (await granian.ENGINE.probe(seat)).is_ready:
            await whole.site.start(seat)

    async def look() -> bool:
        tree, _ = await whole.traced("/headers")
        return "of 2 " in one(tree, "balancer").decision

    assert await clock.until(look, seconds=20)


async def test_while_no_web_server_is_there_the_wait_is_told(whole: Whole) -> None:
    for seat in whole.webs:
        await whole.site.cut(seat.server.name)
    socket = settings.runtime_socket(whole.door)

    async def all_are_down() -> bool:
        return all(seen.state == "down" for seen in await admin.backends(socket))

    async def it_is_held() -> bool:
        return (await admin.stats(socket)).held == 1

    assert await clock.until(all_are_down, seconds=20)
    asked = asyncio.create_task(whole.traced("/read"))
    assert await clock.until(it_is_held, seconds=5)
    await asyncio.gather(*(whole.site.start(seat) for seat in whole.webs))

    tree, answer = await asked

    assert 200 == answer.status
    held = one(tree, "balancer")
    assert ("hold", "no web server could be used: the request was held until one could") == (held.where, held.decision)
    assert held.duration_ms > 100
    inner = one(tree, "balancer", 1)
    assert inner.where == one(tree, "web").name
    await _both_serve(whole)


async def test_a_wrong_key_gives_nothing_and_is_seen_by_nobody(whole: Whole) -> None:
    wrong = "b" * 64
    for said in (wrong, "", whole.key[:-1], whole.key.upper(), f"{wrong}, {whole.key}"):
        _, answer = await whole.ask("/headers", key=said)
        names = {name for name, _ in answer.headers}
        assert not names & {b"tenfold-trace", b"tenfold-hop", b"server-timing"}
        assert "tenfold-debug" not in answer.text

    _, right = await whole.ask("/headers")
    assert right.header("tenfold-trace")
    assert "tenfold-debug" not in right.text
    await whole.ask("/die", method="POST")
    (whole.site.folder / "died").unlink()
    for path in (*whole.site.folder.rglob("*.log"), *whole.site.folder.rglob("*.cfg")):
        text = path.read_text(errors="replace")
        assert wrong not in text, path
        assert whole.key not in text, path
    await _both_serve(whole)


async def test_statements_of_sqlalchemy_are_told_too(whole: Whole) -> None:
    recorder = spans.Recorder(time.monotonic, time.monotonic(), "web", "here")
    async with routed_reads.started(whole.cluster) as database:
        engine = sqlalchemy_async.create_async_engine("postgresql+asyncpg://", async_creator=database.connect)
        with request.serving(request.Request(recorder=recorder)):
            async with engine.begin() as connection:
                await connection.execute(sqlalchemy.text("select value from counter where id = :id"), {"id": 7})
        await engine.dispose()

    told = [span for span in recorder.finish().walk() if span.kind == "statement"]
    assert any("select value from counter where id = $1" in span.name for span in told)
    assert "commit" == told[-1].name.lower().rstrip(";")
    why = "on a connection of the app's own pool, which follows the primary"
    assert {("database-1", why)} == {(span.where, span.decision) for span in told if span.where}


async def test_a_stream_that_never_ends_is_shown_as_far_as_it_came(whole: Whole) -> None:
    call = visits.Call(ORIGIN, "shop.test", "GET", "/stream", (("Tenfold-Debug", whole.key),))
    visit = await visits.pay(call, timeout_seconds=2.0)

    assert visit.answer is not None
    assert (b"data: 1", False) == (visit.answer.body, visit.is_whole)
    assert "web" in {span.kind for span in trace_tree.whole(call, visit).walk()}


async def test_where_nobody_listens_there_is_a_failure_and_no_answer() -> None:
    nobody = connection.Origin("http", f"127.{NETWORK}.0.2", 8179)
    visit = await visits.pay(visits.Call(nobody, "shop.test", "GET", "/"), timeout_seconds=5.0)

    assert visit.answer is None
    assert visit.failure is not None
    assert f"no connection to 127.{NETWORK}.0.2:8179: Connection refused" == visit.failure.detail


async def test_a_header_with_five_hundred_statements_stays_small(whole: Whole) -> None:
    tree, answer = await whole.traced("/many")

    assert 200 == answer.status
    assert len(answer.header("tenfold-trace")) <= tracing.MOST_BYTES
    transaction = one(tree, "transaction")
    kept = [span for span in transaction.children if span.kind == "statement"]
    assert 500 == len(kept) + transaction.omitted
    assert "commit" == transaction.children[-1].kind
    assert 'desc="501 statements"' in answer.header("server-timing")
