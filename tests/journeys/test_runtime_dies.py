"""The runtime is killed at any moment: the service never notices, and the next runtime adopts and finishes."""

import asyncio
import random
import sys
from pathlib import Path

import pytest

from support import project
from tenfold import errors, traffic
from tenfold.kit import clock, process
from tenfold.runtime import client, paths

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(290)]


async def test_a_killed_runtime_is_not_noticed_and_nothing_is_started_twice(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        await shop.tenfold("up", "-d")
        async with shop.load(rate=50) as load:
            before = shop.alive()
            shop.kill_runtime()
            await asyncio.sleep(2)  # two seconds of traffic without a runtime: time is the point here
            assert before == shop.alive()
            assert (await shop.status())["runtime"] == "not running"
            await shop.tenfold("up", "-d")
            assert before == shop.alive()
        await shop.ensure_nothing_lost(load.report)


OTHER_VERSION = """
import asyncio, sys
from pathlib import Path
from tenfold.runtime import client, daemon, paths
client.own_version = lambda: "0.0.9"
asyncio.run(daemon._detached_main(paths.Paths(Path(sys.argv[1]))))
"""


async def test_a_runtime_of_another_version_leaves_to_the_one_that_is_installed(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        await shop.tenfold("up", "-d")
        before = shop.alive()
        shop.kill_runtime()
        where = paths.Paths(shop.folder / "tenfold.toml")
        argv = [sys.executable, "-c", OTHER_VERSION, str(where.topology)]
        older = process.Detached.start(argv, log=where.log, env={}, directory=shop.folder)
        await clock.until(lambda: says(where, "0.0.9"), seconds=30)

        await shop.tenfold("up", "-d")

        assert older.poll() == 0
        assert await says(where, client.own_version())
        assert before == shop.alive()


async def says(where: paths.Paths, version: str) -> bool:
    """Whether a runtime answers, and is of this version."""
    try:
        return version == (await client.Client(where.control).hello())["tenfold"]
    except errors.NotRunning:
        return False


async def test_a_runtime_killed_in_the_middle_of_a_climb_is_followed_by_one_that_finishes(
    tmp_path: Path, chance: random.Random
) -> None:
    async with project.shop(tmp_path) as shop:
        await shop.tenfold("up", "-d")
        async with shop.load(rate=50) as load:
            for rung in ("database", "balanced"):
                await kill_in_step(shop, ("grow", "--to", rung, "--yes"), chance.randrange(1, 6))
                await shop.tenfold("up", "-d")
                await settled(shop)
                assert (await shop.status())["rung"] == rung
        await shop.ensure_nothing_lost(load.report)


async def test_without_a_runtime_too_a_replica_takes_over_when_the_primarys_server_dies(tmp_path: Path) -> None:
    """Then nobody proves the death: Patroni waits for its key to expire (20 s), longer than a request's deadline, so
    writes may be answered 503 meanwhile. None that was acknowledged is lost, and they flow again within 30 s."""
    async with project.shop(tmp_path) as shop:
        shop.edit(r"^\[database\]$", "[database]\nreplicas = 2\nsynchronous = true")
        await shop.tenfold("up", "-d")
        primary = await shop.primary()
        async with shop.load(rate=30) as load:
            assert await clock.until(lambda: _has_written(load, 20), seconds=30)
            shop.kill_runtime()
            made = shop.records.servers[primary].enclosure
            assert made is not None
            assert await made.cut()
            written = load.report.writes_acknowledged
            assert await clock.until(lambda: _has_written(load, written + 20), seconds=60)
        print(f"writes paused for {load.report.longest_write_gap_seconds:.1f} s, {load.report.failed} failed")
        assert load.report.longest_write_gap_seconds < 30
        assert primary != await shop.primary()
        await shop.tenfold("load", "--verify", str(shop.ledger))


async def _has_written(load: traffic.Load, count: int) -> bool:
    return load.report.writes_acknowledged >= count


async def kill_in_step(shop: project.Project, change: tuple[str, ...], number: int, delay_seconds: float = 0.0) -> None:
    """Give the command that changes the service, and SIGKILL the runtime `delay_seconds` into its `number`-th step."""
    events = shop.folder / ".tenfold" / "events.jsonl"
    begun_before = events.read_text().count('"step_started"')
    command = asyncio.create_task(shop.try_tenfold(*change))

    async def look() -> bool:
        return command.done() or events.read_text().count('"step_started"') >= begun_before + number

    assert await clock.until(look, seconds=60, pause_seconds=0.005)
    assert not command.done(), f"ended before its step {number}: {command.result().output}"
    await asyncio.sleep(delay_seconds)  # to die somewhere in the middle of the step
    shop.kill_runtime()
    await command


async def settled(shop: project.Project) -> None:
    """There is nothing left to do."""

    async def look() -> bool:
        return "Nothing to do" in await shop.tenfold("plan")

    assert await clock.until(look, seconds=60, pause_seconds=0.5)
