"""NATS: three servers agree on every message, go on without one of them, refuse what they cannot keep, give their
leaderships away before they stop, and let nobody in without a password."""

import gc
import signal
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from nats import errors as nats_errors
from nats.aio.client import Client
from nats.js import api
from nats.js import errors as js_errors

from support import nats_servers
from tenfold.engines import nats as engine
from tenfold.engines.nats import admin
from tenfold.kit import clock, process

pytestmark = pytest.mark.anyio

NETWORK = 2

LEADERLESS_SECONDS = 60
"""An election takes four to nine seconds, and a busy machine may need two."""


@pytest.fixture(scope="module", autouse=True)
def left_over() -> Iterator[None]:
    """nats-py leaves the sockets of servers that died to the garbage collector, which would tell the next test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nats_servers.Servers]:
    with nats_servers.running(tmp_path_factory.mktemp("queue"), NETWORK, count=3, subnet=5) as made:
        yield made


@pytest.fixture
async def three(shared: nats_servers.Servers) -> nats_servers.Servers:
    """Three servers, all of them ready."""
    dead = [one for one in shared.servers if one.machine is None]
    if dead:
        await shared.restart(*dead)
    await shared.until_ready()
    return shared


@asynccontextmanager
async def as_app(servers: nats_servers.Servers) -> AsyncIterator[Client]:
    """A client as the app has it: it looks for another server as long as it lives."""
    client = await nats.connect(
        servers.urls,
        user=nats_servers.USER,
        password=nats_servers.PASSWORD,
        error_cb=_pass,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.05,
        connect_timeout=5,
    )
    try:
        yield client
    finally:
        await client.close()


async def _pass(_: Exception) -> None:
    """Lost connections are what these tests are about."""


async def make(client: Client, name: str, replicas: int = 3, **settings: Any) -> None:
    config = api.StreamConfig(name=name, subjects=[f"{name}.>"], num_replicas=replicas, **settings)

    async def is_made() -> bool:
        """It is put on servers that are known to live: one that came back is not believed at once."""
        try:
            await client.jetstream().add_stream(config)
        except js_errors.APIError:
            return False
        return True

    assert await clock.until(is_made, seconds=LEADERLESS_SECONDS, pause_seconds=0.1)


async def publish(client: Client, name: str, count: int) -> list[int]:
    """Messages that were acknowledged, each with an id under which it counts once however often it is sent."""
    found = []
    for number in range(count):

        async def is_acknowledged(number: int = number) -> bool:
            headers = {"Nats-Msg-Id": f"{name}-{number}"}
            try:
                await client.jetstream().publish(f"{name}.a", str(number).encode(), timeout=1, headers=headers)
            except (nats_errors.Error, TimeoutError):
                return False
            return True

        assert await clock.until(is_acknowledged, seconds=LEADERLESS_SECONDS, pause_seconds=0.05), number
        found.append(number)
    return found


async def read(client: Client, name: str) -> list[int]:
    """Every message of a stream, in its order."""

    async def look() -> list[int] | None:
        try:
            info = await client.jetstream().stream_info(name)
            last = range(info.state.first_seq, info.state.last_seq + 1)
            return [int((await client.jetstream().get_msg(name, one)).data or b"") for one in last]
        except (nats_errors.Error, TimeoutError):
            return None  # the stream has no leader yet

    return await clock.until(look, seconds=LEADERLESS_SECONDS) or []


async def test_they_agree_on_a_leader_and_say_what_they_hold(three: nats_servers.Servers) -> None:
    async with as_app(three) as client:
        await make(client, "facts", max_bytes=1024**2)
        await client.jetstream().add_consumer("facts", durable_name="mailer", ack_policy=api.AckPolicy.EXPLICIT)
        began = time.time()
        await publish(client, "facts", 5)
        seats = [one.seat for one in three.servers]
        told = [one for seat in seats if (one := await admin.facts(seat))]
        assert 1 == sum(one.is_leader for one in told)
        assert all(one.has_quorum for one in told)
        roles = sorted([(await engine.ENGINE.probe(seat)).role for seat in seats])
        assert ["follower", "follower", "leader"] == roles

        stream = next(one for one in await admin.streams(seats) if one.name == "facts")
        assert (5, 2) == (stream.messages, len(stream.followers))
        assert began - 0.1 <= stream.oldest_at <= time.time() + 0.1
        assert [("mailer", 5, 0)] == [(one.name, one.waiting, one.unacknowledged) for one in stream.consumers]


async def test_a_killed_leader_is_replaced_and_takes_no_acknowledged_message_with_it(
    three: nats_servers.Servers,
) -> None:
    async with as_app(three) as client:
        await make(client, "leader")
        await publish(client, "leader", 20)
        dead = await three.leader_of("leader")
        await three.kill(dead)
        assert list(range(40)) == await publish(client, "leader", 40)
        assert list(range(40)) == await read(client, "leader")
        await three.restart(dead)

        async def keeps_up() -> bool:
            held = await admin.streams([one.seat for one in three.servers])
            return [2] == [len(one.followers) for one in held if one.name == "leader"]

        assert await clock.until(keeps_up, seconds=30), "the server that came back does not keep up"


async def test_one_that_is_stopped_gives_its_leaderships_away_first(three: nats_servers.Servers) -> None:
    async with as_app(three) as client:
        await make(client, "stopped")
        await publish(client, "stopped", 3)
        leaving = await three.leader_of("stopped")
        assert leaving.machine is not None
        running = leaving.machine.find("nats")
        assert running is not None
        command = engine.ENGINE.command(leaving.seat)
        assert signal.SIGUSR2 == command.stop_signal
        process.send(running, command.stop_signal)

        async def leads_elsewhere() -> bool:
            """As long as it still runs: an election after a death comes when it is gone."""
            known = await admin.streams([one.seat for one in three.servers if one is not leaving])
            return any(one.name == "stopped" and one.leader not in ("", leaving.name) for one in known)

        assert await clock.until(leads_elsewhere, seconds=20, pause_seconds=0.02)
        assert list(range(10)) == await publish(client, "stopped", 10)
        assert await process.gone(running, command.grace_seconds)
        await leaving.kill()
        assert list(range(10)) == await read(client, "stopped")


async def test_one_of_three_is_no_majority_and_after_all_were_killed_everything_is_there(
    three: nats_servers.Servers,
) -> None:
    async with as_app(three) as client:
        await make(client, "restart")
        await publish(client, "restart", 20)
        first, *others = three.servers
        await three.kill(*others)

        async def is_unready() -> bool:
            return not (await engine.ENGINE.probe(first.seat)).is_ready

        assert await clock.until(is_unready, seconds=60, pause_seconds=0.2)
        with pytest.raises((nats_errors.Error, TimeoutError)):
            await client.jetstream().publish("restart.a", b"20", timeout=1)
        await three.restart()
        kept = await read(client, "restart")
        assert list(range(20)) == kept[:20]


async def test_what_does_not_fit_is_refused_and_what_is_there_stays(tmp_path: Path) -> None:
    storage_bytes, most_bytes = 16 * 1024**2, 256 * 1024
    async with (
        nats_servers.started(tmp_path, NETWORK, storage_bytes=storage_bytes, most_bytes=most_bytes, subnet=6) as made,
        as_app(made) as client,
    ):
        await make(client, "full", replicas=1)
        with pytest.raises(js_errors.APIError) as refused:
            await overfill(client, b"x" * 200_000, count=200)
        assert 503 == refused.value.code, "no room is a 503"
        kept = await client.jetstream().stream_info("full")
        assert 0.5 * storage_bytes < kept.state.bytes < storage_bytes + most_bytes
        told = await admin.facts(made.servers[0].seat)
        assert told is not None
        assert kept.state.messages == told.messages
        assert told.has_quorum
        with pytest.raises(nats_errors.MaxPayloadError):
            await client.publish("full.a", b"x" * (most_bytes + 65_537))


async def overfill(client: Client, message: bytes, count: int) -> None:
    for _ in range(count):
        await client.jetstream().publish("full.a", message, timeout=5)


async def test_nobody_without_a_password_and_the_app_sees_nothing_of_the_system(three: nats_servers.Servers) -> None:
    for password in ("", "wrong"):
        stranger = Client()
        with pytest.raises(nats_errors.Error, match="Authorization"):
            await stranger.connect(
                three.urls[0], user=nats_servers.USER, password=password, allow_reconnect=False, error_cb=_pass
            )
        await stranger.close()
    async with as_app(three) as client:
        with pytest.raises((nats_errors.NoRespondersError, nats_errors.TimeoutError)):
            await client.request("$SYS.REQ.SERVER.PING", b"", timeout=0.5)
