"""What the pytest plugin costs: 100 database tests of a scaffolded app, the start of PostgreSQL, a clone for each test.

    python benchmarks/testing.py [--tests 100] [--workers 2]

Each test writes through the app, reads its page, and counts the rows: three requests to a database of its own. The
seconds are those of the whole pytest process, from its start to its end. The parts are measured by themselves
afterwards, as the plugin does them.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tenfold.runtime import lone_database, shared_database
from tenfold.testing import databases, setting
from tenfold.topology import load

HEAD = """
import uuid
import pytest

pytestmark = pytest.mark.anyio
"""

TEST = """

async def test_note_{number}(client, tf):
    note = {{"text": "note {number}", "reference": str(uuid.uuid4())}}
    assert (await client.post("/api/notes", json=note)).status_code == 201
    assert "note {number}" in (await client.get("/")).text
    assert await tf.db.fetchval("select count(*) from note") == 1
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    print(f"load average before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="tenfold-bench-") as name:
        app = scaffold(Path(name), asked.tests)
        print(f"one test alone:          {pytest_seconds(app, '-k', 'test_note_1'):5.1f} s")
        print(f"{asked.tests} tests:               {pytest_seconds(app):5.1f} s")
        print(
            f"{asked.tests} tests, {asked.workers} workers:    {pytest_seconds(app, '-n', str(asked.workers)):5.1f} s"
        )
        asyncio.run(parts(app))
    print(f"load average after: {os.getloadavg()[0]:.1f}")


def scaffold(folder: Path, count: int) -> Path:
    """A new service with so many tests more."""
    subprocess.run(
        [Path(sys.executable).parent / "tenfold", "new", "notes"], cwd=folder, check=True, capture_output=True
    )
    tests = folder / "notes" / "tests"
    (tests / "test_notes.py").unlink()
    (tests / "test_many.py").write_text(HEAD + "".join(TEST.format(number=number) for number in range(count)))
    return folder / "notes"


def pytest_seconds(app: Path, *arguments: str) -> float:
    """How long pytest takes, from its start to its end, with the plugins that a new service has."""
    quiet = ("-q", "-p", "no:faker", "-p", "no:hypothesispytest", "-p", "no:asyncio")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "pytest", *quiet, *arguments]
    began = time.perf_counter()
    subprocess.run(command, cwd=app, env=env, check=True, capture_output=True)
    return time.perf_counter() - began


async def parts(app: Path) -> None:
    """PostgreSQL, its template, and clones: those that were made while the last test ran, and those that were not."""
    folder = Path(tempfile.mkdtemp(prefix="tenfold-bench-", dir=setting.fast_folder()))
    began = time.perf_counter()
    server = await shared_database.join(folder, load.load(app / "tenfold.toml"))
    print(f"PostgreSQL started:      {time.perf_counter() - began:5.2f} s")
    recipe = databases.Recipe("notes", app / "migrations", prepare(app))
    made = databases.Databases(server, recipe)
    began = time.perf_counter()
    await made.take()
    print(f"template migrated:       {time.perf_counter() - began:5.2f} s")
    for word, is_ahead in (("not ahead", False), ("made ahead", True)):
        taken = [await turn(made, is_ahead=is_ahead) for _ in range(30)]
        print(f"fresh database, {word}: median {statistics.median(taken):5.1f} ms, worst {max(taken):5.1f} ms")
    await made.close()
    await server.leave()


def prepare(app: Path) -> databases.Prepare:
    """Migrates as the plugin does."""

    async def migrate(place: lone_database.Place, name: str) -> None:
        await place.migrate(app / "migrations", name)

    return migrate


async def turn(made: databases.Databases, *, is_ahead: bool) -> float:
    """Milliseconds that one test waits for its database and for its end; a test of 50 ms lies between."""
    if is_ahead:
        made.prepare_next()
        await asyncio.sleep(0.05)
    began = time.perf_counter()
    await made.give_back()
    await made.take()
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
