"""What was acknowledged with `synchronous = "regions"` outlives the home region, on a real primary and a far copy."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from support import postgres_cluster, write_database
from tenfold import bindings, errors
from tenfold.kit import clock
from tenfold.sdk.db import database, schema, witness

pytestmark = pytest.mark.anyio
NETWORK = 79

BOTH = ("seoul", "virginia")


def bound(cluster: postgres_cluster.Cluster, witnesses: tuple[str, ...]) -> bindings.Database:
    """The first server is at home in seoul, the other one in virginia."""
    regions = {"database-1": "seoul", "database-2": "virginia"}
    nodes = tuple(
        bindings.DatabaseNode(name=one.name, host=one.host, port=one.port, region=regions[one.name])
        for one in sorted(cluster.servers, key=lambda one: one.name)
    )
    return bindings.Database(
        shards=(bindings.Shard(nodes=nodes),),
        name=postgres_cluster.DATABASE,
        user=postgres_cluster.USER,
        password=postgres_cluster.PASSWORD,
        witnesses=witnesses,
    )


@asynccontextmanager
async def connected(cluster: postgres_cluster.Cluster, witnesses: tuple[str, ...]) -> AsyncIterator[database.Database]:
    """`tf.db` of an app in seoul."""
    made = database.Database()
    await made.start(bound(cluster, witnesses), "seoul")
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[postgres_cluster.Cluster]:
    async with postgres_cluster.cluster(tmp_path, NETWORK, replicas=1) as made:
        await made.primary.script(schema.statements(postgres_cluster.USER))
        await made.primary.script(write_database.TABLE + write_database.OWNER)
        await made.until_caught_up()
        yield made


INSERT = "insert into effect (name) values ($1)"


async def write_on(db: database.Database, acknowledged: list[str], worker: int) -> None:
    """Write, one after the other, until told to stop; only what was acknowledged is remembered."""
    number = 0
    while True:
        name = f"{worker}-{number}"
        number += 1
        try:
            await db.options(timeout=5).execute(INSERT, name)
        except (errors.OutcomeUnknown, errors.TryAgain):
            await asyncio.sleep(0.05)
            continue
        acknowledged.append(name)


async def lost_with_the_home(cluster: postgres_cluster.Cluster, witnesses: tuple[str, ...]) -> set[str]:
    """Of what was acknowledged until the home lost its power, beside a copy that stood still, what the copy lacks."""
    acknowledged: list[str] = []
    home, far = cluster.primary, cluster.replicas[0]
    async with connected(cluster, witnesses) as db:
        writers = [asyncio.ensure_future(write_on(db, acknowledged, worker)) for worker in range(8)]

        async def has_begun() -> bool:
            return len(acknowledged) >= 50

        assert await clock.until(has_begun, seconds=30, pause_seconds=0.01)
        await far.freeze()
        frozen_with = len(acknowledged)

        async def has_more() -> bool:
            return bool(await home.sql("select count(*) from effect", database="shop") >= frozen_with + 8)

        assert await clock.until(has_more, seconds=30, pause_seconds=0.01), "the home goes on committing"
        await home.kill()
        for one in writers:
            one.cancel()
        await asyncio.wait(writers)
        print(
            f"\n{witnesses or 'none'}: {frozen_with} acknowledged when the copy stood still, {len(acknowledged)} in all"
        )
    await far.kill()  # what lay in its kernel, unread, is gone as it is when a link breaks
    await far.start()
    await far.promote()
    there = set(await far.sql("select array_agg(name) from effect", database="shop"))
    return set(acknowledged) - there


async def test_no_acknowledged_write_is_lost_with_the_home(cluster: postgres_cluster.Cluster) -> None:
    assert set() == await lost_with_the_home(cluster, BOTH)


async def test_without_it_acknowledged_writes_are_lost_with_the_home(cluster: postgres_cluster.Cluster) -> None:
    assert await lost_with_the_home(cluster, ())


async def test_every_way_to_commit_waits_and_is_refused_when_nobody_follows(
    cluster: postgres_cluster.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = cluster.replicas[0]
    async with connected(cluster, BOTH) as db:

        async def single() -> None:
            await db.execute(INSERT, "single")

        async def in_a_block() -> None:
            async with db.transaction() as tx:
                await tx.execute(INSERT, "block")

        async def as_a_function() -> None:
            async def work(tx: Any) -> None:
                await tx.execute(INSERT, "function")

            await db.run(work)

        async def acquired() -> None:
            async with db.acquire() as connection:
                await connection.execute(INSERT, "acquired")

        async def alone() -> None:
            await db.execute("do $$ begin insert into effect (name) values ('alone'); end $$")

        own = await db.connect()

        async def connects() -> None:
            async with own.transaction():
                await own.execute(INSERT, "connected")

        ways = (single, in_a_block, as_a_function, acquired, alone, connects)
        await asyncio.gather(*(way() for way in ways))
        for name in await names(cluster):
            assert await has(far, name), f"{name}: acknowledged, and not there"

        await far.freeze()
        began = time.monotonic()
        waiting = [asyncio.ensure_future(way()) for way in ways]
        assert await clock.until(lambda: count_is(cluster, 2 * len(ways)), seconds=30, pause_seconds=0.05)
        done, _ = await asyncio.wait(waiting, timeout=0.5)
        assert not done, "committed at home, and not acknowledged"
        with pytest.raises(errors.OutcomeUnknown, match="no other region was known to have it"):
            await db.options(timeout=0.5).execute(INSERT, "unknown")
        assert await db.fetchval("select count(*) from effect") >= 2 * len(ways), "reads go on"

        monkeypatch.setattr(witness, "PATIENCE_SECONDS", 1.0)
        assert await clock.until(lambda: is_refused(db), seconds=30, pause_seconds=0.1)
        print(f"\nrefused {time.monotonic() - began:.1f} s after the copy stood still")
        assert "refused" not in await names(cluster), "nothing was done"

        await far.thaw()
        await asyncio.gather(*waiting)
        assert await clock.until(lambda: writes(db), seconds=30, pause_seconds=0.1), "it is back, and so are writes"

        await far.freeze()
        db.update(bound(cluster, ()))
        await asyncio.wait_for(single(), 10)
        await far.thaw()
        own.terminate()


async def is_refused(db: database.Database) -> bool:
    try:
        await db.options(timeout=0.2).execute(INSERT, "refused" if await knows(db) else "unknown")
    except errors.NoOtherRegion:
        return True
    except (errors.OutcomeUnknown, errors.TryAgain):
        return False
    return False


async def knows(db: database.Database) -> bool:
    """Whether the process knows by now that nobody follows."""
    watching = db.shards.witness_of(0)
    assert watching is not None
    try:
        watching.ensure_hope()
    except errors.NoOtherRegion:
        return True
    return False


async def writes(db: database.Database) -> bool:
    try:
        await db.options(timeout=5).execute(INSERT, "back")
    except errors.TryAgain:
        return False
    return True


async def names(cluster: postgres_cluster.Cluster) -> list[str]:
    return list(await cluster.primary.sql("select array_agg(name) from effect", database="shop") or [])


async def count_is(cluster: postgres_cluster.Cluster, count: int) -> bool:
    return len(await names(cluster)) >= count


async def has(server: postgres_cluster.Server, name: str) -> bool:
    """Whether a copy has it: received is enough, it replays that when it is promoted."""

    async def look() -> bool:
        return bool(await server.sql("select exists (select from effect where name = $1)", name, database="shop"))

    try:
        return bool(await clock.until(look, seconds=10, pause_seconds=0.01))
    except (OSError, asyncpg.PostgresError):
        return False
