"""`tx.invalidate` over a real database: recorded with the transaction, told to every process, also after a crash."""

import asyncio
import os
import re
import signal
import statistics
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from support import (
    other_process,
    postgres_cluster,
    processes_with_floors,
    proxy,
    routed_reads,
    valkey_servers,
    write_database,
)
from support.processes_with_floors import Process
from tenfold import bindings, errors, position, request
from tenfold.kit import clock
from tenfold.sdk import db
from tenfold.sdk.cache import cache as caching
from tenfold.sdk.cache import delivery, entries
from tenfold.sdk.cache.parts import Verdict
from tenfold.sdk.valkey import client

pytestmark = pytest.mark.anyio

NETWORK = 6


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """As everywhere, but for the whole module: it shares one cluster."""
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[postgres_cluster.Cluster]:
    async with postgres_cluster.cluster(
        tmp_path_factory.mktemp("invalidation"), NETWORK, replicas=1, port=5435
    ) as made:
        await made.primary.script(routed_reads.schema.statements(postgres_cluster.USER))
        await made.primary.script(routed_reads.TABLES)
        await made.until_caught_up()
        yield made


@pytest.fixture
async def processes(cluster: postgres_cluster.Cluster) -> AsyncIterator[list[Process]]:
    async with processes_with_floors.running(cluster, 2) as made:
        yield made


def entry(stamp: position.Position | None, *slots: int) -> entries.Entry:
    return entries.Entry(b"", stamp, slots, 0.0, 1e12, 1e12)


async def loaded(process: Process, key: str, *tags: str) -> entries.Entry:
    """An entry as a load of this moment makes it, by somebody who has written nothing."""
    until = asyncio.get_running_loop().time() + 5
    stamp = await process.floors.stamp(request.Request(), until)
    return entry(stamp, *process.floors.slots_of(key, tags))


async def test_what_is_invalidated_is_stale_at_once_here_and_soon_elsewhere(processes: list[Process]) -> None:
    here, there = processes
    old, other = await loaded(here, "a", "product:1"), await loaded(here, "b", "product:2")
    assert Verdict.FRESH == here.floors.judge(old, None) == there.floors.judge(old, None)

    async with here.db.transaction() as tx:
        await tx.invalidate(tags=["product:1"])
        assert Verdict.FRESH == here.floors.judge(old, None)

    async def is_stale_there() -> bool:
        return there.floors.judge(old, None) is Verdict.STALE

    async def is_fresh_again() -> bool:
        return there.floors.judge(await loaded(there, "a", "product:1"), tx.at) is Verdict.FRESH

    assert Verdict.STALE == here.floors.judge(old, None)
    assert await clock.until(is_stale_there, seconds=10, pause_seconds=0.001)
    assert Verdict.FRESH == here.floors.judge(other, None) == there.floors.judge(other, None)
    assert tx.at is not None
    assert await there.floors.reach(tx.at, asyncio.get_running_loop().time() + 10)
    assert await clock.until(is_fresh_again, seconds=10, pause_seconds=0.001)


async def test_a_transaction_that_is_rolled_back_has_made_nothing_stale(processes: list[Process]) -> None:
    here, _ = processes
    old, before = await loaded(here, "a", "product:3"), here.floors.version
    tx = here.db.transaction()
    await tx.start()
    await tx.invalidate(tags=["product:3"], keys=["a"])
    await tx.rollback()

    assert before == here.floors.version
    assert Verdict.FRESH == here.floors.judge(old, None)
    assert 0 == await here.db.reading("primary").fetchval(UNDELIVERED)


UNDELIVERED = "select count(*) from tenfold.invalidation where floor_lsn is null"


async def test_invalidating_costs_one_round_trip_and_one_row_whatever_the_number_of_tags(
    processes: list[Process],
) -> None:
    here, _ = processes
    count = "select count(*) from tenfold.invalidation"
    async with here.db.transaction() as tx:
        before = await tx.fetchval(count)
        await tx.invalidate(tags=[f"tag:{number}" for number in range(5000)], keys=["a"])
        assert before + 1 == await tx.fetchval(count)
        await tx.invalidate()
        assert before + 1 == await tx.fetchval(count)


async def test_a_floor_for_more_slots_than_one_message_holds_arrives_whole(processes: list[Process]) -> None:
    here, there = processes
    tags = [f"many:{number}" for number in range(8000)]
    old = [await loaded(here, "k", tag) for tag in (tags[0], tags[-1])]
    await here.floors.invalidate(tags=tags)

    async def are_stale_there() -> bool:
        return [Verdict.STALE] * 2 == [there.floors.judge(one, None) for one in old]

    assert await clock.until(are_stale_there, seconds=10, pause_seconds=0.001)


async def test_a_read_only_transaction_and_one_that_is_open_are_told_what_to_write(processes: list[Process]) -> None:
    here, _ = processes
    async with here.db.transaction(readonly=True) as tx:
        with pytest.raises(errors.MisuseError, match="read-only transaction found"):
            await tx.invalidate(tags=["a"])
    async with here.db.transaction():
        with pytest.raises(errors.InsideTransaction, match=r"await tx.invalidate\(...\)"):
            await here.floors.invalidate(tags=["a"])


async def test_a_session_that_has_come_further_than_the_table_waits_until_it_has_caught_up(
    cluster: postgres_cluster.Cluster, processes: list[Process]
) -> None:
    """The other process hears nothing: its channel is cut, and so only the database can tell."""
    here, there = processes
    old = await loaded(there, "a", "product:4")
    there.floors._channel.is_whole = False  # type: ignore[union-attr]
    there.floors.hear = lambda floor, slots: None  # type: ignore[method-assign]
    async with here.db.transaction() as tx:
        await tx.invalidate(tags=["product:4"])
    assert tx.at is not None

    assert Verdict.FRESH == there.floors.judge(old, None), "nobody has told, and this reader has written nothing"
    assert Verdict.BEHIND == there.floors.judge(old, tx.at)
    assert await there.floors.reach(tx.at, asyncio.get_running_loop().time() + 10)
    assert Verdict.STALE == there.floors.judge(old, tx.at)


async def test_on_a_database_where_nothing_happens_any_more_a_session_gets_past_its_own_position(
    cluster: postgres_cluster.Cluster,
) -> None:
    """The log stands still exactly where the session has left it, and equal is not enough."""
    async with processes_with_floors.running(cluster, 1, None, cluster.primary) as [process]:
        old = await loaded(process, "a", "product:5")

        async def write() -> position.Position:
            async with process.db.transaction() as tx:
                await tx.execute("update counter set value = value + 1 where id = 5")
            assert tx.at is not None
            return tx.at

        async def is_newer() -> bool:
            serving = request.Request(is_known=True, seen=position.Positions().raised([wanted]))
            stamp = await process.floors.stamp(serving, asyncio.get_running_loop().time() + 5)
            return process.floors.judge(entry(stamp, 1), wanted) is Verdict.FRESH

        wanted = await write()
        assert await process.floors.reach(wanted, asyncio.get_running_loop().time() + 10)
        assert Verdict.FRESH == process.floors.judge(old, wanted)
        wanted = await write()
        assert await clock.until(is_newer, seconds=10, pause_seconds=0.01), "what has no tags, by its stamp alone"


async def test_many_who_must_catch_up_at_once_cost_two_rounds(processes: list[Process]) -> None:
    here, there = processes
    async with here.db.transaction() as tx:
        await tx.execute("update counter set value = value + 1 where id = 6")
    before = there.floors._following.rounds

    until = asyncio.get_running_loop().time() + 10
    assert all(await asyncio.gather(*(there.floors.reach(tx.at, until) for _ in range(100))))

    assert there.floors._following.rounds - before < 10, "two, and the pulses of these seconds"


async def test_a_process_that_starts_knows_what_was_made_stale_before(
    cluster: postgres_cluster.Cluster, processes: list[Process]
) -> None:
    here, _ = processes
    old, good = await loaded(here, "a", "product:7"), await loaded(here, "b", "product:8")
    await here.floors.invalidate(tags=["product:7"])

    async with processes_with_floors.running(cluster, 1) as [new]:
        assert Verdict.STALE == new.floors.judge(old, None)
        assert Verdict.FRESH == new.floors.judge(good, None)


async def test_rows_are_deleted_after_a_time_and_what_was_older_is_stale_for_whoever_starts_later(
    cluster: postgres_cluster.Cluster, processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = processes
    old = await loaded(here, "a", "product:9")
    await here.floors.invalidate(tags=["something else"])
    await until_delivered(here)
    monkeypatch.setattr(delivery, "KEEP_ROWS", 0)
    here.floors._delivery._prune_at = 0.0
    await here.floors._delivery.prune(1.0)

    assert 1 == await here.db.reading("primary").fetchval("select count(*) from tenfold.invalidation")
    assert Verdict.FRESH == here.floors.judge(old, None), "who was there knows that it is not concerned"
    async with processes_with_floors.running(cluster, 1) as [new]:
        assert Verdict.STALE == new.floors.judge(old, None)
        assert Verdict.FRESH == new.floors.judge(await loaded(new, "a", "product:9"), None)


async def until_delivered(process: Process) -> None:
    async def look() -> bool:
        return await process.db.reading("primary").fetchval(UNDELIVERED) == 0

    assert await clock.until(look, seconds=20, pause_seconds=0.01)


async def test_a_commit_that_would_not_wait_for_the_disk_waits_when_it_invalidates(processes: list[Process]) -> None:
    """Else its record would be beyond the position that is read after it, and so beyond its floor."""
    here, _ = processes
    async with here.db.transaction() as tx:
        await tx.execute("set local synchronous_commit = off")
        await tx.invalidate(tags=["product:10"])
        assert "local" == await tx.fetchval("show synchronous_commit")


async def test_while_its_channel_is_broken_a_process_trusts_nothing_but_the_database(
    cluster: postgres_cluster.Cluster, processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = processes
    old = await loaded(there, "a", "product:11")
    gate, listen = asyncio.Event(), asyncpg.Connection.add_listener

    async def later(*what: Any) -> None:
        await gate.wait()
        await listen(*what)

    async def has_noticed() -> bool:
        return not there.floors.is_sure

    monkeypatch.setattr(asyncpg.Connection, "add_listener", later)
    await cluster.primary.sql(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where query ilike 'listen%' or query ilike $1",
        "%unnest(slots)%",
    )
    assert await clock.until(has_noticed, seconds=10, pause_seconds=0.0005)
    await here.floors.invalidate(tags=["product:11"])
    assert Verdict.UNTRUSTED == there.floors.judge(old, None)
    assert await there.floors.reach(None, asyncio.get_running_loop().time() + 10)
    assert Verdict.STALE == there.floors.judge(old, None), "for a moment after a reading"

    async def is_over() -> bool:
        return there.floors.judge(old, None) is Verdict.UNTRUSTED

    assert await clock.until(is_over, seconds=10, pause_seconds=0.005)
    gate.set()
    await there.until_trusted()
    assert Verdict.STALE == there.floors.judge(old, None)


async def test_a_server_that_freezes_is_noticed_and_trusted_again_when_it_goes_on(
    cluster: postgres_cluster.Cluster, processes: list[Process]
) -> None:
    _, there = processes

    async def is_doubted() -> bool:
        return not there.floors.is_sure

    await cluster.primary.freeze()
    try:
        began = asyncio.get_running_loop().time()
        assert await clock.until(is_doubted, seconds=20, pause_seconds=0.01)
        assert asyncio.get_running_loop().time() - began < 10, "2 s on a machine with time for it"
    finally:
        await cluster.primary.thaw()
    await there.until_trusted()


async def test_what_a_process_that_was_killed_behind_its_commit_made_stale_is_delivered_by_another(
    cluster: postgres_cluster.Cluster, processes: list[Process], tmp_path: Path
) -> None:
    here, there = processes
    old = await loaded(here, "a", other_process.TAG)
    async with other_process.started(tmp_path, cluster.bound, bindings.Cache(), "die") as other:
        assert "committed" == await other.line()
        other.kill()
    began = asyncio.get_running_loop().time()

    async def is_stale_everywhere() -> bool:
        return [Verdict.STALE] * 2 == [one.floors.judge(old, None) for one in (here, there)]

    assert await clock.until(is_stale_everywhere, seconds=20, pause_seconds=0.01)
    assert asyncio.get_running_loop().time() - began < 10, "1 to 2 s on a machine with time for it"
    await until_delivered(here)


async def test_another_process_hears_of_an_invalidation_in_milliseconds(
    cluster: postgres_cluster.Cluster, processes: list[Process], tmp_path: Path
) -> None:
    async with other_process.started(tmp_path, cluster.bound, bindings.Cache(), "listen") as other:
        seen = await processes_with_floors.delays(processes[0], other, rounds=30)

    assert statistics.median(seen) < 0.05, sorted(seen)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[valkey_servers.Servers]:
    with valkey_servers.running(tmp_path_factory.mktemp("cache"), NETWORK, primaries=1, subnet=4) as made:
        yield made


async def test_with_cache_servers_another_process_hears_of_it_on_the_way_of_its_entries(
    cluster: postgres_cluster.Cluster, servers: valkey_servers.Servers, tmp_path: Path
) -> None:
    async with (
        processes_with_floors.running(cluster, 1, servers.bound) as [here],
        other_process.started(tmp_path, cluster.bound, servers.bound, "listen") as other,
    ):
        seen = await processes_with_floors.delays(here, other, rounds=30)
        await until_delivered(here)

    assert statistics.median(seen) < 0.05, sorted(seen)


async def process_of(server: valkey_servers.Server) -> int:
    """Its pid, as it is out here."""
    found = re.search(r"process_id:(\d+)", str(await server.ask("INFO", "server")))
    assert found is not None
    assert server.machine is not None
    identity = server.machine.outside(int(found[1]))
    assert identity is not None
    return identity.pid


async def test_cache_servers_that_freeze_or_die_cost_trust_and_no_commit(
    cluster: postgres_cluster.Cluster, servers: valkey_servers.Servers
) -> None:
    async with processes_with_floors.running(cluster, 2, servers.bound) as [here, there]:

        async def is_doubted() -> bool:
            return not there.floors.is_sure

        [server] = servers.servers
        for trouble in ("freeze", "kill"):
            old = await loaded(there, "a", f"product:{trouble}")
            pid = await process_of(server)
            if trouble == "freeze":
                os.kill(pid, signal.SIGSTOP)
            else:
                await server.kill()
            began = asyncio.get_running_loop().time()
            await here.floors.invalidate(tags=[f"product:{trouble}"])
            assert asyncio.get_running_loop().time() - began < 5, "50 ms, and the commit itself"
            assert await clock.until(is_doubted, seconds=20, pause_seconds=0.005)
            assert await there.floors.reach(None, began + 30)
            assert Verdict.STALE == there.floors.judge(old, None), "the database knows"
            if trouble == "freeze":
                os.kill(pid, signal.SIGCONT)
            else:
                await servers.restart()
            await asyncio.gather(here.until_trusted(30), there.until_trusted(30))
        await until_delivered(here)


async def test_growing_to_cache_servers_and_back_changes_the_channel_under_a_running_process(
    cluster: postgres_cluster.Cluster, servers: valkey_servers.Servers
) -> None:
    async with processes_with_floors.running(cluster, 2) as processes:
        here, there = processes
        for bound in (servers.bound, bindings.Cache()):
            for one in processes:
                one.servers.update(bound)
                one.cache.update(bound)
            await asyncio.gather(*(one.until_trusted() for one in processes))
            old = await loaded(there, "a", "product:12")
            await here.floors.invalidate(tags=["product:12"])

            async def is_stale_there(old: entries.Entry = old) -> bool:
                return there.floors.judge(old, None) is Verdict.STALE

            assert await clock.until(is_stale_there, seconds=10, pause_seconds=0.001)


@pytest.mark.parametrize("is_committed", [True, False])
async def test_when_nobody_knows_the_outcome_of_a_commit_its_row_decides(
    cluster: postgres_cluster.Cluster, processes: list[Process], is_committed: bool
) -> None:
    """The connection is cut before or behind COMMIT, and the writer reaches no database any more to settle it."""
    here, _ = processes
    tag = f"unknown:{is_committed}"
    old = await loaded(here, "a", tag)
    node = cluster.primary
    async with proxy.proxy(f"127.{NETWORK}.9.1", node.port, (node.host, node.port)) as door:
        bound = write_database.through(cluster.bound_to(node), {node.name: (door.host, door.port)})
        database = db.Database()
        await database.start(bound)
        own = caching.Cache(database, client.Client())
        try:
            tx = database.options(timeout=1.5).transaction()
            await tx.start()
            await tx.invalidate(tags=[tag])
            door.arm(b"report_position", **({"to_client": 0} if is_committed else {"to_server": 0}))
            door.is_closed = True
            with pytest.raises(errors.OutcomeUnknown):
                await tx.commit()
        finally:
            await own.stop()
            await database.stop()

    async def is_stale() -> bool:
        return here.floors.judge(old, None) is Verdict.STALE

    if is_committed:
        assert await clock.until(is_stale, seconds=20, pause_seconds=0.01)
    else:
        rounds = here.floors._following.rounds

        async def has_looked() -> bool:
            return here.floors._following.rounds >= rounds + 2

        assert await clock.until(has_looked, seconds=20, pause_seconds=0.01)
        assert Verdict.FRESH == here.floors.judge(old, None)


async def test_without_its_tables_the_cache_says_so_once_and_loads_every_time(
    cluster: postgres_cluster.Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    bare = msgspec.structs.replace(cluster.bound, name="postgres")
    database = db.Database()
    await database.start(bare)
    cache = caching.Cache(database, client.Client())
    await cache.start(bindings.Cache())
    loads: list[int] = []

    async def load() -> int:
        loads.append(await database.fetchval("select 1"))
        return len(loads)

    async def is_said() -> bool:
        return "run `tenfold migrate`" in caplog.text

    try:
        assert await clock.until(is_said, seconds=10, pause_seconds=0.005)
        assert [1, 2] == [await cache.get_or_load("key", load) for _ in range(2)]
        assert not await cache._floors.reach(None, asyncio.get_running_loop().time() + 10)
    finally:
        await cache.stop()
        await database.stop()
    assert 1 == caplog.text.count("run `tenfold migrate`")
