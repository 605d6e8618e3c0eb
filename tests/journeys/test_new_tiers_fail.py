"""At the queued rung, under load, servers of edges, cache, queue and workers lose their power one after the other.

No request fails, no visitor is logged out, and every message has its effect once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support import project
from tenfold import traffic
from tenfold.kit import clock

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(500)]

HIGH = """
[balancer]
servers = 2
[cache]
servers = 3
[sessions]
store = "cache"
[queue]
servers = 3
[workers]
servers = 2
"""


def _begin_high(shop: project.Project) -> None:
    """Start where the climb ends: `test_climb` has the way there."""
    shop.edit(r"^\[web\]\nservers = 1", "[web]\nservers = 2")
    shop.edit(r"^\[database\]", "[database]\nreplicas = 2\nsynchronous = true")
    shop.edit(r"^edges  = 0.*", "edges = 2")
    path = shop.folder / "tenfold.toml"
    path.write_text(path.read_text() + HIGH)


async def _servers(shop: project.Project, tier: str) -> list[dict[str, Any]]:
    return [one for one in (await shop.status())["servers"] if one["tier"] == tier]


async def _whole(shop: project.Project) -> None:
    """Everything is ready, every key is served twice, and the queue has all its servers."""

    async def look() -> bool:
        status = await shop.status()
        processes = [one for server in status["servers"] for one in server["processes"]]
        caches = [server["cache"] for server in status["servers"] if server["tier"] == "cache"]
        queues = [server["queue"] for server in status["servers"] if server["tier"] == "queue"]
        return (
            all(one["state"] == "ready" for one in processes)
            and all(one and one["is_complete"] and len(one["members"]) == 6 for one in caches)
            and sorted(one["role"] for one in caches) == ["primary"] * 3 + ["replica"] * 3
            and all(one and one["has_quorum"] for one in queues)
        )

    assert await clock.until(look, seconds=90, pause_seconds=0.5), await shop.status()


async def _lose(shop: project.Project, *names: str, seconds: float = 0.0) -> None:
    """Cut the servers' power at once, and give it back `seconds` later."""
    await asyncio.gather(*(shop.tenfold("server", "kill", name) for name in names))
    await asyncio.sleep(seconds)
    await asyncio.gather(*(shop.tenfold("server", "start", name) for name in names))


async def _cache_primary(shop: project.Project) -> None:
    """It stays dead until another has taken over."""
    (dead, *_) = [one["name"] for one in await _servers(shop, "cache") if one["cache"]["role"] == "primary"]
    await shop.tenfold("server", "kill", dead)

    async def is_replaced() -> bool:
        living = [one["cache"] for one in await _servers(shop, "cache") if one["cache"]]
        return [one["role"] for one in living].count("primary") == 3

    assert await clock.until(is_replaced, seconds=30)
    await shop.tenfold("server", "start", dead)


async def _cache_replica(shop: project.Project) -> None:
    (dead, *_) = [one["name"] for one in await _servers(shop, "cache") if one["cache"]["role"] == "replica"]
    await _lose(shop, dead)


async def _stream_leader(shop: project.Project) -> None:
    """Long enough for an election; the relay keeps what nobody takes meanwhile."""
    leader = await _leader(await _servers(shop, "queue"))
    await _lose(shop, leader, seconds=6.0)


async def _leader(servers: list[dict[str, Any]]) -> str:
    """Which queue server leads the first stream, as the first server's monitor says."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{servers[0]['address']}:8222/jsz?streams=true") as response,
    ):
        said = await response.json(content_type=None)
    return str(said["account_details"][0]["stream_detail"][0]["cluster"]["leader"])


async def _worker(shop: project.Project) -> None:
    await _lose(shop, "worker-1")


async def _edge(shop: project.Project) -> None:
    await _lose(shop, "edge-1")


async def _all_caches(shop: project.Project) -> None:
    await _lose(shop, *[one["name"] for one in await _servers(shop, "cache")], seconds=3.0)


DEATHS: list[Callable[[project.Project], Awaitable[None]]] = [
    _edge,
    _cache_primary,
    _cache_replica,
    _stream_leader,
    _worker,
]


async def test_whatever_dies_of_edges_cache_queue_and_workers_no_request_fails_and_no_message_is_lost(
    tmp_path: Path,
) -> None:
    async with project.shop(tmp_path) as shop:
        _begin_high(shop)
        await shop.tenfold("up", "-d", seconds=250)
        assert "queued" == (await shop.status())["rung"]
        await _survives(shop, DEATHS)
        shop.edit(r'^store\s*=\s*"cache"', 'store = "database"')
        await shop.tenfold("apply", "--yes", seconds=200)
        await _survives(shop, [_all_caches])


async def _survives(shop: project.Project, deaths: list[Callable[[project.Project], Awaitable[None]]]) -> None:
    await _whole(shop)
    async with shop.load(rate=60) as load:
        await clock.until(lambda: _has_seen(load, 150), seconds=20)
        for death in deaths:
            await death(shop)
            await _whole(shop)
            seen = load.report.requests
            await clock.until(lambda seen=seen: _has_seen(load, seen + 60), seconds=20)  # type: ignore[misc]
            print(f"{death.__name__}: {load.report.total.to_dict()}, repeated {load.report.repeated}")
            assert not load.report.failures, (death.__name__, load.report.failures)
    await shop.ensure_nothing_lost(load.report)
    await shop.ensure_messages_had_their_effect_once()


async def _has_seen(load: traffic.Load, count: int) -> bool:
    return load.report.requests >= count
