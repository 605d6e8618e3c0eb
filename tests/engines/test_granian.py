"""granian, the real one: serves the app wrapped, drains, dies whole, and tells plainly why an app does not start."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import pytest

from support import seats
from tenfold import bindings, engines, errors
from tenfold.engines import granian
from tenfold.engines.granian import admin, settings
from tenfold.kit import clock, files, process
from tenfold.topology import tiers

pytestmark = pytest.mark.anyio

NETWORK = 63

APP = """
import asyncio
import os
from tenfold import Tenfold, current

tf = Tenfold()

async def app(scope, receive, send):
    assert scope["type"] == "http", "this app has no lifespan"
    path = scope["path"]
    if path == "/slow":
        await asyncio.sleep(0.6)
    if path == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"data: 1", "more_body": True})
        try:
            await asyncio.Event().wait()
        finally:
            print("the stream has cleaned up", flush=True)
    if path == "/hang":
        await asyncio.Event().wait()
    answers = {
        "/env": f"{os.environ.get('MODE')} {os.environ.get('PLACE')} {os.environ['TENFOLD_SERVER']}",
        "/place": f"{os.getcwd()} {os.environ['DATABASE_URL']}",
        "/trace": current().trace if current() else "",
        "/seconds": str(tf.settings.request_seconds),
        "/client": scope["client"][0],
    }
    body = answers.get(path, "hello").encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


def topology(**service: Any) -> tiers.Topology:
    said = {"name": "shop", "app": "served:app", **service}
    return tiers.Topology.model_validate({"service": said, "database": {"placement": "own"}})


@asynccontextmanager
async def site(folder: Path, app: str = APP, wanted: tiers.Topology | None = None) -> AsyncIterator[seats.Site]:
    """A site with an app to serve and bindings that name a database nobody needs."""
    wanted = wanted or topology()
    (folder / "served.py").write_text(app)
    publish(folder, wanted)
    async with seats.site(folder, wanted, {"granian": granian.ENGINE}, NETWORK) as made:
        yield made


def publish(folder: Path, wanted: tiers.Topology, request_seconds: float = 5.0) -> None:
    node = bindings.DatabaseNode(name="database-1", host=f"127.{NETWORK}.9.9")
    made = bindings.Bindings(
        service=bindings.Service(
            name="shop",
            app=wanted.service.app,
            factory=wanted.service.factory,
            directory=str(folder),
            secret=seats.PASSWORDS.signing,
            request_seconds=request_seconds,
        ),
        database=bindings.Database(shards=(bindings.Shard(nodes=(node,)),), name="shop", user="shop", password="pass"),
    )
    files.write_atomically(folder / "bindings.json", bindings.dump(made))


async def get(seat: engines.Seat, path: str) -> tuple[int, str]:
    status, body = await admin.get(seat.address, seat.process.port, path)
    return status, body


async def ended(identity: process.Identity, seconds: float = 5.0) -> bool:
    return await process.gone(identity, seconds)


async def says_draining(seat: engines.Seat) -> bool:
    try:
        return (503, "draining\n") == await get(seat, "/-/ready")
    except OSError:
        return False


async def refuses(seat: engines.Seat) -> bool:
    try:
        await get(seat, "/")
    except OSError:
        return True
    return False


async def test_it_serves_the_app_wrapped_and_stops_politely(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        seat = here.seat("server-1", "granian")
        began = time.monotonic()
        await here.start(seat)
        seconds = time.monotonic() - began

        assert (200, "hello") == await get(seat, "/")
        assert (200, "ready\n") == await get(seat, "/-/ready")
        status, trace = await get(seat, "/trace")
        assert 200 == status
        assert trace, "the request passed the middleware"
        assert await here.stop(seat)
        assert not (await granian.ENGINE.probe(seat)).is_ready
        assert seconds < 10


async def test_the_app_gets_its_environment_and_the_log_does_not(tmp_path: Path) -> None:
    (tmp_path / "secrets.env").write_text("# of the shop\nexport PLACE='at home'\nMODE=overridden\n\n")
    wanted = topology(env={"MODE": "sesame"}, env_file="secrets.env")
    async with site(tmp_path, wanted=wanted) as here:
        seat = here.seat("server-1", "granian")
        await here.start(seat)

        assert (200, "sesame at home server-1") == await get(seat, "/env")
        assert "sesame" not in seats.log_of(seat, 1000)
        assert "at home" not in seats.log_of(seat, 1000)
        assert "GET" not in seats.log_of(seat, 1000), "no access log"


async def test_the_app_runs_in_its_own_folder_and_is_told_where_its_database_is(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        seat = here.seat("server-1", "granian")
        await here.start(seat)

        assert (200, f"{tmp_path} {settings.database_url(seat)}") == await get(seat, "/place")
        assert "127.63.1.1,127.63.1.50," in settings.database_url(seat)
        assert seat.secrets.app not in seats.log_of(seat, 1000)


async def test_a_variable_of_the_apps_own_wins_over_the_address_of_the_database(tmp_path: Path) -> None:
    async with site(tmp_path, wanted=topology(env={"DATABASE_URL": "sqlite://"})) as here:
        seat = here.seat("server-1", "granian")
        await here.start(seat)

        assert (200, f"{tmp_path} sqlite://") == await get(seat, "/place")


async def test_a_stream_does_not_keep_the_process_from_stopping_politely(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        publish(tmp_path, topology(), request_seconds=0.5)
        seat = here.seat("server-1", "granian")
        await here.start(seat)
        reader, writer = await asyncio.open_connection(seat.address, seat.process.port)
        writer.write(b"GET /stream HTTP/1.1\r\nHost: shop\r\n\r\n")
        await reader.readuntil(b"data: 1")

        assert await here.stop(seat)
        assert "the stream has cleaned up" in seats.log_of(seat, 1000)
        assert "Killing" not in seats.log_of(seat, 1000)
        writer.close()


async def test_while_it_drains_it_is_not_ready_and_open_requests_end(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        seat = here.seat("server-1", "granian")
        identity = await here.start(seat)
        slow = asyncio.create_task(get(seat, "/slow"))
        await asyncio.sleep(0.2)  # the request has to be inside; there is nothing to look at
        process.send(identity, SIGTERM)

        assert await clock.until(lambda: says_draining(seat), seconds=1.0)
        assert (200, "hello") == await slow
        assert await ended(identity)


async def test_a_request_that_never_ends_is_cut_at_its_deadline(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        publish(tmp_path, topology(), request_seconds=0.3)
        seat = here.seat("server-1", "granian")
        await here.start(seat)

        status, body = await get(seat, "/hang")

        assert 503 == status
        assert "Took too long" in body


async def test_changed_bindings_reach_the_running_app(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        seat = here.seat("server-1", "granian")
        await here.start(seat)
        before = await get(seat, "/seconds")
        publish(tmp_path, topology(), request_seconds=7.5)

        async def has_changed() -> bool:
            return (200, "7.5") == await get(seat, "/seconds")

        assert (200, "5.0") == before
        assert await clock.until(has_changed, seconds=3.0)


FACTORY = "from served import app\n\ndef create():\n    return app\n"


async def test_a_factory_makes_the_app(tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text(FACTORY)
    async with site(tmp_path, wanted=topology(app="", factory="made:create")) as here:
        seat = here.seat("server-1", "granian")
        await here.start(seat)

        assert (200, "hello") == await get(seat, "/")


async def test_an_app_that_wraps_itself_is_wrapped_once(tmp_path: Path) -> None:
    async with site(tmp_path, APP + "\napp = tf.wrap(app)\n") as here:
        seat = here.seat("server-1", "granian")
        await here.start(seat)

        assert (200, "hello") == await get(seat, "/")


GROUPED = {
    "service": {"name": "shop", "app": "served:app"},
    "balancer": {"servers": 1, "route": [{"path": "/api/", "group": "api"}]},
    "web": {"servers": 1},
    "web_groups": {"api": {"servers": 1, "app": "other:app", "workers_per_server": 2}},
}


async def test_a_web_group_runs_its_own_app(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(APP.replace('"hello"', '"the other"'))
    async with site(tmp_path, wanted=tiers.Topology.model_validate(GROUPED)) as here:
        group = here.seat("web-api-1", "granian")
        await here.start(here.seat("web-1", "granian"))
        await here.start(group)

        assert (200, "hello") == await get(here.seat("web-1", "granian"), "/")
        assert (200, "the other") == await get(group, "/")


BAD_APPS = {
    "does not import": ("import nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
    "raises at import": ("app = 1 / 0\n", "ZeroDivisionError: division by zero"),
    "is not a program": ("def app(:\n", "SyntaxError: invalid syntax"),
    "is not there": ("", "served:app: there is no 'app' in served"),
    "is not an app": ("app = 5\n", "served:app: a int found, an ASGI application expected"),
    "makes two Tenfolds": (APP + "\nother = Tenfold()\n", "the app has made 2 Tenfold objects, 1 expected"),
    "crashes at start": (
        "async def app(scope, receive, send):\n    await receive()\n    raise RuntimeError('no start')\n",
        "RuntimeError: no start",
    ),
    "has a lifespan that fails": (
        "from contextlib import asynccontextmanager\nfrom fastapi import FastAPI\n"
        "@asynccontextmanager\nasync def lifespan(app):\n    raise ConnectionError('no broker')\n    yield\n"
        "app = FastAPI(lifespan=lifespan)\n",
        "ConnectionError: no broker",
    ),
    "has configured logging anew before it fails": (
        "from litestar import Litestar\n"
        "async def connect(app):\n    raise ConnectionError('no broker')\n"
        "app = Litestar([], on_startup=[connect])\n",
        "ConnectionError: no broker",
    ),
}


@pytest.mark.parametrize(("app", "word"), BAD_APPS.values(), ids=BAD_APPS.keys())
async def test_an_app_that_does_not_start_ends_the_process_and_says_why(tmp_path: Path, app: str, word: str) -> None:
    async with site(tmp_path, app) as here:
        seat = here.seat("server-1", "granian")
        identity = await here.launch(seat)

        assert await ended(identity, 10.0), "granian does not try for ever"
        log = seats.log_of(seat, 1000)
        assert word in log
        assert "multiprocessing" not in log, "the traceback is the app's, not the server's"
        assert word in seats.log_of(seat, 12), "what is wrong is among the last lines"


async def test_bindings_that_are_missing_end_the_process_and_say_so(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        (tmp_path / "bindings.json").unlink()
        seat = here.seat("server-1", "granian")
        identity = await here.launch(seat)

        assert await ended(identity, 10.0)
        assert "cannot be read (No such file or directory); is `tenfold up` running?" in seats.log_of(seat)


async def test_killing_the_main_process_takes_its_workers_with_it(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        seat = here.seat("server-1", "granian")
        identity = await here.start(seat)
        workers = [process.identify(pid) for pid in process.children(identity.pid)]
        process.send(identity, SIGKILL)

        assert workers
        for worker in workers:
            assert worker is not None
            assert await ended(worker)
        assert await refuses(seat)


async def test_a_worker_that_is_killed_ends_the_process(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        seat = here.seat("server-1", "granian")
        identity = await here.start(seat)
        for pid in process.children(identity.pid):
            worker = process.identify(pid)
            assert worker is not None
            process.send(worker, SIGKILL)

        assert await ended(identity)


def seat_of(folder: Path, **service: Any) -> engines.Seat:
    return seats.Site(folder, topology(**service), {}, NETWORK).seat("server-1", "granian")


async def test_the_apps_own_interpreter_runs_it(tmp_path: Path) -> None:
    assert sys.executable == granian.ENGINE.command(seat_of(tmp_path)).argv[0]
    other = seat_of(tmp_path, python="/opt/shop/bin/python")
    assert "/opt/shop/bin/python" == granian.ENGINE.command(other).argv[0]


async def test_no_secret_is_in_the_command_line(tmp_path: Path) -> None:
    command = granian.ENGINE.command(seat_of(tmp_path, env={"KEY": "sesame"}))

    assert "sesame" == command.env["KEY"]
    assert not any("sesame" in word for word in command.argv)
    assert "sesame" not in repr(settings.settings(seat_of(tmp_path, env={"KEY": "sesame"})))


@pytest.mark.parametrize(("line", "word"), [("no equals sign", ":2: no NAME=value"), ("1A=2", ":2: no NAME=value")])
async def test_an_env_file_with_a_mistake_names_the_line_and_not_its_value(
    tmp_path: Path, line: str, word: str
) -> None:
    (tmp_path / "x.env").write_text(f"A=1\n{line}\n")

    with pytest.raises(errors.BadInput, match=word) as caught:
        granian.ENGINE.command(seat_of(tmp_path, env_file="x.env"))
    assert line not in str(caught.value)


async def test_variables_of_the_runtime_are_not_the_apps_to_set(tmp_path: Path) -> None:
    with pytest.raises(errors.BadInput, match="TENFOLD_BINDINGS found"):
        granian.ENGINE.command(seat_of(tmp_path, env={"TENFOLD_BINDINGS": "/elsewhere"}))


async def test_every_worker_says_what_it_carries_to_whoever_knows_the_key(tmp_path: Path) -> None:
    wanted = tiers.Topology.model_validate({**GROUPED, "web": {"servers": 1, "workers_per_server": 2}})
    async with site(tmp_path, wanted=wanted) as here:
        seat = here.seat("web-1", "granian")
        await here.start(seat)
        heard: dict[int, Any] = {}

        async def both_have_answered() -> bool:
            await asyncio.gather(get(seat, "/"), get(seat, "/slow"))
            for told in await asyncio.gather(*(admin.load(seat) for _ in range(4))):
                assert told is not None
                heard[told["pid"]] = told
            return len(heard) == 2 and all(one["requests"] > 0 for one in heard.values())

        assert await clock.until(both_have_answered, seconds=20, pause_seconds=0)
        assert any(bound >= 0.6 for one in heard.values() for bound, _ in one["latencies"])
        assert 404 == (await get(seat, "/-/load"))[0]
        assert 404 == (await admin.get(seat.address, 8000, "/-/load", {"Tenfold-Key": "guess"}))[0]
