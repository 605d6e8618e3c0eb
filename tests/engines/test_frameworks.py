"""FastAPI, Starlette, Litestar and Django, each served by the real granian: one contract, and what is each one's own.

The apps are in tests/apps/frameworks. Every framework gets one granian for all of its checks.
"""

import asyncio
import gzip
import hashlib
import importlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import websockets

from support import framework_sites, postgres_cluster
from support.framework_sites import Served
from tenfold import bindings
from tenfold.kit import clock

pytestmark = pytest.mark.anyio

NETWORK = 76

SHORT_SECONDS = 0.4

FRAMEWORKS = ("fastapi", "starlette", "litestar", "django")
WITH_LIFESPAN = ("fastapi", "starlette", "litestar")
"""Django has neither a lifespan nor WebSockets."""


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One event loop for the module: its tests share their servers."""
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture(scope="module")
async def database(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[postgres_cluster.Cluster]:
    async with framework_sites.cluster(tmp_path_factory.mktemp("database"), NETWORK) as cluster:
        yield cluster


@pytest.fixture(scope="module", params=FRAMEWORKS)
async def any_site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, database: postgres_cluster.Cluster
) -> AsyncIterator[Served]:
    folder = tmp_path_factory.mktemp(request.param)
    async with framework_sites.served(folder, f"with_{request.param}", NETWORK, database.bound) as served:
        yield served


@pytest.fixture
async def served(any_site: Served) -> Served:
    """The app, running."""
    await any_site.ensure_started()
    return any_site


with_lifespan = pytest.mark.parametrize("any_site", WITH_LIFESPAN, indirect=True)
fastapi = pytest.mark.parametrize("any_site", ["fastapi"], indirect=True)
django = pytest.mark.parametrize("any_site", ["django"], indirect=True)
threads = pytest.mark.parametrize("any_site", ["fastapi", "litestar", "django"], indirect=True)


async def text(served: Served, path: str) -> str:
    return (await served.client.get(path)).text


# what every request meets


async def test_requests_are_answered_and_their_trace_reaches_the_app(served: Served) -> None:
    assert "hello" == await text(served, "/")
    assert await text(served, "/trace")
    assert 404 == (await served.client.get("/nowhere")).status_code


async def test_an_app_inside_the_app_is_served_once(served: Served) -> None:
    one, other = await text(served, "/inner/trace"), await text(served, "/inner/trace")

    assert "-" in one
    assert one != other


@threads
async def test_the_request_is_known_in_the_threads_of_sync_code(served: Served) -> None:
    assert "-" in await text(served, "/sync-trace")


@with_lifespan
async def test_the_apps_own_lifespan_ran_once_and_its_state_reaches_requests(served: Served) -> None:
    assert "from the lifespan" == await text(served, "/state")
    assert 1 == served.log.count("the app has started")


async def test_health_checks_need_no_host_that_the_app_trusts(served: Served) -> None:
    stranger = {"host": "elsewhere.test"}

    assert 400 == (await served.client.get("/", headers=stranger)).status_code
    assert (200, "ready\n") == _said(await served.client.get("/-/ready", headers=stranger))
    assert 200 == (await served.client.head("/-/ready", headers=stranger)).status_code


async def test_the_app_knows_that_its_client_came_by_https(served: Served) -> None:
    assert "http" == await text(served, "/scheme")
    assert "https" == (await served.client.get("/scheme", headers={"x-forwarded-proto": "https"})).text


async def test_a_head_request_has_the_status_and_no_body(served: Served) -> None:
    found, missing = await served.client.head("/"), await served.client.head("/nowhere")

    assert found.status_code in {200, 405}, "FastAPI and Litestar do not answer HEAD for a GET route"
    assert (404, b"") == (missing.status_code, missing.content)


async def test_what_is_written_is_read_by_the_same_visitor(served: Served) -> None:
    word = f"bread {id(served)}"
    written = await served.client.post("/notes", content=word)

    assert 201 == written.status_code
    assert written.headers["x-tenfold-position"]
    assert word in (await served.client.get("/notes")).json()


async def test_a_compressed_stream_passes_whole(served: Served) -> None:
    headers = {"accept-encoding": "gzip", "origin": "https://elsewhere.test"}
    async with served.client.stream("GET", "/lines", headers=headers) as response:
        packed = b"".join([part async for part in response.aiter_raw()])

    assert "gzip" == response.headers["content-encoding"]
    assert 1000 == len(gzip.decompress(packed).splitlines())


@with_lifespan
async def test_cors_headers_pass(served: Served) -> None:
    asked = {"origin": "https://elsewhere.test", "access-control-request-method": "GET"}
    for response in (await served.client.options("/", headers=asked), await served.client.get("/lines", headers=asked)):
        assert "https://elsewhere.test" == response.headers["access-control-allow-origin"]


async def test_a_big_upload_passes_whole(served: Served) -> None:
    content = bytes(range(256)) * 4 * 1024 * 8

    assert hashlib.sha256(content).hexdigest() == (await served.client.post("/upload", content=content)).text


async def test_an_upload_that_takes_longer_than_a_request_may_is_not_cut_while_it_comes(served: Served) -> None:
    part = b"x" * 200_000

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield part
            await asyncio.sleep(0.2)

    async with served.deadline(1.0):
        response = await served.client.post("/upload", content=slowly())

    assert (200, hashlib.sha256(part * 8).hexdigest()) == _said(response)


async def test_an_upload_that_trickles_is_cut(served: Served) -> None:
    async def hardly() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x"
            await asyncio.sleep(SHORT_SECONDS / 4)

    async with served.deadline(SHORT_SECONDS):
        try:
            status = (await served.client.post("/upload", content=hardly())).status_code
        except httpx.TransportError:  # the server answers and hangs up while the client still sends
            status = 503

    assert 503 == status


# errors


async def test_an_error_of_the_app_is_a_500_and_in_the_log(served: Served) -> None:
    before = served.log.count("RuntimeError: it failed at once")

    assert 500 == (await served.client.get("/fail")).status_code
    assert await served.says("RuntimeError: it failed at once", before + 1)


async def test_an_error_of_ours_is_a_503_that_says_when_to_come_back(served: Served) -> None:
    paths = ["/busy", "/sync-busy"] if "django" in served.module else ["/busy"]
    for path in paths:
        response = await served.client.get(path)
        assert (503, "2") == (response.status_code, response.headers.get("retry-after"))
        assert "Try again" == response.json()["title"]


async def test_an_error_in_the_middle_of_a_response_breaks_it_off(served: Served) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await served.client.get("/fail-late")
    assert "hello" == await text(served, "/")


# deadlines


async def test_what_hangs_before_its_response_is_answered_503_and_cancelled(served: Served) -> None:
    paths = ["/hang", "/behind/hang"] if "fastapi" in served.module else ["/hang"]
    async with served.deadline(SHORT_SECONDS):
        for path in paths:
            for method in ("GET", "POST"):
                before = served.log.count("what hung was cancelled")
                response = await served.client.request(method, path, content=b"x" if method == "POST" else None)

                assert (503, "Took too long") == (response.status_code, response.json()["title"])
                assert await served.says("what hung was cancelled", before + 1)
    assert "never retrieved" not in served.log
    assert "was destroyed" not in served.log


async def test_a_stream_outlives_the_deadline_and_ends_when_its_client_goes(served: Served) -> None:
    before = served.log.count("the ticks have ended")
    async with served.deadline(SHORT_SECONDS):
        assert 9 == len(await events(served, 9))
    assert await served.says("the ticks have ended", before + 1)


@pytest.mark.parametrize("any_site", ["fastapi", "starlette"], indirect=True)
async def test_a_stream_that_asks_whether_its_client_is_there_is_not_cut_by_asking(served: Served) -> None:
    assert "0\n1\n2\n3\n4\n" == await text(served, "/asking")


async def events(served: Served, count: int) -> list[str]:
    """The first events of a stream that has one every 0.1 s."""
    found: list[str] = []
    async with served.client.stream("GET", "/ticks") as response:
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                found.append(line)
            if len(found) == count:
                break
    return found


# WebSockets


def connect(served: Served, **options: object) -> websockets.connect:
    seat = served.seat
    return websockets.connect("ws://shop.test/chat", host=seat.address, port=seat.process.port, **options)


@with_lifespan
async def test_a_websocket_talks_and_closes_with_its_code(served: Served) -> None:
    async with connect(served, subprotocols=["other", "chat"]) as socket:
        await socket.send("hi")
        said = await socket.recv()
        await socket.send("bye")
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await socket.recv()

    assert "chat" == socket.subprotocol
    assert "hi on from the lifespan" == said
    assert closed.value.rcvd is not None
    assert (4001, "so long") == (closed.value.rcvd.code, closed.value.rcvd.reason)


@with_lifespan
async def test_a_websocket_whose_client_goes_ends(served: Served) -> None:
    before = served.log.count("the chat has ended")
    async with connect(served) as socket:
        assert socket.subprotocol is None

    assert await served.says("the chat has ended", before + 1)


@django
async def test_django_refuses_a_websocket(served: Served) -> None:
    with pytest.raises(websockets.InvalidStatus):
        async with connect(served):
            pass


# writes behind a response


@with_lifespan
async def test_a_background_task_runs_and_its_write_is_warned_about_with_the_place(served: Served) -> None:
    for number in range(2):
        assert 202 == (await served.client.post("/late", content=f"late {number}")).status_code
        assert await written(served, f"late {number}")

    assert await served.says("has ended after its response had begun")
    warnings = [line for line in served.log.splitlines() if "has ended after its response had begun" in line]
    assert 1 == len(warnings), "once for one place"
    assert re.search(rf"{served.module}.py:\d+ in add: ", warnings[0])
    assert "put `with tf.db.session():` around it" in warnings[0]


@fastapi
async def test_a_dependency_that_commits_behind_the_response_is_named_with_the_line_to_write(served: Served) -> None:
    early = await served.client.post("/yielded", content="early")
    late = [await served.client.post("/yielded-late", content=f"behind {number}") for number in range(2)]

    assert early.headers["x-tenfold-position"]
    assert not any("x-tenfold-position" in one.headers for one in late)
    assert await served.says("in until_the_response_is_sent")
    assert await served.says('Depends(until_the_response_is_sent, scope="function")')
    assert "in until_the_function_returns" not in served.log


async def written(served: Served, word: str) -> bool:
    async def look() -> bool:
        return word in (await served.client.get("/notes")).json()

    return await clock.until(look, seconds=10)


@fastapi
async def test_a_write_past_an_open_transaction_is_told_the_line_to_write(served: Served) -> None:
    assert "write `await tx.execute(...)`" in (await served.client.post("/inside")).text


# sync code


@pytest.mark.parametrize("any_site", ["fastapi", "django"], indirect=True)
async def test_sync_code_reaches_the_database_as_its_framework_does_it(served: Served) -> None:
    assert 201 == (await served.client.post("/notes", content="for threads")).status_code

    assert "for threads" in (await served.client.get("/sync-notes")).json()


@django
async def test_sync_views_reach_the_database_through_async_to_sync(served: Served) -> None:
    written_by = await served.client.post("/sync-notes", content="in a thread")

    assert written_by.headers["x-tenfold-position"]
    assert "in a thread" in json.loads(await text(served, "/sync-notes"))
    assert "non-async-marked" not in served.log


@django
async def test_a_loop_of_its_own_in_a_sync_view_is_refused_with_the_line_to_write(served: Served) -> None:
    status, words = _said(await served.client.get("/sync-misuse"))

    assert 409 == status
    assert "async_to_sync(tf.db.fetch)('select ...')" in words
    assert "[" in await text(served, "/sync-notes"), "the database is as good as before"


@django
async def test_a_sync_view_that_is_late_is_answered_in_time_and_does_not_hold_others_up(served: Served) -> None:
    before = served.log.count("a thread cannot be cancelled")
    async with served.deadline(SHORT_SECONDS):
        loop = asyncio.get_running_loop()
        began = loop.time()
        late = asyncio.create_task(served.client.get("/sync-hang"))
        assert await clock.until(lambda: is_greeted(served), seconds=2.0)
        response = await late
        seconds = loop.time() - began
    assert 503 == response.status_code
    assert seconds < 3.0, "the view sleeps that long"
    assert await served.says("a thread cannot be cancelled", before + 1)
    assert "Response already started" not in served.log


async def is_greeted(served: Served) -> bool:
    return "hello" == await text(served, "/")


# the end


async def test_when_it_stops_streams_are_cut_and_the_app_shuts_down_once(served: Served) -> None:
    stops = served.log.count("the app has stopped")
    has_lifespan = "django" not in served.module
    async with served.deadline(SHORT_SECONDS):
        begun = asyncio.Event()
        stream = asyncio.create_task(until_cut(served, begun))
        await begun.wait()
        if has_lifespan:
            async with connect(served) as socket:
                await served.stop()
                with pytest.raises(websockets.ConnectionClosed) as closed:
                    await socket.recv()
            assert closed.value.rcvd is not None
            assert 1012 == closed.value.rcvd.code, "service restart: connect again"
        else:
            await served.stop()
        await stream
    if has_lifespan:
        assert stops + 1 == served.log.count("the app has stopped")
    assert "was destroyed" not in served.log


async def until_cut(served: Served, begun: asyncio.Event) -> None:
    """Read a stream of 10 s until it is cut."""
    async with served.client.stream("GET", "/ticks") as response:
        lines = response.aiter_lines()
        await anext(lines)
        begun.set()
        with pytest.raises(httpx.RemoteProtocolError):
            _ = [line async for line in lines]


# the page


PAGE = framework_sites.APPS.parents[2] / "docs" / "frameworks.md"
EXAMPLES = dict(re.findall(r"^```python\n# (\w+)\.py\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("name", ["fastapi_notes", "starlette_notes", "litestar_notes"])
async def test_the_examples_of_the_page_work(
    name: str,
    database: postgres_cluster.Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bound = bindings.Bindings(service=bindings.Service(name="shop", secret="ab" * 32), database=database.bound)
    (tmp_path / "bindings.json").write_bytes(bindings.dump(bound))
    (tmp_path / f"{name}.py").write_text(EXAMPLES[name])
    monkeypatch.setenv(bindings.VARIABLE, str(tmp_path / "bindings.json"))
    monkeypatch.syspath_prepend(tmp_path)
    example = importlib.import_module(name)
    transport = httpx.ASGITransport(example.tf.wrap(example.app))
    async with example.tf, httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        assert (await client.post(f"/notes/from_{name}")).is_success
        assert f"from_{name}" in (await client.get("/notes")).json()
    assert "behind" not in caplog.text
    assert "after its response had begun" not in caplog.text


def _said(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.text
