"""An app that is there already: `tenfold init`, `tenfold up`, the first page. No line of its code changes."""

import asyncio
import hashlib
import json
import os
import shutil
import sys
import sysconfig
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support import project, terminal

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

APPS = project.ROOT / "tests" / "apps"
SECRET = "opensesame-4711"

SCRIPT = """
import asyncio, os
import asyncpg
from tenfold import Tenfold

async def main():
    tf = Tenfold()
    async with tf:
        print(await tf.db.fetchval("select count(*) from task"))
    connection = await asyncpg.connect()
    print(await connection.fetchval("select title from task"))
    await connection.close()
    import todo.main

asyncio.run(main())
"""

ALEMBIC = {
    "alembic.ini": "[alembic]\nscript_location = alembic\n",
    "alembic/env.py": """
import os
from alembic import context
from sqlalchemy import create_engine
with create_engine(os.environ["DATABASE_URL"].replace("+asyncpg", "+psycopg")).begin() as connection:
    context.configure(connection=connection)
    context.run_migrations()
""",
    "alembic/versions/one.py": """
from alembic import op
revision, down_revision = "one", None
def upgrade():
    op.execute("alter table task add colour text")
""",
}


@asynccontextmanager
async def adopted(folder: Path, app: str) -> AsyncIterator[project.Project]:
    """A copy of the app, a service by `tenfold init`; at its end the code is as it was."""
    target = folder / app
    shutil.copytree(APPS / app, target, ignore=shutil.ignore_patterns("__pycache__"))
    (target / ".git").mkdir()
    before = digests(target)
    service = project.Project(target, f"127.0.0.1:{project.free_port()}")
    assert "tenfold up" in await service.tenfold("init")
    service.edit(r"^listen +=.*$", f'listen = "{service.listen}"')
    try:
        yield service
        assert before.items() <= digests(target).items()
    finally:
        await service.try_tenfold("down", "--delete-data", "--yes")
        await project.ensure_gone(target)


def digests(folder: Path) -> dict[str, str]:
    """Every file that is the app's own, with its content's hash."""
    files = [one for one in folder.rglob("*") if one.is_file() and ".tenfold" not in one.parts]
    return {str(one): hashlib.sha256(one.read_bytes()).hexdigest() for one in files}


async def ask(url: str, body: bytes | None = None, kind: str = "application/json") -> str:
    def send() -> str:
        request = urllib.request.Request(url, body, {"Content-Type": kind} if body else {})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return str(answer.read().decode())

    return await asyncio.to_thread(send)


async def test_a_todo_list_with_sqlalchemy_runs_and_its_tools_find_its_database(tmp_path: Path) -> None:
    async with adopted(tmp_path, "todo") as service:
        again = await service.try_tenfold("init")
        assert (2, True) == (again.code, "exists already, nothing is changed" in again.output)
        await service.tenfold("up", "-d")
        assert {"open": 0, "done": 0} == json.loads(await ask(service.url))
        made = json.loads(await ask(f"{service.url}/tasks", b'{"title": "bread"}'))
        assert "bread" == made["title"]

        assert "bread" == (await service.tenfold("run", "psql", "-Atc", "select title from task")).strip()
        service.kill_runtime()
        (service.folder / "script.py").write_text(SCRIPT)
        assert ["1", "bread"] == (await service.tenfold("run", "--", "python", "script.py")).split()
        for name, text in ALEMBIC.items():
            (service.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (service.folder / name).write_text(text)
        await service.tenfold("run", "alembic", "upgrade", "head")
        assert "colour" in await service.tenfold("run", "--", "psql", "-c", "\\d task")

        assert 7 == (await service.try_tenfold("run", "--", "sh", "-c", "exit 7")).code
        assert -15 == (await service.try_tenfold("run", "--", "sh", "-c", "kill -TERM $$")).code
        missing = await service.try_tenfold("run", "no-such-command")
        assert (127, True) == (missing.code, "no-such-command: no such command" in missing.output)
        async with terminal.running(
            [sys.executable, "-m", "tenfold.cli", "run"], service.folder, SHELL="/bin/sh", PAGER="cat"
        ) as screen:
            screen.type("psql -Atc 'select upper(title) from task'\n")
            await screen.until("BREAD")
            screen.type("exit 5\n")
            await screen.ended()
            assert 5 == screen.process.returncode

        await service.tenfold("up", "-d")
        await service.tenfold("grow", "--to", "database", "--yes")
        assert {"open": 1, "done": 0} == json.loads(await ask(service.url)), "the address is right on every rung"
        assert "bread" == (await service.tenfold("run", "psql", "-Atc", "select title from task")).strip()
        await service.tenfold("down")
        stopped = await service.try_tenfold("run", "true")
        assert (1, True) == (stopped.code, "tenfold up -d" in stopped.output)


async def test_recipes_in_a_src_layout_run_and_their_secret_is_nowhere(tmp_path: Path) -> None:
    async with adopted(tmp_path, "recipes") as service:
        said = [await service.tenfold("up", "-d")]
        form = urllib.parse.urlencode({"title": "soup & salt", "steps": "boil"}).encode()
        page = await ask(f"{service.url}/recipes", form, "application/x-www-form-urlencoded")
        assert "Grandmother&#39;s kitchen" in page
        assert "soup &amp; salt" in page
        for words in (("status", "--json"), ("plan", "--to", "balanced"), ("events",), ("logs",)):
            said.append(await service.tenfold(*words))
        (service.folder / "src" / "recipes" / "settings.py").write_text(
            (text := (service.folder / "src" / "recipes" / "settings.py").read_text()) + "\nraise RuntimeError('no')\n"
        )
        said.append((await service.try_tenfold("apply", "--yes")).output)
        assert "RuntimeError" in said[-1]
        (service.folder / "src" / "recipes" / "settings.py").write_text(text)

        password = json.loads((service.folder / ".tenfold" / "secrets.json").read_text())["app"]
        assert SECRET in (service.folder / ".tenfold" / "state.json").read_text(), "the search below would find it"
        for secret in (SECRET, password):
            assert [] == [text for text in said if secret in text]
            assert [] == readable_files_with(service.folder / ".tenfold", secret)
        assert [] == [line for line in command_lines() if SECRET in line or password in line]


def readable_files_with(folder: Path, secret: str) -> list[Path]:
    """Files that hold it and that others than their owner may read; and whatever is a log."""
    found = []
    for path in folder.rglob("*"):
        is_private = path.is_file() and path.stat().st_mode & 0o077 == 0
        is_text = path.is_file() and (not is_private or path.suffix in (".log", ".jsonl", ".toml"))
        if is_text and "data" not in path.parts and path.name != ".env" and secret.encode() in path.read_bytes():
            found.append(path)
    return found


def command_lines() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                found.append((entry / "cmdline").read_bytes().decode(errors="replace"))
            except OSError:
                continue
    return found


APP = """
import only_there

async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": only_there.WORD.encode()})
"""


async def test_an_app_with_an_environment_of_its_own_runs_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "main.py").write_text(APP)
    service = project.Project(folder, f"127.0.0.1:{project.free_port()}")
    created = await asyncio.create_subprocess_exec(sys.executable, "-m", "venv", "--without-pip", str(folder / ".venv"))
    assert 0 == await created.wait()
    (packages,) = (folder / ".venv" / "lib").glob("python*/site-packages")
    (packages / "only_there.py").write_text("WORD = 'from there'\n")

    refused = await service.try_tenfold("init")
    assert 2 == refused.code
    assert f"type: {folder}/.venv/bin/python -m pip install tenfold" in refused.output
    assert not (folder / "tenfold.toml").exists()

    # What `pip install tenfold` does, without a registry.
    (packages / "tenfold.pth").write_text(f"{sysconfig.get_path('purelib')}\n{project.ROOT / 'src'}\n")
    assert "It runs with .venv/bin/python" in await service.tenfold("init")
    service.edit(r"^listen +=.*$", f'listen = "{service.listen}"')
    try:
        await service.tenfold("up", "-d")
        assert "from there" == await ask(service.url)
        service.edit(r"^python +=.*$", "")
        failed = await service.try_tenfold("apply", "--yes")
        assert 1 == failed.code
        assert 'write python = ".venv/bin/python" into [service]' in failed.output
        assert "from there" == await ask(service.url), "the old keeps serving"
        service.edit(r"^\[service\]", '[service]\npython = ".venv/bin/nothing"')
        failed = await service.try_tenfold("apply", "--yes")
        assert (2, True) == (failed.code, ".venv/bin/nothing is not there" in failed.output)
    finally:
        await service.try_tenfold("down", "--delete-data", "--yes")
        await project.ensure_gone(folder)
