"""A user's project with tests, and pytest run in it as a user runs it: a process of its own."""

import asyncio
import os
import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from support import processes
from tenfold.kit import process

TOPOLOGY = """
[service]
name = "notes"
app  = "web:app"
env  = { GREETING = "hello" }
"""

MIGRATION = """
-- migrate:up
create table note (id bigint generated always as identity, text text not null);
insert into note (text) values ('from the migration');

-- migrate:down
drop table note;
"""

BACKEND = """
import pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""

APP = '''
"""A small app whose lifespan reads the database, and whose visitors have sessions."""
import os
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from tenfold import Tenfold

GREETING = os.environ["GREETING"]
tf = Tenfold()

@asynccontextmanager
async def lifespan(app):
    app.state.at_start = await tf.db.fetchval("select count(*) from note")
    yield

async def insert(tx, text):
    await tx.execute("insert into note (text) values ($1)", text)

async def write(request):
    await tf.db.run(insert, (await request.body()).decode())
    session = await tf.session(request)
    if session.is_new:
        session.login("Ada")
    return PlainTextResponse("", 201)

async def read(request):
    rows = await tf.db.fetch("select text from note order by id")
    return JSONResponse([row["text"] for row in rows])

async def about(request):
    session = await tf.session(request)
    return JSONResponse({"who": session.principal, "at_start": request.app.state.at_start,
                         "greeting": GREETING})

app = Starlette(routes=[Route("/notes", write, methods=["POST"]), Route("/notes", read), Route("/about", about)],
                lifespan=lifespan)
'''


NOTE = """
import os
from pathlib import Path
import pytest

@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    if "TENFOLD_BINDINGS" in os.environ:
        with (config.rootpath / "folders").open("a") as file:
            print(Path(os.environ["TENFOLD_BINDINGS"]).parent, file=file)
"""


@dataclass(frozen=True)
class Outcome:
    """How a run of pytest ended."""

    code: int
    output: str

    def tests(self, word: str) -> list[str]:
        """Names of the tests that PASSED, FAILED, or ended in an ERROR."""
        return sorted(re.findall(rf"^{word} \S+::(\S+)", self.output, re.MULTILINE))


def make(folder: Path, tests: str, *, name: str = "test_it.py", configuration: str = "") -> None:
    """A project in this folder: the app above, its migration, and these tests."""
    for path, text in {
        "tenfold.toml": TOPOLOGY,
        "migrations/20260101000000_note.sql": MIGRATION,
        "web.py": APP,
        "conftest.py": NOTE,
        "pytest.ini": "[pytest]\nfilterwarnings = error\n" + configuration,
        f"tests/{name}": tests,
    }.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(textwrap.dedent(text).lstrip())


def command(*arguments: str, has_pytest_asyncio: bool = False) -> list[str]:
    """pytest without what only this repository has installed."""
    absent = ("cacheprovider", "faker", "hypothesispytest", *(() if has_pytest_asyncio else ("asyncio",)))
    quiet = [word for name in absent for word in ("-p", f"no:{name}")]
    return [sys.executable, "-m", "pytest", "-rA", "--tb=short", *quiet, *arguments]


def environment(**added: str) -> dict[str, str]:
    """That of a user's shell: without what this run's own plugins put there."""
    dropped = ("PYTEST_", "TENFOLD_", "DATABASE_URL", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)} | added


async def run(folder: Path, *arguments: str, has_pytest_asyncio: bool = False, **variables: str) -> Outcome:
    """pytest in this folder, to its end."""
    started = await asyncio.create_subprocess_exec(
        *command(*arguments, has_pytest_asyncio=has_pytest_asyncio),
        cwd=folder,
        env=environment(**variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(started.communicate(), 200)
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()
    return Outcome(started.returncode or 0, output.decode())


def left_behind(folder: Path) -> list[Path]:
    """The folders that pytest's runs in this project have used, as far as they are there still."""
    noted = folder / "folders"
    return [path for line in noted.read_text().splitlines() if (path := Path(line)).exists()] if noted.exists() else []


def servers(folder: Path) -> list[process.Identity]:
    """The processes of PostgreSQL of pytest's runs in this project."""
    return processes.running_in(*left_behind(folder))
