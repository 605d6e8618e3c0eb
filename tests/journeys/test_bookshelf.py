"""The example with SQLAlchemy models on rung 4: the primary's server loses its power under load, and nobody notices."""

from pathlib import Path

import httpx
import pytest

from support import project
from tenfold import traffic
from tenfold.kit import clock

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(290)]

BOOKSHELF = project.ROOT / "examples" / "bookshelf"
MOST_GAP_SECONDS = 3.0


async def test_the_primarys_power_is_cut_under_load_and_no_request_fails(tmp_path: Path) -> None:
    async with project.shop(tmp_path, BOOKSHELF) as shelf:
        await shelf.tenfold("up", "-d")
        await shelf.tenfold("grow", "--to", "replicated", "--yes")
        async with shelf.load(rate=60) as load:
            assert await clock.until(lambda: has_seen(load, 150), seconds=20)
            old = await shelf.primary()
            await shelf.tenfold("server", "kill", old)
            assert await clock.until(lambda: is_another_primary(shelf, old), seconds=30)
            seen = load.report.requests
            assert await clock.until(lambda: has_seen(load, seen + 300), seconds=30)
        report = load.report
        print(f"{report.total.to_dict()}, gap between writes {report.longest_write_gap_seconds:.2f} s")
        await shelf.ensure_nothing_lost(report)
        assert report.longest_write_gap_seconds <= MOST_GAP_SECONDS

        await title_is_corrected_by_a_plain_session(shelf)


async def has_seen(load: traffic.Load, count: int) -> bool:
    return load.report.requests >= count


async def is_another_primary(shelf: project.Project, old: str) -> bool:
    nodes = [one["database"] for one in (await shelf.status())["servers"] if one["database"]]
    return any(one["server"] != old and one["role"] == "primary" and one["accepts_writes"] for one in nodes)


async def title_is_corrected_by_a_plain_session(shelf: project.Project) -> None:
    """Every web process: none of their pools is stuck. The commit is there before the response is."""
    async with httpx.AsyncClient(base_url=shelf.url) as client:
        book = (await client.get("/books")).json()[0]
        for number in range(20):
            answer = await client.put(f"/books/{book['id']}/title", params={"title": f"Corrected {number}"})
            assert 200 == answer.status_code
            assert "X-Tenfold-Position" in answer.headers, "it was committed before the response began"
            assert f"Corrected {number}" == (await client.get(f"/books/{book['id']}")).json()["title"]
