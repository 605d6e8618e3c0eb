"""At the replicated rung, under load, one thing after the other dies or hangs. No request fails, no write is lost."""

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from support import project
from tenfold import traffic
from tenfold.kit import clock, process

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]


async def _whole(shop: project.Project) -> None:
    """Everything is ready, and two replicas follow the primary."""

    async def look() -> bool:
        servers = (await shop.status())["servers"]
        processes = [one for server in servers for one in server["processes"]]
        nodes = [server["database"] for server in servers if server["database"]]
        return (
            all(one["state"] == "ready" for one in processes)
            and sorted(one["role"] for one in nodes) == ["primary", "standby", "standby"]
            and sum(one["is_streaming"] for one in nodes) == 2
        )

    assert await clock.until(look, seconds=60, pause_seconds=0.5), await shop.status()


async def _kill_process(shop: project.Project, server: str, name: str) -> None:
    os.kill(await shop.pid(server, name), signal.SIGKILL)


async def _web_server(shop: project.Project) -> None:
    await _kill_process(shop, "web-1", "granian")


async def _balancer(shop: project.Project) -> None:
    await shop.tenfold("server", "kill", "balancer-1")
    await shop.tenfold("server", "start", "balancer-1")


async def _replica(shop: project.Project) -> None:
    primary = await shop.primary()
    replica = next(name for name in ("database-1", "database-2", "database-3") if name != primary)
    await shop.tenfold("server", "kill", replica)
    await shop.tenfold("server", "start", replica)


async def _postmaster(shop: project.Project) -> None:
    primary = await shop.primary()
    record = shop.records.servers[primary]
    inner = int((shop.folder / ".tenfold/servers" / primary / "data/postgres/postmaster.pid").read_text().split()[0])
    assert record.enclosure is not None
    postmaster = record.enclosure.outside(inner)
    assert postmaster is not None
    os.kill(postmaster.pid, signal.SIGKILL)


async def _primary_server(shop: project.Project) -> None:
    primary = await shop.primary()
    await shop.tenfold("server", "kill", primary)

    async def look() -> bool:
        return any(
            one["database"] and one["database"]["role"] == "primary" and one["database"]["accepts_writes"]
            for one in (await shop.status())["servers"]
            if one["name"] != primary
        )

    assert await clock.until(look, seconds=30)
    await shop.tenfold("server", "start", primary)


async def _hung_web_server(shop: project.Project) -> None:
    (worker,) = process.children(await shop.pid("web-1", "granian"))
    await _stop_until_replaced(shop, "web-1", "granian", [worker])


async def _hung_balancer(shop: project.Project) -> None:
    (worker,) = process.children(await shop.pid("balancer-1", "haproxy"))
    await _stop_until_replaced(shop, "balancer-1", "haproxy", [worker])
    argv = shop.records.servers["balancer-1"].processes["haproxy"].argv
    assert argv[argv.index("-x") + 1].endswith("/balancer-2.haproxy"), "it must share the queue of one that lives"


async def _hung_primary_server(shop: project.Project) -> None:
    """Every process on it stands still, as in a virtual machine that is paused."""
    primary = await shop.primary()
    enclosure = shop.records.servers[primary].enclosure
    assert enclosure is not None
    assert enclosure.init is not None
    patroni = await shop.pid(primary, "patroni")
    family = [enclosure.init.pid, *process.descendants(enclosure.init.pid), patroni, *process.descendants(patroni)]
    await _stop_until_replaced(shop, primary, "patroni", family)


async def _stop_until_replaced(shop: project.Project, server: str, name: str, pids: list[int]) -> None:
    """SIGSTOP, and nobody continues them: they have to be found, and others to be started."""
    before = shop.records.servers[server].processes[name].identity
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)

    async def look() -> bool:
        now = shop.records.servers[server].processes[name]
        return now.is_alive and now.identity != before

    assert await clock.until(look, seconds=60, pause_seconds=0.2), f"{name} on {server} hangs"


DEATHS: list[Callable[[project.Project], Awaitable[None]]] = [
    _web_server,
    _balancer,
    _replica,
    _postmaster,
    _primary_server,
    _hung_web_server,
    _hung_balancer,
    _hung_primary_server,
]


async def test_whatever_dies_or_hangs_under_load_no_request_fails_and_no_write_is_lost(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        await shop.tenfold("up", "-d")
        await shop.tenfold("grow", "--to", "replicated", "--yes")
        for death in DEATHS:
            await _whole(shop)
            async with shop.load(rate=100) as load:
                await clock.until(lambda: _has_seen(load, 150), seconds=20)
                await death(shop)
                await _whole(shop)
            gap = load.report.longest_write_gap_seconds
            print(f"{death.__name__}: {load.report.total.to_dict()}, repeated {load.report.repeated}, gap {gap:.2f} s")
            await shop.ensure_nothing_lost(load.report)


async def _has_seen(load: traffic.Load, count: int) -> bool:
    return load.report.requests >= count
