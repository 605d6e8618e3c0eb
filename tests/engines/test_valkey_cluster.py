"""The client of Valkey on a real cluster: slots, redirects, and primaries that die or stand still under load."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from support import valkey_servers
from tenfold import bindings
from tenfold.kit import clock, process
from tenfold.sdk import valkey
from tenfold.sdk.valkey import slots

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[valkey_servers.Servers]:
    with valkey_servers.running(tmp_path_factory.mktemp("cache"), network=63, subnet=21, primaries=3) as made:
        yield made


@asynccontextmanager
async def started(bound: bindings.Cache) -> AsyncIterator[valkey.Client]:
    client = valkey.Client()
    await client.start(bound)
    try:
        assert b"PONG" == await client.call("PING", timeout=20)
        yield client
    finally:
        await client.stop()


async def until(is_so: Callable[[], object], seconds: float = 30.0) -> None:
    async def look() -> bool:
        return bool(is_so())

    assert await clock.until(look, seconds=seconds, pause_seconds=0.01)


def key_of(slot: int) -> str:
    """A key in this slot."""
    return next(key for key in (f"key:{number}" for number in range(10**6)) if slots.of(key) == slot)


async def test_every_key_is_found_and_the_servers_agree_on_its_slot(servers: valkey_servers.Servers) -> None:
    keys = [
        "",
        "a",
        "foo",
        "{foo}bar",
        "foo{}{bar}",
        "foo{{bar}}zap",
        "}{",
        "{a",
        "ü{é}",
        *(f"k:{n}" for n in range(200)),
    ]
    one = bindings.Cache(nodes=servers.bound.nodes[-1:], user=servers.bound.user, password=servers.bound.password)
    async with started(one) as client:  # any server knows the others
        said = await client.many([("CLUSTER", "KEYSLOT", key) for key in keys], timeout=20)
        assert [slots.of(key) for key in keys] == said

        assert [b"OK"] * len(keys) == await client.many([("SET", key, key) for key in keys])
        assert [key.encode() for key in keys] == await client.many([("GET", key) for key in keys])
        assert 3 == len(client.primaries())
        assert len(keys) == sum(await client.every("DBSIZE"))


async def test_a_slot_that_moves_is_followed_key_by_key(servers: valkey_servers.Servers) -> None:
    slot = 100
    moving = [f"{{{key_of(slot)}}}:{number}" for number in range(20)]
    source = await servers.primary_of(moving[0])
    target = await servers.primary_of(key_of(16000))
    ids = {one.host: await one.ask("CLUSTER", "MYID") for one in (source, target)}
    async with started(servers.bound) as client:
        await client.many([("SET", key, key) for key in moving])
        await target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.host])
        await source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.host])
        account = ("AUTH2", valkey_servers.ADMIN, valkey_servers.ADMIN_PASSWORD)
        await source.ask("MIGRATE", target.host, 6379, "", 0, 5000, *account, "KEYS", *moving[:10])

        assert [key.encode() for key in moving] == await client.many([("GET", key) for key in moving])
        assert b"OK" == await client.call("SET", f"{moving[0]}:new", 1)
        # Half of these keys are here and half are there, until the rest has gone.
        both = client.call("MGET", moving[0], moving[15], timeout=20)
        await asyncio.sleep(0.1)
        assert not both.done()
        await source.ask("MIGRATE", target.host, 6379, "", 0, 5000, *account, "KEYS", *moving[10:])
        for one in (target, source):
            await one.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target.host])

        assert [moving[0].encode(), moving[15].encode()] == await both
        assert [key.encode() for key in moving] == await client.many([("GET", key) for key in moving])
        await until(
            lambda: any(one.address[0] == target.host and one is client.owner(moving[0]) for one in client.primaries())
        )


async def test_a_primary_that_stands_still_holds_up_nobody_else(servers: valkey_servers.Servers) -> None:
    await servers.until_whole()
    async with started(servers.bound) as client:
        keys = [f"s:{number}" for number in range(300)]
        await client.many([("SET", key, key) for key in keys])
        victim = await servers.primary_of("s:0")
        mine = [key for key in keys if client.owner(key).address[0] == victim.host]
        others = [key for key in keys if key not in mine]
        assert victim.machine is not None
        info = await victim.ask("INFO", "server")
        inner = next(int(line.split(":")[1]) for line in info.splitlines() if line.startswith("process_id:"))
        stopped = victim.machine.outside(inner)
        assert stopped is not None
        process.send(stopped, signal.SIGSTOP)
        try:
            began = time.monotonic()
            late = asyncio.gather(*(client.call("GET", key, timeout=0.4) for key in mine), return_exceptions=True)
            for key in others:
                assert key.encode() == await client.call("GET", key, timeout=10)
            assert all(isinstance(one, valkey.Unavailable) for one in await late)
            assert time.monotonic() - began < 5
        finally:
            process.send(stopped, signal.SIGCONT)
        assert [key.encode() for key in mine] == await asyncio.gather(
            *(client.call("GET", key, timeout=30, repeat=True) for key in mine)
        )
    await servers.until_whole()


async def test_a_failover_under_load_loses_nothing_that_was_waited_for(servers: valkey_servers.Servers) -> None:
    await servers.until_whole()
    acknowledged: set[str] = set()
    is_over = asyncio.Event()
    read = 0
    async with started(servers.bound) as client:
        victim = await servers.primary_of("k")
        await until(lambda: client.is_whole)
        breaks: list[bool] = []
        client.on_break(breaks.append)
        heard: list[bytes] = []
        client.subscribe("news", heard.append)
        await until(lambda: client.is_whole)

        async def write(writer: int) -> None:
            number = 0
            while not is_over.is_set():
                key, number = f"{{w{writer}}}:{number}", number + 1
                try:
                    async with client.dedicated(key, timeout=1) as own:
                        said = await own.many([("SET", key, key), ("WAIT", 1, 500)])
                except valkey.ValkeyError:
                    await asyncio.sleep(0.02)
                else:
                    if said[0] == b"OK" and isinstance(said[1], int) and said[1] >= 1:
                        acknowledged.add(key)

        async def read_on() -> None:
            nonlocal read
            while not is_over.is_set():
                assert await client.call("GET", f"nothing:{read}", timeout=60, repeat=True) is None
                read += 1

        async with asyncio.TaskGroup() as tasks:
            for writer in range(12):
                tasks.create_task(write(writer))
            for _ in range(3):
                tasks.create_task(read_on())
            await until(lambda: len(acknowledged) > 300)
            await victim.kill()
            await until(lambda: all(one.address[0] != victim.host and one.connection for one in client.primaries()))
            before = len(acknowledged)
            await until(lambda: len(acknowledged) > before + 200)
            await until(lambda: client.is_whole)
            is_over.set()

        kept = await client.many([("GET", key) for key in sorted(acknowledged)], timeout=30, repeat=True)
        assert sorted(acknowledged) == [value.decode() for value in kept if isinstance(value, bytes)]
        assert read > 20
        assert False in breaks
        heard.clear()
        answers = await client.every("PUBLISH", "news", "after")
        assert len(answers) <= len(heard)
        await servers.restart(victim)
    await servers.until_whole()
