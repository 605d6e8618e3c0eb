"""Servers get more and less under load: no request fails, no write is lost, on one server and on many."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from support import project
from tenfold import bindings

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(290)]

REPLICATED = "[database]\nreplicas = 2\nsynchronous = true"
ORDER = ("restart the replica on database-2", "restart the replica on database-3", "switch the primary over")
BALANCED = f"[balancer]\nservers = 1\n\n{REPLICATED}"


async def test_one_server_gets_another_process_and_a_larger_database(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        await shop.tenfold("up", "-d")
        async with shop.load(rate=30) as load:
            await shop.tenfold("resize", "web.workers_per_server=2", "database.memory=160MiB", "--yes")
        print(f"writes paused for {load.report.longest_write_gap_seconds:.2f} s")
        await shop.ensure_nothing_lost(load.report)
        assert {(160 * 2**20, 200)} == sizes(await shop.status())
        assert 2 == (await shop.status())["traffic"]["workers"]

        refused = await shop.try_tenfold("resize", "database.memory=900GiB", "--yes")
        assert "PostgreSQL would not start with that, so nothing was stopped" in refused.output
        assert "Cannot allocate memory" in refused.output
        assert 'memory = "160MiB"' in (shop.folder / "tenfold.toml").read_text()


async def test_replicas_restart_one_by_one_before_their_primary_moves(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        shop.edit(r"^\[database\]$", REPLICATED)
        await shop.tenfold("up", "-d")
        async with transactions(shop) as cut:
            done = await resized(shop, "database.memory=96MiB", "database.max_connections=300", rate=30)
        assert [] == cut, "a transaction that had begun to write was cut by the switch"
        assert {(96 * 2**20, 300)} == sizes(await shop.status())
        assert done.index("replica on database-3") < done.index("switch the primary over from database-1")
        assert [2, 2, 2] == [done.count(f"/3 {title}") for title in ORDER], "an order that holds needs no repair"


@pytest.mark.torture
async def test_web_servers_and_databases_of_a_replicated_service_get_more(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        shop.edit(r"^servers = 1$", "servers = 2")
        shop.edit(r"^\[database\]$", BALANCED)
        await resized(shop, "web.workers_per_server=2", "database.memory=96MiB", "database.max_connections=300")
        assert {(96 * 2**20, 300)} == sizes(await shop.status())
        assert 4 == (await shop.status())["traffic"]["workers"]


@pytest.mark.torture
async def test_fewer_connections_begin_with_the_primary(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        shop.edit(r"^\[database\]$", REPLICATED)
        done = await resized(shop, "database.max_connections=150")
        assert {(128 * 2**20, 150)} == sizes(await shop.status())
        assert "database-1" == await shop.primary()
        assert "replica on database-3 with 128MiB of memory and 150 connections" in done


@asynccontextmanager
async def transactions(shop: project.Project) -> AsyncIterator[list[str]]:
    """Transactions on the first primary, without the SDK; yields what cut those that had begun to write."""
    bound = bindings.load(shop.folder / ".tenfold" / "bindings.json").database
    assert bound is not None
    account = {"user": bound.user, "password": bound.password, "database": bound.name, "ssl": False}
    connection = await asyncpg.connect(host=bound.shards[0].nodes[0].host, **account)
    await connection.execute("create table began (id int)")
    cut: list[str] = []

    async def write() -> None:
        while True:
            try:
                await connection.execute("begin; insert into began values (1)")
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                return  # it holds its writes
            try:
                await asyncio.sleep(0.1)  # it is inside a transaction nearly all the time: that is the point here
                await connection.execute("commit")
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                cut.append(repr(error))
                return

    async with asyncio.TaskGroup() as group:
        writing = group.create_task(write())
        yield cut
        assert writing.done(), "the first primary still takes writes"
    connection.terminate()


async def resized(shop: project.Project, *words: str, rate: float = 100) -> str:
    """What `tenfold resize` says while so many requests a second come in, of which none fails."""
    await shop.tenfold("up", "-d")
    async with shop.load(rate=rate) as load:
        done = await shop.tenfold("resize", *words, "--yes", seconds=200)
    print(f"{done}\nwrites paused for {load.report.longest_write_gap_seconds:.2f} s")
    await shop.ensure_nothing_lost(load.report)
    return done


def sizes(status: dict[str, Any]) -> set[tuple[int, int]]:
    """Memory and connections of the databases."""
    nodes = [server["database"] for server in status["servers"] if server["database"]]
    return {(node["memory_bytes"], node["max_connections"]) for node in nodes}
