"""Many processes want one cold key: one of them loads it, and the others get what it loaded, woken by a push."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from support import cache_process, postgres_cluster, valkey_servers, write_database
from tenfold import bindings
from tenfold.sdk.cache import leases

pytestmark = pytest.mark.anyio

NETWORK = 4

PROCESSES, TASKS = 4, 25


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    with write_database.running(tmp_path_factory.mktemp("database"), network=NETWORK) as made:
        yield made


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[valkey_servers.Servers]:
    with valkey_servers.running(tmp_path_factory.mktemp("cache"), network=NETWORK, subnet=41) as made:
        yield made


@asynccontextmanager
async def ready(
    database: postgres_cluster.Cluster, cache: bindings.Cache, folder: Path, *role: str
) -> AsyncIterator[list[cache_process.Other]]:
    """The processes, each with its tasks about to ask."""
    bound = bindings.Bindings(service=bindings.Service(name="shop"), database=database.bound, cache=cache)
    async with AsyncExitStack() as stack:
        made = [
            await stack.enter_async_context(
                cache_process.started(folder, bound, "load", role[0], str(TASKS), *role[1:])
            )
            for _ in range(PROCESSES)
        ]
        for one in made:
            assert "ready" == await one.line()
        yield made


async def commands(servers: valkey_servers.Servers) -> dict[str, int]:
    """How often each command has run, the tests' own left out."""
    said = await servers.servers[0].ask("INFO", "commandstats")
    own = {"info", "auth", "config|resetstat", "ping", "hello"}
    rows = (line.split(":", 1) for line in said.splitlines() if line.startswith("cmdstat_"))
    counts = {name.removeprefix("cmdstat_"): int(rest.split("calls=")[1].split(",")[0]) for name, rest in rows}
    return {name: count for name, count in counts.items() if name not in own}


async def outcomes(others: list[cache_process.Other]) -> tuple[list[str], list[float], int]:
    """What the tasks of each process got, how long the last took, and how often somebody loaded."""
    loads, answers, seconds = 0, [], []
    for one in others:
        while (said := await one.line()) == "loading":
            loads += 1
        assert said, "it has ended"
        answer, _, took = said.rpartition(" ")
        answers.append(answer)
        seconds.append(float(took))
    return answers, seconds, loads


async def test_one_of_a_hundred_tasks_loads_and_nobody_polls(
    database: postgres_cluster.Cluster, servers: valkey_servers.Servers, tmp_path: Path
) -> None:
    async with ready(database, servers.bound, tmp_path, "cold", "1.0") as others:
        await servers.servers[0].ask("CONFIG", "RESETSTAT")
        for one in others:
            one.say("go")

        answers, seconds, loads = await outcomes(others)
        counts = await commands(servers)

        assert 1 == loads
        assert 1 == len(set(answers))
        assert answers[0].startswith("loaded by ")
        assert sum(counts.values()) < 60, counts
        assert max(seconds) < 1.5  # the figure is benchmarks/stampede.py's; this machine may be busy


async def test_a_loader_whose_process_is_killed_releases_the_others(
    database: postgres_cluster.Cluster, servers: valkey_servers.Servers, tmp_path: Path
) -> None:
    seconds_each = leases.LIFE_SECONDS * 1.5
    async with ready(database, servers.bound, tmp_path, "killed", str(seconds_each)) as others:
        first, *rest = others
        first.say("go")
        assert "loading" == await first.line()
        for one in rest:
            one.say("go")
        await asyncio.sleep(0.3)
        first.kill()

        answers, seconds, loads = await outcomes(rest)

        assert 1 == loads
        assert 1 == len(set(answers))
        assert max(seconds) < seconds_each + 2 * leases.LIFE_SECONDS + 2


async def test_a_loader_that_raises_lets_each_other_process_try_in_its_turn(
    database: postgres_cluster.Cluster, servers: valkey_servers.Servers, tmp_path: Path
) -> None:
    async with ready(database, servers.bound, tmp_path, "raises", "0.2", "fail") as others:
        for one in others:
            one.say("go")

        answers, seconds, loads = await outcomes(others)

        assert ["failed"] * PROCESSES == answers
        assert PROCESSES == loads  # one a process: its tasks share the error
        assert max(seconds) < 0.2 * PROCESSES + leases.LIFE_SECONDS


async def test_without_servers_each_process_loads_once(database: postgres_cluster.Cluster, tmp_path: Path) -> None:
    async with ready(database, bindings.Cache(), tmp_path, "alone", "0.2") as others:
        for one in others:
            one.say("go")

        answers, _, loads = await outcomes(others)

        assert PROCESSES == loads == len(set(answers))
