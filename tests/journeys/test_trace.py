"""`tenfold trace` on the shop with replicas: the request that met a power cut shows what it waited for."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from support import project
from tenfold.kit import clock

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

REPEATS = 150
WAITS = ("primary", "node")
"""A login first reads from the primary and then writes: either may be what meets the cut."""

SIGN_UP = '{"email": "ann@shop.test", "password": "horse-battery-staple", "name": "Ann"}'


async def test_a_trace_during_a_power_cut_of_the_primary_shows_the_wait(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        await shop.tenfold("up", "-d")
        await shop.tenfold("grow", "--to", "replicated", "--yes")
        first = await shop.tenfold("trace", "/api/signup", "-d", SIGN_UP, "--cookies", "jar")
        assert "committed at 0.1." in first
        assert "HTTP 201" in first

        lost = await shop.primary()

        traced = asyncio.create_task(_write_again_and_again(shop))
        assert await clock.until(lambda: _has_begun(shop), seconds=30, pause_seconds=0.01)
        await _cut(shop, lost)
        found = await traced

    assert REPEATS == len(found)
    assert {200} == {one["status"] for one in found}
    waits = [span for one in found for span in _walk(one["trace"]) if span["kind"] == "wait" and span["name"] in WAITS]
    assert waits, "no request met the power cut"
    assert max(one["duration_ms"] for one in waits) > 20
    assert any(lost in one["decision"] for one in waits)
    assert {"committed"} == {
        span["decision"].partition(" ")[0] for span in _walk(found[-1]["trace"]) if span["kind"] == "commit"
    }


async def _write_again_and_again(shop: project.Project) -> list[dict[str, Any]]:
    """One login after the other; each writes."""
    words = ("/api/login", "-d", SIGN_UP, "--cookies", "jar", "--json", "--repeat", str(REPEATS))
    return [json.loads(line) for line in (await shop.tenfold("trace", *words)).splitlines()]


async def _has_begun(shop: project.Project) -> bool:
    return any("traced: POST /api/login" in log.read_text() for log in shop.folder.rglob("granian.log"))


async def _cut(shop: project.Project, server: str) -> None:
    """At once: a command of its own would take longer than the requests."""
    machine = shop.records.servers[server].enclosure
    assert machine is not None
    assert await machine.cut()


def _walk(span: dict[str, Any]) -> list[dict[str, Any]]:
    return [span, *(found for child in span["children"] for found in _walk(child))]
