"""Processes: start together, stop in order, replace one at a time without a failed request."""

import asyncio
import dataclasses
from collections.abc import Iterable

from tenfold import engines
from tenfold.engines.patroni import admin as patroni
from tenfold.kit import clock
from tenfold.planning import steps
from tenfold.runtime import following, publish, seats, supervise
from tenfold.runtime.actions import balancer, cache, edge, naming, network, puts
from tenfold.runtime.actions.stage import Stage
from tenfold.topology import layout

ELECTION_SECONDS = 30.0
"""How long Patroni may take to promote one of its databases: the time that a dead leader's key lives, and a little."""

WITH_DATA = ("postgres", "patroni", "valkey", "nats")
"""Engines whose files outlive them: how they were started last says what the files are."""


async def start(stage: Stage, step: steps.StartProcesses) -> None:
    """Every process of the step is ready. Balancers start knowing the web servers that are wanted."""
    if any(name == "haproxy" for _, name in step.targets):
        balancer.ensure_front_doors_are_ours(stage, [server for server, name in step.targets if name == "haproxy"])
        if balancer.told_edges(stage):
            await following.ensure_followed(stage.seats)
    databases = [server for server, name in step.targets if name == "patroni"]
    if databases:
        await patroni.resume(stage.seat(databases[0], "patroni"))
    leaving = _leaving(stage)
    await stage.start((_seat(stage, server, name) for server, name in step.targets), as_before=leaving)
    if databases:
        await clock.until(lambda: _has_primary(stage), seconds=ELECTION_SECONDS, pause_seconds=0.2)


async def _has_primary(stage: Stage) -> bool:
    """What comes after Patroni's databases depends on which of them it promotes: ready replicas are not enough."""
    return (await stage.observer.snapshot(stage.seats)).primary is not None


def _seat(stage: Stage, server: str, name: str) -> engines.Seat:
    """A front door opens with the web servers that are wanted, and with the edges that the app tells of purges."""
    if name != "haproxy":
        return stage.seat(server, name)
    wanted, edges = balancer.wanted_web(stage), balancer.told_edges(stage)
    return stage.seats.seat(server, name, web_servers=wanted, edges=edges)


def _leaving(stage: Stage) -> tuple[str, ...]:
    """The cache and queue servers that the app still uses, while others are wanted: they run as they did."""
    found = [_leaving_in(stage.seats, region) for region in stage.seats.topology.regions]
    return tuple(name for names in found for name in names)


def _leaving_in(places: seats.Seats, region: str) -> tuple[str, ...]:
    told, wanted = publish.told_in(publish.published(places, region)), places.wanted.of(region)
    caches = tuple(one.name for one in wanted.running("valkey"))
    queues = tuple(one.name for one in places.wanted.of(places.topology.home).running("nats"))
    return (*(told.caches if told.caches != caches else ()), *(told.queues if told.queues != queues else ()))


async def stop(stage: Stage, step: steps.StopProcesses) -> None:
    """Every process of the step has ended. What holds data is remembered: its data is still there."""
    await puts.bring_home(stage, (server for server, name in step.targets if name == "valkey"))
    present = [target for target in step.targets if target[0] in stage.supervisor.store.records.servers]
    async with asyncio.TaskGroup() as group:
        for target in present:
            group.create_task(stage.supervisor.stop_process(*target))
    for server, name in present:
        if name not in WITH_DATA:
            stage.supervisor.forget(server, name)


async def replace(stage: Stage, step: steps.ReplaceProcesses) -> None:
    """Every process of the step runs with the wanted settings, one after the other.

    A web server is drained by every balancer first, and a worker ends what it has begun; a balancer, an edge and a
    cache server take new settings over without a restart. Before the first web server or worker stops, a rehearsal
    beside it shows that the app starts with the new settings, and so for each group of web servers, which may have an
    app of its own: one that does not start leaves every old one serving.
    """
    for first in _first_of_each_group(stage, step.targets):
        await rehearse(stage, first)
    for server, name in step.targets:
        seat = stage.seat(server, name)
        if name == "haproxy":
            await balancer.configure_now(stage, server, balancer.wanted_web(stage), balancer.told_edges(stage))
        elif name == "granian":
            await _replace_web(stage, seat)
        elif name == "varnish":
            await edge.renew(stage, seat)
        elif name == "valkey":
            await cache.renew(stage, seat)
        elif name == "wan":
            await network.renew(stage, seat)
        elif name == "georoute":
            await naming.renew(stage, seat)
        else:
            await stage.restart(seat)


def _first_of_each_group(stage: Stage, targets: Iterable[steps.Target]) -> list[engines.Seat]:
    firsts: dict[str, engines.Seat] = {}
    for target in targets:
        if target[1] in layout.APP_ENGINES:
            seat = stage.seat(*target)
            firsts.setdefault(f"{target[1]} {seat.process.group}", seat)
    return list(firsts.values())


async def rehearse(stage: Stage, seat: engines.Seat) -> None:
    """The process starts with its wanted settings, on another port, where no request reaches it; then it is stopped.

    Raises EngineFailed when it does not become ready.
    """
    process = dataclasses.replace(seat.process, name=supervise.REHEARSAL, port_offset=1)
    await stage.supervisor.start_process(dataclasses.replace(seat, process=process))
    await stage.supervisor.end_rehearsals()


async def _replace_web(stage: Stage, seat: engines.Seat) -> None:
    async with balancer.without(stage, (seat.process.group, seat.server.name)):
        await stage.restart(seat)
