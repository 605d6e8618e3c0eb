"""A Django project on rung 4: its primary's server loses its power under load. docs/django.md says what it shows."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from support import project
from tenfold import traffic
from tenfold.kit import clock, process

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

POLLS = project.ROOT / "tests" / "apps" / "polls"
PLAIN = "counts, not repeated"


async def test_views_that_are_repeated_survive_the_primarys_server(tmp_path: Path) -> None:
    async with project.shop(tmp_path, POLLS) as polls:
        await _collect_static_files(polls)
        await polls.tenfold("up", "-d")
        await polls.tenfold("run", "--", "python", "manage.py", "migrate", "--no-input")
        await _ensure_pages_work(polls)
        async with polls.load(rate=40) as load:
            assert await clock.until(lambda: _has_written(load, 20), seconds=30)
            await polls.tenfold("server", "kill", await polls.primary())
            enough = load.report.writes_acknowledged + 30
            assert await clock.until(lambda: _has_written(load, enough), seconds=60)

        failed = [one for one in _requests(polls.ledger) if one.get("reason")]
        longest, gap = load.report.total.longest_seconds, load.report.longest_write_gap_seconds
        print(f"{load.report.requests} requests, longest {longest:.2f} s, no write for {gap:.2f} s")
        print(f"{len(failed)} that are not repeated failed, within {_span(failed):.2f} s")
        assert {PLAIN} >= {one["name"] for one in failed}, failed
        assert 0 == load.report.stale_reads
        await polls.tenfold("load", "--verify", str(polls.ledger))
        assert load.report.writes_acknowledged == await _tally(polls), "each vote was counted once"


def test_what_the_page_shows_is_what_was_tried() -> None:
    page = (project.ROOT / "docs" / "django.md").read_text()
    shown = re.findall(r"^```python\n# (\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)

    assert len(shown) >= 4
    for path, code in shown:
        assert code.strip() in (POLLS / path).read_text(), path


async def _collect_static_files(polls: project.Project) -> None:
    argv = [sys.executable, "manage.py", "collectstatic", "--no-input"]
    finished = await process.run(argv, directory=polls.folder, timeout_seconds=30)
    assert finished.code == 0, finished.output


async def _ensure_pages_work(polls: project.Project) -> None:
    async with httpx.AsyncClient(base_url=polls.url) as browser:
        page = await browser.get("/polls/")
        style = re.search(r'href="(/static/[^"]+)"', page.text)
        assert style is not None
        assert "font-family" in (await browser.get(style[1])).text
        assert 400 == (await browser.get("/polls/", headers={"host": "elsewhere.test"})).status_code
        assert (await browser.get("/polls/1/counts/")).json() == {"Tea": 0, "Coffee": 0}


async def _has_written(load: traffic.Load, count: int) -> bool:
    return load.report.writes_acknowledged >= count


def _requests(ledger: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in ledger.read_text().splitlines()]
    return [one for one in found if one["record"] == "request"]


def _span(failed: list[dict[str, Any]]) -> float:
    """Seconds from the first failure to the last."""
    ends = [one["intended"] + one["latency"] for one in failed]
    return float(max(ends) - min(ends)) if ends else 0.0


async def _tally(polls: project.Project) -> int:
    """The sum of what stands beside the choices."""
    async with httpx.AsyncClient(base_url=polls.url) as browser:
        return sum((await browser.get("/polls/1/counts/")).json().values())
