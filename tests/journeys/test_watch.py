"""Watching a service: the screen, the events and the figures while a replica and the runtime die and come back."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support import project, terminal
from tenfold import bindings
from tenfold.kit import clock

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

TENFOLD = [sys.executable, "-m", "tenfold.cli"]
SCREEN = {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
AGAIN = "\x1b[H"
"""The cursor goes home: a new picture begins."""


async def test_the_screen_and_the_events_outlive_a_replica_and_the_runtime(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        shop.edit(r"^servers = 1$", "servers = 1\nworkers_per_server = 2")
        shop.edit(r"^\[database\]$", '[database]\nreplicas = 1\nplacement = "own"')
        await shop.tenfold("up", "-d")
        async with (
            terminal.running([*TENFOLD, "status", "--watch"], shop.folder, **SCREEN) as screen,
            terminal.running([*TENFOLD, "events", "-f"], shop.folder, COLUMNS="160") as events,
        ):
            await screen.until("replica")
            at = await _killed(shop, screen, events)
            await _runtime_gone_and_back(shop, screen, events, at)
            screen.type("q")
            await screen.ended()
            assert 0 == screen.process.returncode
            assert screen.text.rstrip().endswith("\x1b[?1049l"), "the terminal is as it was"
        await _figures(shop)


async def _killed(shop: project.Project, screen: terminal.Terminal, events: terminal.Terminal) -> int:
    """A killed replica is on the screen, as a state and as a sentence, and among the events."""
    before = len(screen.look())
    await shop.tenfold("server", "kill", "database-2")
    at = await screen.until("killed", after=before)
    await screen.until("! database-2 was killed", after=before)
    await events.until("server database-2 has no power")
    assert ["no_synchronous_standby"] not in await _codes(shop)
    assert "server_killed" in await _codes(shop)
    return at


async def _runtime_gone_and_back(
    shop: project.Project, screen: terminal.Terminal, events: terminal.Terminal, at: int
) -> None:
    """Without a runtime the screen goes on and says so; with a new one it goes on without a word, as events do."""
    shop.kill_runtime()
    at = await screen.until("no runtime runs; what runs keeps serving", after=at)
    again = await screen.until(AGAIN, after=at)
    await screen.until("database-1", after=again)
    await shop.tenfold("up", "-d")
    await shop.tenfold("server", "start", "database-2")
    await events.until("server database-2 has power")

    def is_calm() -> bool:
        frame = screen.look().split(AGAIN)[-2]
        return "database-2" in frame and "no runtime" not in frame and "killed" not in frame

    assert await clock.until(_async(is_calm), seconds=60, pause_seconds=0.2), screen.text[-3000:]


async def _figures(shop: project.Project) -> None:
    """Requests are counted, by both workers of the web server; and nobody outside can read where."""
    key = bindings.private_key(bindings.load(shop.folder / ".tenfold" / "bindings.json").service.secret)
    async with aiohttp.ClientSession(headers={"Tenfold-Key": key}) as client:
        async with client.get(f"{shop.url}/-/load") as answer:
            assert 404 == answer.status
        figures: dict[str, Any] = {}

        async def is_counted() -> bool:
            await asyncio.gather(*(_get(client, f"{shop.url}/products") for _ in range(20)))
            figures.update((await shop.status())["traffic"])
            return (
                figures["workers_heard"] == 2
                and figures["requests_per_second"] > 0
                and bool(figures["p95_milliseconds"])
            )

        assert await clock.until(is_counted, seconds=60, pause_seconds=0), figures
    assert 0 == figures["answers_5xx_per_second"]
    assert [] == await _codes(shop)


async def _get(client: aiohttp.ClientSession, url: str) -> None:
    async with client.get(url) as answer:
        await answer.read()


async def _codes(shop: project.Project) -> list[str]:
    return [one["code"] for one in (await shop.status())["conditions"]]


def _async(look: Any) -> Any:
    async def looked() -> bool:
        return bool(look())

    return looked


async def test_a_runtime_that_died_long_ago_is_no_hindrance_to_events(tmp_path: Path) -> None:
    (tmp_path / "tenfold.toml").write_text('[service]\nname = "shop"\napp = "a:b"\n')
    state = tmp_path / ".tenfold"
    state.mkdir()
    (state / "state.json").write_text("{}")
    (state / "events.jsonl").write_text('{"at":1,"kind":"a","text":"the first"}\n{"at":2,"ki')
    async with terminal.running([*TENFOLD, "events", "-f"], tmp_path, COLUMNS="100") as events:
        await events.until("the first")
        with (state / "events.jsonl").open("a") as file:
            file.write('nd":"b","text":"the second"}\n')
        await events.until("the second")
        os.killpg(events.process.pid, 2)
        await events.ended()
        assert 130 == events.process.returncode
