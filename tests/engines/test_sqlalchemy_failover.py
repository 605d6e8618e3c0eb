"""SQLAlchemy sessions through failovers: every effect of `sessions.run` exactly once, whatever byte is the last.

A pair with synchronous replication behind proxies that cut. The same rounds without the token find doubles, so the
check can fail.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import func, select

from support import orm, postgres_cluster, proxy, write_database
from tenfold import errors
from tenfold.kit import clock
from tenfold.sdk.db import settle
from tenfold.sqlalchemy import Sessions

pytestmark = pytest.mark.anyio

NETWORK = 75
PORT = 5433
COMMIT = b"report_position"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[postgres_cluster.Cluster]:
    async with postgres_cluster.cluster(tmp_path, NETWORK, replicas=1) as made:
        await orm.prepare(made)
        await made.replicate_synchronously()
        yield made


@dataclass
class World:
    """The pair, its proxies by server name, and sessions that reach it through them."""

    cluster: postgres_cluster.Cluster
    doors: dict[str, proxy.Proxy]
    sessions: Sessions
    cuts: int = 0

    async def cut_and_run(self, name: str, *, to_server: int | None = None, to_client: int | None = None) -> None:
        """One effect; the connection is cut so many bytes after its COMMIT begins, or its answer does."""
        door = self.doors[self.cluster.primary.name]
        door.arm(COMMIT, to_server=to_server, to_client=to_client)
        await self.sessions.options(timeout=30).run(orm.add, name)
        self.cuts += door.last_cut is not None and door.last_cut.is_cut
        door.disarm()

    async def wrong(self, expected: int) -> dict[str, int]:
        """Effects that are not there exactly once."""
        there = Counter(await orm.names(self.cluster.primary))
        return {name: there[name] for name in (str(number) for number in range(expected)) if there[name] != 1}


@asynccontextmanager
async def world(cluster: postgres_cluster.Cluster) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        doors = {
            one.name: await stack.enter_async_context(proxy.proxy(one.host, PORT, (one.host, one.port)))
            for one in cluster.servers
        }
        bound = write_database.through(cluster.bound, {name: (door.host, PORT) for name, door in doors.items()})
        _, sessions = await stack.enter_async_context(orm.started(bound))
        yield World(cluster, doors, sessions)


def cut(chance: random.Random) -> dict[str, int]:
    """A byte of the COMMIT's message, or of the answer to it."""
    return {"to_server": chance.randrange(250)} if chance.random() < 0.4 else {"to_client": chance.randrange(160)}


async def test_a_lost_commit_happens_exactly_once(cluster: postgres_cluster.Cluster, chance: random.Random) -> None:
    async with world(cluster) as made:
        for number in range(60):
            await made.cut_and_run(str(number), **cut(chance))

        assert {} == await made.wrong(60)
        assert made.cuts >= 30


async def test_without_the_tokens_answer_there_are_doubles(
    cluster: postgres_cluster.Cluster, chance: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def guess(*_: object) -> settle.Settled:
        return settle.Settled(is_committed=False, at=None)

    monkeypatch.setattr(settle, "settle", guess)
    async with world(cluster) as made:
        for number in range(15):
            await made.cut_and_run(str(number), to_client=chance.randrange(60))

        assert max((await made.wrong(15)).values()) > 1


async def test_sessions_go_through_a_power_cut_of_the_primary(cluster: postgres_cluster.Cluster) -> None:
    """Writers by `run` and readers all the time: none fails, every write is there once, and nothing is stuck after."""
    async with orm.started(cluster.bound) as (_, sessions):
        done: list[str] = []
        is_over = False

        async def write(worker: int) -> None:
            number = 0
            while not is_over:
                done.append(await sessions.options(timeout=30).run(orm.add, f"{worker}-{number}"))
                number += 1

        async def read() -> None:
            while not is_over:
                async with sessions.reading("eventual") as session:
                    await session.scalar(select(func.count()).select_from(orm.Effect))

        async def have(count: int) -> bool:
            return len(done) >= count or any(task.done() for task in tasks)

        tasks = [asyncio.create_task(one) for one in (write(1), write(2), write(3), read(), read())]
        assert await clock.until(lambda: have(50), seconds=20)
        await cluster.fail_over(cluster.replicas[0])
        await cluster.primary.configure(synchronous_standby_names="")
        wanted = len(done) + 50
        assert await clock.until(lambda: have(wanted), seconds=20)
        is_over = True
        await asyncio.gather(*tasks)

        assert Counter(done) == Counter(await orm.names(cluster.primary))


async def test_a_read_goes_on_elsewhere_when_its_node_dies_in_the_middle(cluster: postgres_cluster.Cluster) -> None:
    await cluster.primary.configure(synchronous_standby_names="")
    async with orm.started(cluster.bound) as (_, sessions), sessions.reading("eventual") as session:
        where = select(func.host(func.inet_server_addr()))
        assert cluster.replicas[0].host == await session.scalar(where)
        await cluster.replicas[0].kill()

        assert cluster.primary.host == await session.scalar(where)


async def test_a_snapshot_that_is_lost_is_not_replaced_by_another(cluster: postgres_cluster.Cluster) -> None:
    await cluster.primary.configure(synchronous_standby_names="")
    options = {"isolation_level": "REPEATABLE READ"}
    async with orm.started(cluster.bound, engine=options) as (_, sessions), sessions.reading("eventual") as session:
        await session.scalar(select(func.count()).select_from(orm.Effect))
        await cluster.replicas[0].kill()

        with pytest.raises(errors.NotCommitted, match="begin again"):
            await session.scalar(select(func.count()).select_from(orm.Effect))


async def test_a_fenced_primary_costs_a_wait_and_nothing_else(cluster: postgres_cluster.Cluster) -> None:
    """A planned switch: new transactions are refused, then another server is the primary."""
    async with orm.started(cluster.bound) as (_, sessions):
        await sessions.run(orm.add, "before")
        await cluster.primary.fence()

        async def is_seen() -> bool:
            return sessions._database.shards.shard(0).writable is None

        assert await clock.until(is_seen, seconds=10, pause_seconds=0.01)
        waiting = asyncio.create_task(sessions.run(orm.add, "during"))
        await asyncio.wait([waiting], timeout=0.3)
        assert not waiting.done()
        old = cluster.primary
        await old.stop()
        await cluster.replicas[0].promote()
        await cluster.replicas[0].configure(synchronous_standby_names="")

        assert "during" == await waiting
        assert ["before", "during"] == await orm.names(cluster.replicas[0])
