"""NATS in two regions: each has a majority of its own, and the far one a copy of the stream that can take its place."""

import dataclasses
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from nats import errors as nats_errors
from nats.aio.client import Client

from support import nats_regions, nats_servers
from tenfold.kit import clock

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

NETWORK = 80

STREAM = {"name": "shop", "storage": "file", "num_replicas": 3}
TAKING = {**STREAM, "subjects": ["tenfold.shop.*.>"]}
SUBJECT = "tenfold.shop.00.signed_up"


async def test_a_region_keeps_its_majority_and_a_copy_when_the_other_is_lost(tmp_path: Path) -> None:
    async with nats_regions.started(tmp_path, NETWORK) as regions, clients(regions) as (near, far):
        for servers in (regions.near, regions.far):
            groups = [(await one.monitor("/jsz"))["meta_cluster"] for one in servers.servers]
            assert [3, 3, 3] == [one["cluster_size"] for one in groups]
            assert groups[0]["leader"] in [one.name for one in servers.servers]

        await asked(near, "STREAM.CREATE.shop", TAKING)
        await publish(near, 5)
        await until_joined(far)
        await asked(far, "STREAM.CREATE.shop", mirror_of("home"))
        assert await holds(far, 5)
        with pytest.raises((nats_errors.NoRespondersError, TimeoutError)):
            await far.request(SUBJECT, b"messages themselves do not cross", timeout=1)

        regions.cut()
        await publish(near, 5)
        await asked(far, "STREAM.INFO.shop")
        regions.heal()
        assert await holds(far, 10), "a copy that was cut off does not catch up"

        await regions.near.kill()
        await asked(far, "STREAM.CREATE.other", {**STREAM, "name": "other", "subjects": ["other"]})
        await asked(far, "STREAM.UPDATE.shop", TAKING)
        await publish(far, 5)
        assert await holds(far, 15)

        await regions.near.restart()
        await until_joined(far)
        async with connected(regions.near) as returned:
            await publish(far, 5)
            assert await holds(returned, 10), "what is new reached the old stream as well"
            await asked(returned, "STREAM.DELETE.shop")
            await asked(returned, "STREAM.CREATE.shop", mirror_of("virginia"))
            assert await holds(returned, 20)


async def test_nobody_joins_a_region_without_the_password(tmp_path: Path) -> None:
    async with nats_regions.started(tmp_path, NETWORK, count=1) as regions, clients(regions) as (_, far):
        await until_joined(far)
        (near_server,), (far_server,) = regions.near.servers, regions.far.servers
        assert ["SERVICE"] == [one["account"] for one in (await near_server.monitor("/leafz"))["leafs"]]
        await far_server.kill()
        wrong = dataclasses.replace(far_server.seat.secrets, queue_admin="wrong")
        far_server.seat = dataclasses.replace(far_server.seat, secrets=wrong)
        await far_server.launch()

        async def is_refused() -> bool:
            return "authentication error" in near_server.log().lower()

        assert await clock.until(is_refused, seconds=30, pause_seconds=0.1), near_server.log()
        assert not (await near_server.monitor("/leafz")).get("leafs")


def mirror_of(domain: str) -> dict[str, Any]:
    return {**STREAM, "mirror": {"name": "shop", "external": {"api": f"$JS.{domain}.API"}}}


@asynccontextmanager
async def clients(regions: nats_regions.Regions) -> AsyncIterator[tuple[Client, Client]]:
    async with connected(regions.near) as near, connected(regions.far) as far:
        yield near, far


@asynccontextmanager
async def connected(servers: nats_servers.Servers) -> AsyncIterator[Client]:
    """A client as the app has it."""
    client = await nats.connect(
        servers.urls,
        user=nats_servers.USER,
        password=nats_servers.PASSWORD,
        error_cb=_pass,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.1,
    )
    try:
        yield client
    finally:
        await client.close()


async def asked(client: Client, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The answer of the client's own region; a stream whose leader is elected just now is asked again."""

    async def ask() -> dict[str, Any] | None:
        try:
            answer = await client.request(f"$JS.API.{what}", json.dumps(body).encode() if body else b"", timeout=5)
        except (nats_errors.Error, TimeoutError):
            return None
        return dict(json.loads(answer.data))

    said = await clock.until(ask, seconds=60, pause_seconds=0.2)
    assert said, f"no answer to {what}"
    assert "error" not in said, said
    return said


async def until_joined(far: Client) -> None:
    """The first region's JetStream answers here by its name."""

    async def is_joined() -> bool:
        try:
            return bool(await far.request("$JS.home.API.INFO", b"", timeout=1))
        except (nats_errors.Error, TimeoutError):
            return False

    assert await clock.until(is_joined, seconds=30, pause_seconds=0.1), "the regions did not join"


async def publish(client: Client, count: int) -> None:
    """So many messages, each acknowledged by the region's own stream."""
    for _ in range(count):
        headers = {"Nats-Msg-Id": secrets.token_hex(8)}

        async def is_acknowledged(headers: dict[str, str] = headers) -> bool:
            try:
                return bool(await client.request(SUBJECT, b"", timeout=2, headers=headers))
            except (nats_errors.Error, TimeoutError):
                return False

        assert await clock.until(is_acknowledged, seconds=30, pause_seconds=0.1)


async def holds(client: Client, last: int) -> bool:
    """Whether the region's stream comes to hold every message up to this one, and nothing after it."""

    async def is_there() -> bool:
        state = (await asked(client, "STREAM.INFO.shop"))["state"]
        return last == int(state["last_seq"])

    return bool(await clock.until(is_there, seconds=60, pause_seconds=0.2))


async def _pass(_: Exception) -> None:
    """What nats-py says while servers are away."""
