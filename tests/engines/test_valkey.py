"""Valkey: servers become a whole cluster however often they are disturbed, stand in for each other, keep what they
promised to keep, forget only what may be forgotten, and answer nobody without a password."""

import asyncio
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support import valkey_servers
from tenfold import errors
from tenfold.engines.valkey import admin, connection, forming
from tenfold.kit import clock, process
from tenfold.observation import snapshot

pytestmark = pytest.mark.anyio

NETWORK = 2

MEMORY_BYTES = 16 * 1024**2


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[valkey_servers.Servers]:
    with valkey_servers.running(tmp_path_factory.mktemp("cache"), NETWORK, primaries=3) as made:
        yield made


@pytest.fixture
async def cluster(shared: valkey_servers.Servers) -> valkey_servers.Servers:
    """Three primaries and three replicas, whole and empty."""
    dead = [one for one in shared.servers if one.machine is None]
    if dead:
        await shared.restart(*dead)
    await shared.until_whole()
    await shared.flush()
    return shared


@asynccontextmanager
async def as_app(server: valkey_servers.Server) -> AsyncIterator[connection.Connection]:
    """A connection as the app has it."""
    user, password = valkey_servers.USER, valkey_servers.PASSWORD
    async with connection.opened(server.host, valkey_servers.PORT, user, password, 5.0) as opened:
        yield opened


def places(cluster: valkey_servers.Servers) -> list[Any]:
    return [one.seat for one in cluster.servers]


async def facts(cluster: valkey_servers.Servers) -> list[snapshot.CacheNode]:
    found = [await admin.facts(seat) for seat in places(cluster)]
    return [one for one in found if one is not None]


async def fill(cluster: valkey_servers.Servers, count: int) -> dict[str, valkey_servers.Server]:
    """Keys with a replica's word for each of them, and the server that has it."""
    found = {}
    for number in range(count):
        server = await cluster.primary_of(f"key-{number}")
        async with as_app(server) as app:
            await app.ask("SET", f"key-{number}", number)
            assert await app.ask("WAIT", 1, 5000, timeout_seconds=10) == 1
        found[f"key-{number}"] = server
    return found


async def kept(cluster: valkey_servers.Servers, keys: dict[str, valkey_servers.Server]) -> bool:
    """Whether every key has its value, as soon as the servers have told each other who serves it."""
    return bool(await clock.until(lambda: found(cluster, keys), seconds=10))


async def found(cluster: valkey_servers.Servers, keys: dict[str, valkey_servers.Server]) -> bool:
    try:
        return await all_there(cluster, keys)
    except errors.EngineFailed:
        return False


async def all_there(cluster: valkey_servers.Servers, keys: dict[str, valkey_servers.Server]) -> bool:
    for key in keys:
        async with as_app(await cluster.primary_of(key)) as app:
            if key.removeprefix("key-") != await app.ask("GET", key):
                return False
    return True


async def test_every_slot_has_a_primary_and_every_primary_a_replica_and_forming_again_changes_nothing(
    cluster: valkey_servers.Servers,
) -> None:
    keys = await fill(cluster, 5)
    nodes = await facts(cluster)
    await admin.form(places(cluster), begins_anew=True)
    assert [one.role for one in nodes] == [one.role for one in await facts(cluster)]
    assert await kept(cluster, keys), "a whole cluster was begun anew"

    primaries = {node.server for node in nodes if node.role == "primary"}
    assert 3 == len(primaries)
    assert forming.SLOTS == sum(node.slots for node in nodes)
    assert primaries == {node.primary for node in nodes if node.role == "replica"}
    names = tuple(f"cache-{number}" for number in range(1, 7))
    assert all(node.is_complete and node.members == names for node in nodes)
    assert all(0 < node.used_bytes < node.most_bytes == 64 * 1024**2 for node in nodes)


async def test_forming_that_is_cut_short_at_any_point_is_finished_by_the_next(tmp_path: Path) -> None:
    made = valkey_servers.Servers(tmp_path, NETWORK, primaries=3, subnet=7)
    try:
        await made.launch()
        for seconds in (0.03, 0.3, 0.9):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(seconds):
                    await admin.form(places(made), begins_anew=True)
        await admin.form(places(made), begins_anew=False)
        assert forming.is_whole(await admin.look(places(made)))
        await made.servers[5].kill()
        with pytest.raises(errors.EngineFailed, match=made.servers[5].host):
            await admin.form(places(made), begins_anew=False, within_seconds=0.5)
    finally:
        await made.stop()


async def test_the_replica_of_a_killed_primary_serves_what_was_waited_for_and_the_dead_one_comes_back_as_its_replica(
    cluster: valkey_servers.Servers,
) -> None:
    keys = await fill(cluster, 40)
    dead = keys["key-0"]
    heir = await cluster.replica_of(dead)
    killed_at = time.monotonic()
    await cluster.kill(dead)
    assert await clock.until(lambda: writes(heir, "key-0"), seconds=20, pause_seconds=0.02)
    seconds = time.monotonic() - killed_at
    assert seconds < 15, "Valkey's own patience is 15 s"
    del keys["key-0"]
    assert await kept(cluster, keys)

    await cluster.restart(dead)
    await cluster.until_whole()
    back = await admin.facts(dead.seat)
    assert back is not None
    assert ("replica", heir.name) == (back.role, back.primary)


async def writes(server: valkey_servers.Server, key: str) -> bool:
    try:
        async with as_app(server) as app:
            return bool(await app.ask("SET", key, "after") == "OK")
    except errors.EngineFailed:
        return False


async def test_a_primary_that_is_stopped_hands_over_before_it_ends(cluster: valkey_servers.Servers) -> None:
    keys = await fill(cluster, 10)
    leaving = keys["key-0"]
    heir = await cluster.replica_of(leaving)
    assert leaving.machine is not None
    running = leaving.machine.find("valkey")
    assert running is not None
    begin = len(heir.seat.log.read_text())
    process.send(running, signal.SIGTERM)
    assert await process.gone(running, 10)
    assert await kept(cluster, keys)
    said = heir.seat.log.read_text()[begin:]
    assert said.index("Forced failover primary request accepted") < said.index("election won"), "it was missed first"
    await cluster.restart(leaving)


async def test_all_killed_at_once_come_back_with_what_they_had(cluster: valkey_servers.Servers) -> None:
    """What is in a server's file, that is: while the disk is busy the servers hold back what they write to it."""
    keys = await fill(cluster, 20)
    for last, primary in {server.name: (key, server) for key, server in keys.items()}.values():
        async with connection.of(primary.seat, timeout_seconds=15.0) as admin_of_it:
            await admin_of_it.ask("SET", last, last.removeprefix("key-"))
            in_file, _ = await admin_of_it.ask("WAITAOF", 1, 0, 10_000, timeout_seconds=15.0)
            assert 1 == in_file, "what it wrote before is in its file then, too"
    await cluster.restart()
    await cluster.until_whole()
    assert await kept(cluster, keys)


async def test_a_server_that_lost_its_disk_is_taken_in_again(cluster: valkey_servers.Servers) -> None:
    keys = await fill(cluster, 10)
    for lost in (await cluster.replica_of(keys["key-0"]), keys["key-0"]):
        await cluster.kill(lost)
        shutil.rmtree(lost.seat.data)
        assert await clock.until(lambda lost=lost: kept_without(cluster, keys, lost), seconds=20)  # type: ignore[misc]
        await lost.start()
        await admin.form(places(cluster), begins_anew=False)
        await cluster.until_whole()
        assert await kept(cluster, keys)
    assert [6] * 6 == [len(node.members) for node in await facts(cluster)], "what it was before is still a member"


async def kept_without(
    cluster: valkey_servers.Servers, keys: dict[str, valkey_servers.Server], dead: valkey_servers.Server
) -> bool:
    """Whether the others serve everything: a dead primary's heir has taken over."""
    try:
        return dead not in [await cluster.primary_of(key) for key in keys] and await all_there(cluster, keys)
    except errors.EngineFailed:
        return False


async def test_nobody_without_a_password_and_the_app_may_not_empty_it_or_change_it(
    cluster: valkey_servers.Servers,
) -> None:
    server = await cluster.primary_of("key")
    assert ["NOAUTH", "WRONGPASS"] == [await refusal(server, ""), await refusal(server, "wrong")]
    async with as_app(server) as app:
        for words in (("FLUSHALL",), ("FLUSHDB",), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("SHUTDOWN",),
                      ("ACL", "LIST"), ("CLUSTER", "RESET"), ("CLIENT", "KILL", "TYPE", "normal")):  # fmt: skip
            with pytest.raises(connection.Refused) as refused:
                await app.ask(*words)
            assert "NOPERM" == refused.value.code, words
        for words in (("HSETEX", "key", "EX", 60, "FIELDS", 1, "name", "value"), ("WAITAOF", 1, 0, 2000),
                      ("EVAL", "return redis.call('HGET', KEYS[1], 'name')", 1, "key"), ("CLUSTER", "SLOTS"),
                      ("PUBLISH", "news", "one"), ("SPUBLISH", "key", "one"), ("CLIENT", "NO-TOUCH", "ON"),
                      ("INFO", "replication"), ("SCAN", 0), ("HELLO", 3), ("CLIENT", "TRACKING", "ON")):  # fmt: skip
            await app.ask(*words, timeout_seconds=5)


async def refusal(server: valkey_servers.Server, password: str) -> str:
    """Why a stranger is refused."""
    try:
        if password:
            async with connection.opened(server.host, valkey_servers.PORT, valkey_servers.USER, password):
                return "let in"
        reader, writer = await asyncio.open_connection(server.host, valkey_servers.PORT)
        writer.write(b"GET key\r\n")
        answer = await reader.readline()
        writer.close()
        return answer.decode().removeprefix("-").split()[0]
    except connection.Refused as refused:
        return refused.code


@pytest.mark.parametrize("eviction", ["lru", "lfu"])
async def test_only_what_has_a_time_to_live_is_forgotten_and_without_such_it_refuses(
    tmp_path: Path, eviction: str
) -> None:
    async with (
        valkey_servers.started(tmp_path, NETWORK, memory_bytes=MEMORY_BYTES, subnet=8, eviction=eviction) as made,
        as_app(made.servers[0]) as app,
    ):
        for number in range(200):
            await app.ask("HSETEX", f"session-{number}", "EX", 3600, "FIELDS", 1, "name", "x" * 100)
            await app.ask("SET", f"journal-{number}", "x" * 100)
        for number in range(6000):
            await app.ask("SET", f"entry-{number}", "x" * 4000, "EX", 3600)
        entries = [one async for one in scan(app, "entry-*")]
        assert 1000 < len(entries) < 5000, "nothing was forgotten, or all"
        assert 200 == len([one async for one in scan(app, "session-*")])
        assert 200 == len([one async for one in scan(app, "journal-*")])
        assert -1 == await app.ask("TTL", "session-1"), "the fields expire, the key does not"

        with pytest.raises(connection.Refused) as refused:
            await overfill(app)
        assert "OOM" == refused.value.code
        assert "x" * 100 == await app.ask("GET", "journal-1")


async def overfill(app: connection.Connection) -> None:
    for number in range(6000):
        await app.ask("SET", f"lasting-{number}", "x" * 4000)


async def scan(app: connection.Connection, pattern: str) -> AsyncIterator[str]:
    cursor = "0"
    while True:
        cursor, keys = await app.ask("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
        for key in keys:
            yield key
        if cursor == "0":
            return


async def test_first_in_first_out_is_by_reads_that_do_not_count_as_uses(tmp_path: Path) -> None:
    async with (
        valkey_servers.started(tmp_path, NETWORK, memory_bytes=MEMORY_BYTES, subnet=9, eviction="fifo") as made,
        as_app(made.servers[0]) as untouching,
        as_app(made.servers[0]) as touching,
    ):
        await untouching.ask("CLIENT", "NO-TOUCH", "ON")
        for number in range(300):
            for kind in ("passed", "used"):
                await touching.ask("SET", f"{kind}-{number}", "x" * 4000, "EX", 3600)

        async def is_old() -> bool:
            """Valkey counts how long a key was not used in whole seconds."""
            return bool(await made.servers[0].ask("OBJECT", "IDLETIME", "used-299") >= 2)

        assert await clock.until(is_old, seconds=20)
        for number in range(5000):
            await touching.ask("SET", f"entry-{number}", "x" * 4000, "EX", 3600)
            await untouching.ask("GET", f"passed-{number % 300}")
            await touching.ask("GET", f"used-{number % 300}")
        passed = len([one async for one in scan(touching, "passed-*")])
        used = len([one async for one in scan(touching, "used-*")])
        assert passed < 60, "reads kept them"
        assert used > 100, "reads did not keep them"
