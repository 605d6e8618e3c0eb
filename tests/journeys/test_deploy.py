"""Releases under load: good, crashing and hanging ones, a canary, back again; a killed runtime; a vanished release.

0 failed requests each time, and whatever serves goes on serving until something better is ready.
"""

import asyncio
import collections
import json
import os
import random
import shutil
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from journeys import test_docs, test_runtime_dies
from support import project
from tenfold.kit import clock

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(290)]

RELEASE = """
@app.get("/release")
async def release() -> dict[str, str]:
    import os
    return {"release": os.environ["TENFOLD_RELEASE"], "mode": os.environ.get("MODE", ""), "code": "CODE"}
"""


def write_code(shop: project.Project, code: str) -> None:
    """The shop as it is, and a page that tells which release answers."""
    original = (project.SHOP / "shop" / "web.py").read_text()
    (shop.folder / "shop" / "web.py").write_text(original + RELEASE.replace("CODE", code))


async def answers(shop: project.Project, count: int = 12) -> collections.Counter[tuple[str, str, str]]:
    """Which (release, code, mode) answered how often; each question on a connection of its own."""

    def ask() -> tuple[str, str, str]:
        with urllib.request.urlopen(f"{shop.url}/release", timeout=10) as answer:
            told = json.loads(answer.read())
        return told["release"], told["code"], told["mode"]

    return collections.Counter([await asyncio.to_thread(ask) for _ in range(count)])


async def refused(shop: project.Project, *words: str, code: int = 1) -> str:
    """The output of a command that must fail in words."""
    finished = await shop.try_tenfold(*words)
    assert finished.code == code, finished.output
    return finished.output


def balanced(shop: project.Project) -> None:
    shop.edit(r"^servers = 1$", "servers = 2\n\n[balancer]\nservers = 2")


async def test_releases_take_each_others_place_under_load_and_bad_ones_leave_the_old_one_serving(
    tmp_path: Path,
) -> None:
    async with project.shop(tmp_path) as shop:
        balanced(shop)
        write_code(shop, "one")
        await shop.tenfold("up", "-d")
        async with shop.load(rate=100) as load:
            await good(shop)
            await crashing(shop)
            await crashing_on_the_second_server(shop)
            await never_ready(shop)
            await half_migrated(shop)
            await rolled_back(shop)
            await canary(shop)
            await with_a_web_server_that_dies_while_the_code_is_half_edited(shop)
        print(f"{load.report.total.to_dict()}, repeated {load.report.repeated}")
        await shop.ensure_nothing_lost(load.report)


async def good(shop: project.Project) -> None:
    assert {("1", "one", "")} == set(await answers(shop))
    write_code(shop, "two")
    shop.edit(r"^env = \{", 'env = { MODE = "new",')
    assert {("1", "one", "")} == set(await answers(shop)), "edited code must not serve by itself"
    began = time.monotonic()
    said = await shop.tenfold("deploy", "--version", "v2")
    print(f"a deploy to 2 web servers took {time.monotonic() - began:.1f} s")
    assert "release v2 serves" in said
    assert {("v2", "two", "new")} == set(await answers(shop))
    assert "Nothing to do: release v2" in await shop.tenfold("deploy")
    assert '"new"' not in (shop.folder / ".tenfold" / "events.jsonl").read_text()


async def crashing(shop: project.Project) -> None:
    before = shop.alive()
    shop.edit(r"\A", "raise RuntimeError('at import')\n", "shop/web.py")
    said = await refused(shop, "deploy")
    assert "RuntimeError: at import" in said
    assert "Release v2 serves on; put the code right, and try again." in said
    assert before == shop.alive()
    assert ["1", "v2"] == sorted(one.name for one in (shop.folder / ".tenfold" / "releases").iterdir())


async def crashing_on_the_second_server(shop: project.Project) -> None:
    """When the first one serves already: it goes back, too."""
    write_code(shop, "three")
    shop.edit(r"\A", "import os\nassert os.environ['TENFOLD_SERVER'] != 'web-2', 'not here'\n", "shop/web.py")
    said = await refused(shop, "deploy")
    assert "AssertionError: not here" in said
    assert "Release v2 serves on" in said
    assert {("v2", "two", "new")} == set(await answers(shop))


async def never_ready(shop: project.Project) -> None:
    before = shop.alive()
    write_code(shop, "three")
    shop.edit(r"\A", "import time\ntime.sleep(3600)\n", "shop/web.py")
    said = await refused(shop, "deploy")
    assert "rehearsal on web-1: not ready after 20 s" in said
    assert before == shop.alive()


async def half_migrated(shop: project.Project) -> None:
    before = shop.alive()
    write_code(shop, "three")
    bad = shop.folder / "migrations" / "20300101000000_bad.sql"
    bad.write_text("-- migrate:up\ncreate table half_done (id int);\nselect nonsense;\n-- migrate:down\n")
    said = await refused(shop, "deploy")
    assert f"{bad}: " in said
    assert "nothing of this file was done" in said
    bad.write_text("-- migrate:up\ncreate table half_done (id int);\n-- migrate:down\n")
    assert before == shop.alive()
    await shop.tenfold("deploy", "--version", "v3")
    assert {("v3", "three", "new")} == set(await answers(shop))


async def rolled_back(shop: project.Project) -> None:
    assert "migrations are not undone" in await shop.tenfold("deploy", "--rollback", "--to", "1")
    assert {("1", "one", "")} == set(await answers(shop)), "the variables go back, too"
    assert "Nothing to do" in await shop.tenfold("apply", "--yes"), "what was rolled back must not come back by itself"


async def canary(shop: project.Project) -> None:
    write_code(shop, "four")
    said = await shop.tenfold("deploy", "--version", "v4", "--canary", "20%")
    assert "release v4 gets 20% of the requests" in said
    found = await answers(shop, 100)
    assert 5 <= found["v4", "four", "new"] <= 40, "by weights, beside other requests"
    before = await serving(shop)
    assert 0 == before["v4"]["errors"] == before["1"]["errors"]
    shop.kill_runtime()
    os.kill(await shop.pid("web-2", "granian"), signal.SIGKILL)
    await shop.tenfold("up", "-d")
    await serves_again(shop, "web-2")

    after = await serving(shop)
    assert (["web-1"], ["web-2"]) == (after["1"]["servers"], after["v4"]["servers"])
    assert "release v4 is a canary for 20% of the requests" in await refused(shop, "deploy", code=2)
    await shop.tenfold("deploy", "--rollback")
    assert {"1"} == {release for release, _, _ in await answers(shop)}
    await shop.tenfold("deploy", "--canary", "20%")
    await shop.tenfold("deploy", "--promote")
    assert {"four"} == {code for _, code, _ in await answers(shop)}


async def serving(shop: project.Project) -> dict[str, dict[str, Any]]:
    """By release, what serves it and how."""
    said = json.loads(await shop.tenfold("deploy", "--status", "--json"))
    return {one["release"]: one for one in said["serving"]}


async def with_a_web_server_that_dies_while_the_code_is_half_edited(shop: project.Project) -> None:
    (shop.folder / "shop" / "web.py").write_text("def half(")
    os.kill(await shop.pid("web-2", "granian"), signal.SIGKILL)
    await serves_again(shop, "web-2")
    assert {"four"} == {code for _, code, _ in await answers(shop)}


async def serves_again(shop: project.Project, server: str) -> None:
    async def look() -> bool:
        found = next(one for one in (await shop.status())["servers"] if one["name"] == server)
        return "ready" == next(one["state"] for one in found["processes"] if one["name"] == "granian")

    assert await clock.until(look, seconds=30, pause_seconds=0.3)


async def test_a_runtime_killed_in_the_middle_of_a_deploy_is_followed_by_one_that_ends_it(
    tmp_path: Path, chance: random.Random
) -> None:
    """With the new code in the folder the deploy is finished, with the old code there it is undone."""
    async with project.shop(tmp_path) as shop:
        balanced(shop)
        write_code(shop, "one")
        await shop.tenfold("up", "-d")
        async with shop.load(rate=40) as load:
            for put_back, expected in ((False, "two"), (True, "two"), (False, "three")):
                write_code(shop, "three" if expected == "three" or put_back else "two")
                await test_runtime_dies.kill_in_step(shop, ("deploy",), 1, chance.uniform(0.0, 4.0))
                if put_back:
                    write_code(shop, "two")
                await shop.tenfold("up", "-d")
                assert {expected} == {code for _, code, _ in await answers(shop)}
                assert "Nothing to do" in await shop.tenfold("plan")
        await shop.ensure_nothing_lost(load.report)


async def test_a_release_that_vanishes_is_named_and_a_deploy_makes_another_one(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        balanced(shop)
        write_code(shop, "one")
        await shop.tenfold("up", "-d")
        assert "no runtime answers" not in await shop.tenfold("deploy", "--status")
        gone = shop.folder / ".tenfold" / "releases" / "1"
        shutil.rmtree(gone)
        assert {"one"} == {code for _, code, _ in await answers(shop)}

        os.kill(await shop.pid("web-2", "granian"), signal.SIGKILL)
        events = shop.folder / ".tenfold" / "events.jsonl"
        words = f"granian on web-2 cannot start: release 1 is gone, {gone} not found."

        async def is_said() -> bool:
            return words in events.read_text()

        assert await clock.until(is_said, seconds=10)
        assert {"one"} == {code for _, code, _ in await answers(shop)}
        said = await refused(shop, "grow", "--yes", code=2)
        assert f"release 1: its folder {gone} is gone; make a release of the code as it is now: tenfold deploy" in said
        assert "balanced" == (await shop.status())["rung"]
        await shop.tenfold("deploy")
        assert {("2", "one", "")} == set(await answers(shop))

        shop.kill_runtime()
        assert "start it with: tenfold up -d" in await refused(shop, "deploy")
        assert "release sale serves" in await test_docs.run_all(project.ROOT / "docs" / "deploy.md", shop.folder)
