"""Programs that are wrong: each is told the line to write instead. Through FastAPI, as their authors would meet it."""

import asyncio
import gc
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from support import asgi
from tenfold import bindings, errors
from tenfold.sdk import service
from tenfold.sdk.asgi import protocol, wrap

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bindings that name a database without a server: none of these mistakes gets so far."""
    database = bindings.Database(shards=(bindings.Shard(),), name="shop", user="shop", password="pass")
    known = bindings.Service(name="shop", secret="5ec2e7")
    path = tmp_path / "bindings.json"
    path.write_bytes(bindings.dump(bindings.Bindings(service=known, database=database)))
    monkeypatch.setenv(bindings.VARIABLE, str(path))


def made() -> tuple[service.Tenfold, FastAPI]:
    tf, app = service.Tenfold(), FastAPI()

    @app.get("/")
    async def product() -> Any:
        return await tf.db.fetchval("select 1")

    return tf, app


async def get(app: protocol.App, path: str = "/") -> httpx.Response:
    """As a test of an app does it: no lifespan runs."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test") as client:
        return await client.get(path)


def elsewhere(work: Callable[[], Any]) -> BaseException:
    """What `work` raises in a thread of its own."""
    found: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it is what is looked for
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


async def test_a_request_without_a_lifespan_says_how_tests_start_the_app() -> None:
    tf, app = made()

    with pytest.raises(errors.NotStarted, match=r"async with tf:` around httpx\.ASGITransport"):
        await get(tf.wrap(app))


async def test_an_app_that_nobody_wrapped_is_told_to() -> None:
    _, app = made()

    with pytest.raises(errors.NotStarted, match=r"write `app = tf\.wrap\(app\)` at the end of your app's module"):
        await get(app)


async def test_a_use_at_import_or_in_a_script_is_told_when() -> None:
    tf, _ = made()

    with pytest.raises(errors.NotStarted, match="not at import; in a script or a test write `async with tf:`"):
        await tf.db.fetch("select 1")
    with pytest.raises(errors.NotStarted):
        tf.db.transaction()


async def test_a_wrapped_app_that_is_mounted_is_told_to_wrap_the_outermost() -> None:
    tf, app = made()
    outer = FastAPI()
    outer.mount("/api", tf.wrap(app))

    with pytest.raises(errors.NotStarted, match=r"below /api: the lifespan of a mounted app does not run"):
        await get(outer, "/api/")


async def test_a_wrapped_app_that_is_mounted_in_a_wrapped_one_is_served() -> None:
    inner = FastAPI()

    @inner.get("/")
    async def hello() -> str:
        return "hello"

    started, outer = asgi.Service(), FastAPI()
    outer.mount("/api", wrap.Wrapped(inner, started))
    await started.start()

    assert '"hello"' == (await get(wrap.Wrapped(outer, started), "/api/")).text


@pytest.mark.parametrize("found", [FastAPI, None, "shop.web:app"], ids=["a class", "nothing", "a name"])
async def test_what_is_no_application_is_not_wrapped(found: Any) -> None:
    tf, _ = made()

    with pytest.raises(errors.MisuseError, match=r"write `app = FastAPI\(\)`"):
        tf.wrap(found)


async def test_another_event_loop_is_told_what_to_write_in_each_framework() -> None:
    tf, app = made()
    async with tf:
        raised = elsewhere(lambda: asyncio.run(tf.db.fetch("select 1")))
        assert isinstance(raised, errors.WrongLoop)
        for line in ("await tf.db.fetch(", "anyio.from_thread.run(tf.db.fetch, ", "async_to_sync(tf.db.fetch)("):
            assert line in str(raised)
        assert isinstance(elsewhere(tf.db.transaction), errors.WrongLoop), "no loop at all"
        assert isinstance(elsewhere(lambda: asyncio.run(tf.start())), errors.WrongLoop)
        assert "with TestClient(app) as client:" in str(elsewhere(lambda: asyncio.run(get(tf.wrap(app)))))


async def test_a_statement_that_is_not_awaited_is_named() -> None:
    tf, _ = made()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tf.db.execute("select 1")  # type: ignore[unused-coroutine]
        gc.collect()

    assert ["coroutine 'tf.db.execute' was never awaited"] == [str(one.message) for one in caught]


async def test_a_transaction_without_async_is_told() -> None:
    tf, _ = made()
    async with tf:
        told = r"write `async with tf\.db\.transaction\(\) as tx:`"
        with pytest.raises(errors.MisuseError, match=told), tf.db.transaction():
            pass


async def test_statements_pass_for_coroutine_functions_as_background_tasks_ask() -> None:
    tf, _ = made()

    assert all(map(asyncio.iscoroutinefunction, (tf.db.fetch, tf.db.execute, tf.db.executemany, tf.db.run)))
