"""`tenfold dev` on a real terminal: the newest code, tracebacks, a debugger, a database of its own, and no remains."""

import asyncio
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support import project, terminal
from tenfold.kit import process

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

APP = """
from contextlib import asynccontextmanager
from fastapi import FastAPI
from tenfold import Tenfold

tf = Tenfold()
WORD = "first"

@asynccontextmanager
async def lifespan(app):
    yield
    print("the app has shut down", flush=True)

app = FastAPI(lifespan=lifespan)

@app.get("/")
async def index():
    return {"word": WORD}

@app.get("/count")
async def count():
    await tf.db.execute("insert into visit default values")
    return await tf.db.reading("primary").fetchval("select count(*) from visit")

@app.get("/fail")
async def fail():
    try:
        raise KeyError("map")
    except KeyError as error:
        raise LookupError("lost in the woods") from error

@app.get("/stop")
async def stop():
    number = 41
    breakpoint()
    return {"number": number}
"""

MIGRATION = "-- migrate:up\ncreate table visit (id bigint generated always as identity primary key);\n-- migrate:down\n"
TOPOLOGY = '[service]\nname = "small"\napp = "main:app"\nlisten = "{listen}"\nenv_file = ".env"\n'
TENFOLD = [sys.executable, "-m", "tenfold.cli"]


@asynccontextmanager
async def developing(
    folder: Path, *words: str, app: str = APP, shell: bool = False
) -> AsyncIterator[tuple[terminal.Terminal, project.Project]]:
    """`tenfold dev` in this folder, on a terminal."""
    listen = f"127.0.0.1:{project.free_port()}"
    (folder / "migrations").mkdir(exist_ok=True)
    (folder / "migrations" / "1_visits.sql").write_text(MIGRATION)
    (folder / "main.py").write_text(app)
    (folder / ".env").write_text("KEY=opensesame-4711\n")
    (folder / "tenfold.toml").write_text(TOPOLOGY.format(listen=listen))
    try:
        argv = ["sh", "-c", f"{sys.executable} -m tenfold.cli dev; echo the shell goes on; read line"]
        argv = argv if shell else [*TENFOLD, "dev", *words]
        async with terminal.running(argv, folder, PYTHONDONTWRITEBYTECODE="1") as screen:
            yield screen, project.Project(folder, listen)
    finally:
        await project.ensure_gone(folder)


async def page(service: project.Project, path: str = "/") -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"{service.url}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(ask)


def change(service: project.Project, old: str, new: str) -> None:
    path = service.folder / "main.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


async def test_a_day_of_work(tmp_path: Path) -> None:
    async with developing(tmp_path) as (screen, service):
        seen = await screen.until("ready in")
        assert "migrated 1_visits.sql" in screen.text
        assert (200, '{"word":"first"}') == await page(service)
        seen = await screen.until("GET    /   ", after=seen)

        change(service, "first", "second")
        seen = await screen.until("changed: main.py", after=seen)
        assert (200, '{"word":"second"}') == await page(service), "a request during a reload waits"
        assert "the app has shut down" in screen.look()

        change(service, "return {", "return ({")
        seen = await screen.until("SyntaxError", after=seen)
        seen = await screen.until("waiting for a change", after=seen)
        status, text = await page(service)
        assert 500 == status
        assert "SyntaxError" in text
        change(service, "return ({", "return {")
        seen = await screen.until("ready in", after=seen)

        assert 500 == (await page(service, "/fail"))[0]
        seen = await screen.until("LookupError: lost in the woods", after=seen)
        assert 'raise LookupError("lost in the woods")' in screen.text
        assert "KeyError: 'map'" in screen.text, "and what it came from"
        assert "starlette/routing" not in screen.text, "the traceback begins at the app's own line"

        (tmp_path / "migrations" / "2_bad.sql").write_text(
            "-- migrate:up\nalter table nowhere add x int;\n-- migrate:down\n"
        )
        seen = await screen.until('relation "nowhere" does not exist', after=seen)
        assert 500 == (await page(service))[0]
        (tmp_path / "migrations" / "2_bad.sql").write_text(
            "-- migrate:up\nalter table visit add x int;\n-- migrate:down\n"
        )
        seen = await screen.until("migrated 2_bad.sql", after=seen)
        assert (200, "1") == await page(service, "/count")

        said = await service.tenfold("run", "--", "psql", "-Atc", "select count(x), count(*) from visit")
        assert "0|1" == said.strip()
        refused = await service.try_tenfold("dev")
        assert 1 == refused.code
        assert "runs here already" in refused.output

        refused = await service.try_tenfold("down", "--delete-data", "--yes")
        assert (2, True) == (refused.code, "tenfold dev runs here" in refused.output)

        screen.type(terminal.CTRL_C)
        assert await screen.ended() < 5
        assert 0 == screen.process.returncode, screen.text
        assert "opensesame" not in screen.text
        assert "the app's process ended" not in screen.text, "that is what Ctrl-C is for"
        refused = await service.try_tenfold("run", "--", "true")
        assert 1 == refused.code
        assert "tenfold dev" in refused.output

    async with developing(tmp_path) as (screen, service):
        await screen.until("ready in")
        assert (200, "2") == await page(service, "/count"), "data is kept between runs"


async def test_breakpoint_stops_on_the_terminal_and_goes_on(tmp_path: Path) -> None:
    async with developing(tmp_path) as (screen, service):
        await screen.until("ready in")
        asking = asyncio.create_task(page(service, "/stop"))
        seen = await screen.until("(Pdb) ")
        screen.type("number += 1\n")
        seen = await screen.until("(Pdb) ", after=seen)
        screen.type("c\n")
        assert (200, '{"number":42}') == await asking

        asking = asyncio.create_task(page(service, "/stop"))
        await screen.until("(Pdb) ", after=seen)
        screen.type(terminal.CTRL_C)
        assert await screen.ended() < 8
        assert screen.echoes, "the debugger has switched it off"
        with pytest.raises(OSError):  # noqa: PT011 - however the connection ended
            await asking


async def test_a_kill_leaves_nothing_running_and_the_next_one_starts(tmp_path: Path) -> None:
    async with developing(tmp_path, shell=True) as (screen, service):
        await screen.until("ready in")
        assert (200, "1") == await page(service, "/count")
        (pid,) = process.children(screen.process.pid)
        os.kill(pid, signal.SIGKILL)  # not the terminal's first process: its end would be a hangup for all others
        await screen.until("the shell goes on")
        await project.ensure_gone(tmp_path, but=screen.process.pid)
        screen.type("\n")
        await screen.ended()
    async with developing(tmp_path) as (screen, service):
        await screen.until("ready in")
        assert (200, "2") == await page(service, "/count")


async def test_a_taken_port_is_left_to_its_owner(tmp_path: Path) -> None:
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        taken = f"127.0.0.1:{owner.getsockname()[1]}"
        async with developing(tmp_path, "--listen", taken) as (screen, _):
            await screen.ended()
            assert 1 == screen.process.returncode
            assert f"{taken}: taken by another program" in screen.text
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        taken = f"127.0.0.1:{owner.getsockname()[1]}"
        (tmp_path / "tenfold.toml").write_text(TOPOLOGY.format(listen=taken))
        async with terminal.running([*TENFOLD, "dev"], tmp_path) as screen:
            await screen.until(f"{taken} is taken: using 127.0.0.1:")
            await screen.until("ready in")
            screen.type(terminal.CTRL_C)
            await screen.ended()


async def test_an_app_that_dies_is_said_and_started_by_the_next_change(tmp_path: Path) -> None:
    async with developing(tmp_path, app="import os\nos._exit(3)\n") as (screen, service):
        seen = await screen.until("the app's process ended with code 3")
        (tmp_path / "main.py").write_text(APP)
        await screen.until("ready in", after=seen)
        assert 200 == (await page(service))[0]


async def test_a_project_without_a_topology_is_told_what_to_do(tmp_path: Path) -> None:
    finished = await process.run([*TENFOLD, "dev"], directory=tmp_path, timeout_seconds=30)
    assert 2 == finished.code
    assert "tenfold init" in finished.output
