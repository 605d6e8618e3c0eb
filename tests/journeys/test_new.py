"""A newcomer's first minutes: `tenfold new`, `tenfold up`, a page, some load, and a ledger without a stain."""

import asyncio
import re
import shutil
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support import inner_pytest, project

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[project.Project]:
    """The project in this folder, up, behind a front door of its own."""
    listen = f"127.0.0.1:{project.free_port()}"
    topology = folder / "tenfold.toml"
    kept = [line for line in topology.read_text().splitlines() if not line.startswith("listen")]
    topology.write_text("\n".join(kept).replace("[service]", f'[service]\nlisten = "{listen}"'))
    made = project.Project(folder, listen)
    try:
        await made.tenfold("up", "-d")
        yield made
    finally:
        await made.try_tenfold("down", "--delete-data", "--yes")
        await project.ensure_gone(folder)


async def page(url: str, **form: str) -> str:
    """The page at the end of the redirects, as a browser gets it; with a form, after sending it."""

    def ask() -> str:
        body = urllib.parse.urlencode(form).encode() if form else None
        with urllib.request.urlopen(url, body, timeout=10) as answer:
            assert answer.status == 200
            return str(answer.read().decode())

    return await asyncio.to_thread(ask)


async def test_a_new_service_runs_at_once_and_keeps_every_write(tmp_path: Path) -> None:
    made = await project.Project(tmp_path, "").tenfold("new", "my-shop")
    assert "cd my-shop" in made
    async with running(tmp_path / "my-shop") as service:
        assert "No notes yet." in await page(service.url)
        assert "bread &lt;and&gt; milk" in await page(service.url, text="bread <and> milk")
        ledger = tmp_path / "run.ledger"
        await service.tenfold("load", "--rate", "30", "--for", "3s", "--ledger", str(ledger))
        verdict = await service.tenfold("load", "--verify", str(ledger))
        assert "every acknowledged write is there exactly once" in verdict


async def test_a_new_service_passes_its_own_tests_and_those_of_the_docs(tmp_path: Path) -> None:
    await project.Project(tmp_path, "").tenfold("new", "my-shop")
    shown = re.findall(r"^```python\n(.*?)^```$", (project.ROOT / "docs" / "testing.md").read_text(), re.M | re.S)
    examples = "".join(text for text in shown if "async def test_" in text)
    (tmp_path / "my-shop" / "tests" / "test_docs.py").write_text(examples)
    ended = await inner_pytest.run(tmp_path / "my-shop")
    assert (0, 5 + 4) == (ended.code, len(ended.tests("PASSED"))), ended.output


async def test_the_guestbook_of_the_readme_runs(tmp_path: Path) -> None:
    folder = tmp_path / "guestbook"
    shutil.copytree(project.ROOT / "examples" / "guestbook", folder, ignore=shutil.ignore_patterns(".tenfold"))
    assert len((folder / "web.py").read_text().splitlines()) <= 30
    async with running(folder) as service:
        await page(service.url, name="Ada <Lovelace>")
        assert "<li>Ada &lt;Lovelace&gt;" in await page(service.url)
