"""The client of Valkey on real servers: one alone, and what goes wrong with it."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from support import valkey_servers
from tenfold import bindings
from tenfold.kit import clock, process
from tenfold.sdk import valkey
from tenfold.sdk.valkey import server as valkey_server

pytestmark = pytest.mark.anyio

NETWORK = 3


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[valkey_servers.Servers]:
    with valkey_servers.running(tmp_path_factory.mktemp("cache"), network=NETWORK, subnet=1) as made:
        yield made


@asynccontextmanager
async def started(bound: bindings.Cache) -> AsyncIterator[valkey.Client]:
    client = valkey.Client()
    await client.start(bound)
    try:
        yield client
    finally:
        await client.stop()


async def until(is_so: Callable[[], object], seconds: float = 20.0) -> None:
    async def look() -> bool:
        return bool(is_so())

    assert await clock.until(look, seconds=seconds, pause_seconds=0.01)


async def pid(server: valkey_servers.Server) -> process.Identity:
    """The server's process, as this side of its machine sees it."""
    info = await server.ask("INFO", "server")
    inner = next(int(line.split(":")[1]) for line in info.splitlines() if line.startswith("process_id:"))
    assert server.machine is not None
    found = server.machine.outside(inner)
    assert found is not None
    return found


async def test_commands_of_many_tasks_get_their_own_answers(servers: valkey_servers.Servers) -> None:
    async with started(servers.bound) as client:
        most = 0

        async def work(number: int) -> None:
            nonlocal most
            assert b"OK" == await client.call("SET", f"many:{number}", number, timeout=30)
            made = client.primaries()[0].connection
            most = max(most, len(made.pending) if made is not None else 0)
            assert b"%d" % number == await client.call("GET", f"many:{number}", timeout=30)

        await asyncio.gather(*(work(number) for number in range(10_000)))

        assert 0 < most <= valkey_server.IN_FLIGHT
        assert 3 == await client.call("INCR", "many:2")
        with pytest.raises(valkey.Refused) as caught:
            await client.call("LPUSH", "many:1", "x")
        assert "WRONGTYPE" == caught.value.code
        answers = await client.many([("GET", "many:7"), ("LPUSH", "many:1", "x"), ("GET", "nothing")])
        assert [b"7", None] == [answers[0], answers[2]]
        assert isinstance(answers[1], valkey.Refused)


async def test_a_value_of_many_megabytes_comes_back_whole(servers: valkey_servers.Servers) -> None:
    async with started(servers.bound) as client:
        big = bytes(range(256)) * 40_000

        for _ in range(3):
            await client.call("SET", "big", big, "PX", 60_000, timeout=30)
            assert big == await client.call("GET", "big", timeout=30)
        await client.call("UNLINK", "big")


async def test_whoever_is_cancelled_disturbs_nobody(servers: valkey_servers.Servers) -> None:
    async with started(servers.bound) as client:
        await client.many([("SET", f"c:{number}", number) for number in range(100)])

        async def read(number: int) -> bytes:
            answer: bytes = await client.call("GET", f"c:{number}", timeout=20)
            return answer

        for turn in range(30):
            tasks = [asyncio.create_task(read(number)) for number in range(100)]
            for _ in range(turn % 3):
                await asyncio.sleep(0)
            for task in tasks[turn % 2 :: 2]:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)

            assert all(
                isinstance(answer, asyncio.CancelledError) or answer == b"%d" % number
                for number, answer in enumerate(answers)
            )
            assert 50 == sum(isinstance(answer, bytes) for answer in answers)


async def test_a_script_runs_where_it_is_known_and_where_it_is_not(servers: valkey_servers.Servers) -> None:
    script = valkey.Script("return {KEYS[1], ARGV[1]}")
    async with started(servers.bound) as client:
        await servers.servers[0].ask("SCRIPT", "FLUSH")

        for _ in range(2):
            assert [b"k", b"7"] == await client.run(script, 7, keys=("k",))
        with pytest.raises(valkey.Refused):
            await client.run(valkey.Script("return redis.call('nonsense')"), keys=("k",))


async def test_a_wrong_password_is_said_and_the_right_one_is_taken_when_it_comes(
    servers: valkey_servers.Servers, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = msgspec.structs.replace(servers.bound, password="another")
    async with started(wrong) as client:
        with pytest.raises(valkey.Unavailable, match="WRONGPASS") as caught:
            await client.call("GET", "a", timeout=1)
        assert not caught.value.is_unknown
        assert "another" not in caplog.text + str(caught.value)

        client.update(servers.bound)
        assert b"PONG" == await client.call("PING", timeout=10)


async def test_what_is_no_valkey_fails_by_the_deadline(caplog: pytest.LogCaptureFixture) -> None:
    greeted = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal greeted
        greeted += 1
        writer.write(b"220 mail.example.org ESMTP\r\n" * 100)
        await reader.read()
        writer.close()

    address = f"127.{NETWORK}.1.99"
    async with await asyncio.start_server(talk, address, 6379):
        bound = bindings.Cache(nodes=(bindings.CacheNode(name="mail", host=address),))
        async with started(bound) as client:
            began = time.monotonic()
            with pytest.raises(valkey.Unavailable, match="not the protocol"):
                await client.call("GET", "a", timeout=1)

            assert time.monotonic() - began < 5
            assert 1 <= greeted < 20  # it backs off
    assert 1 == caplog.text.count("cannot be used, and is tried again")


async def test_it_starts_before_its_server_does_and_listens_through_its_restarts(tmp_path: Path) -> None:
    async with valkey_servers.started(tmp_path, network=NETWORK, subnet=2) as servers:
        await servers.kill()
        async with started(servers.bound) as client:
            heard: list[bytes] = []
            breaks: list[bool] = []
            client.subscribe("news", heard.append)
            client.on_break(breaks.append)
            with pytest.raises(valkey.Unavailable, match="nothing was sent"):
                await client.call("GET", "a", timeout=0.3)
            early = client.call("SET", "early", 1, timeout=30)
            assert not client.is_well("early")
            with pytest.raises(valkey.Unavailable):
                await client.every("PING")

            await servers.servers[0].start()
            assert b"OK" == await early
            await until(lambda: client.is_whole)
            assert [1] == await client.every("PUBLISH", "news", "one")
            assert [b"one"] == heard
            assert [True] == breaks

            await servers.restart()
            await until(lambda: breaks == [True, False, True])
            await client.every("PUBLISH", "news", "two")
            assert [b"one", b"two"] == heard


async def test_a_server_that_stands_still_costs_its_deadline_once_and_then_nothing(tmp_path: Path) -> None:
    async with valkey_servers.started(tmp_path, network=NETWORK, subnet=3) as servers, started(servers.bound) as client:
        await client.many([("SET", f"s:{number}", number) for number in range(50)], timeout=20)
        breaks: list[bool] = []
        client.on_break(breaks.append)
        stopped = await pid(servers.servers[0])
        process.send(stopped, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(valkey.Unavailable, match="a write may have happened"):
            await client.call("SET", "s:0", "unknown", timeout=0.3)
        assert time.monotonic() - began < 2
        assert not client.is_well("s:0")

        # A connection that has been silent for too long is given up: nobody trusts its channel any more.
        await until(lambda: breaks == [False])
        waiting = [client.call("GET", f"s:{number}", timeout=30, repeat=True) for number in range(1, 50)]
        process.send(stopped, signal.SIGCONT)
        assert [b"%d" % number for number in range(1, 50)] == await asyncio.gather(*waiting)
        assert client.is_well("s:0")


async def test_what_waits_for_a_server_that_is_gone_is_bounded(tmp_path: Path) -> None:
    bound = bindings.Cache(nodes=(bindings.CacheNode(name="nobody", host=f"127.{NETWORK}.1.98"),))
    async with started(bound) as client:
        sent = [client.call("SET", "a", "b", timeout=1.0) for _ in range(valkey_server.LINE + 100)]

        assert 100 == sum(one.done() for one in sent)
        outcomes = await asyncio.gather(*sent, return_exceptions=True)
        assert all(isinstance(one, valkey.Unavailable) and not one.is_unknown for one in outcomes)

        heavy = [client.call("SET", "a", b"x" * 1024**2, timeout=0.5) for _ in range(80)]
        assert 10 < sum(one.done() for one in heavy) < 20
        await asyncio.gather(*heavy, return_exceptions=True)


async def test_it_follows_to_other_servers_and_to_none(servers: valkey_servers.Servers, tmp_path: Path) -> None:
    async with valkey_servers.started(tmp_path, network=NETWORK, subnet=4) as others, started(servers.bound) as client:
        await client.call("SET", "where", "here")
        client.update(others.bound)
        await until(lambda: [one.name for one in client.primaries()] == [f"127.{NETWORK}.4.1:6379"])
        assert await client.call("GET", "where") is None

        client.update(msgspec.structs.replace(others.bound, eviction="fifo"))
        await client.call("PING")
        assert "flags=T" in await others.servers[0].ask("CLIENT", "LIST")  # no touch

        client.update(bindings.Cache())
        assert not client.is_there
        with pytest.raises(valkey.Unavailable, match="no cache servers"):
            await client.call("GET", "where")


async def test_a_stopped_client_leaves_nothing_behind(servers: valkey_servers.Servers) -> None:
    before = asyncio.all_tasks()
    async with started(servers.bound) as client:
        async with client.dedicated("a", timeout=10) as own:
            assert b"PONG" == await own.call("PING")
        await client.call("PING")
    with pytest.raises(valkey.Unavailable):
        await client.call("PING")
    await client.stop()

    assert before == asyncio.all_tasks()

    async def is_alone() -> bool:
        return "name=tenfold" not in await servers.servers[0].ask("CLIENT", "LIST")

    assert await clock.until(is_alone, seconds=10)
