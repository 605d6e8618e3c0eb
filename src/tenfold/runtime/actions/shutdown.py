"""`tenfold down`: everything stops politely, in the order in which nothing is asked of what is gone already."""

import asyncio
import itertools
import math

from tenfold.runtime import observe, seats, supervise

ETCD_SECONDS = 1.0
"""How long etcd is asked before it is killed, when all of it stops: a leader whose followers are gone already looks
for an heir for 7 s, and finds none. What it has acknowledged is on its disk, whichever way it ends."""

BESIDE_DATABASES = ("valkey", "nats")
"""Without the app nobody asks them or the databases for anything: they stop while replicas do."""


async def stop_everything(
    supervisor: supervise.Supervisor, observer: observe.Observer, places: seats.Seats
) -> list[str]:
    """Stop all processes: doors, the app, cache and queue, replicas, the primary, coordination. Then cut the power.

    Replicas before the primary, so that none of them is promoted by its death. The data stays.
    """
    snapshot = await observer.snapshot(places)
    primary = snapshot.primary.server if snapshot.primary else ""
    servers = supervisor.store.records.servers
    running = [(server, name) for server, record in servers.items() for name in record.processes]
    by_rank = itertools.groupby(sorted(running, key=lambda one: _rank(one, primary)), lambda one: _rank(one, primary))
    for _, targets in by_rank:
        async with asyncio.TaskGroup() as group:
            for target in targets:
                group.create_task(supervisor.stop_process(*target, most_seconds=_patience(target)))
    names = [name for name, one in servers.items() if one.power != "killed"]
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(supervisor.cut_server(name, "off"))
    return names


def _patience(target: tuple[str, str]) -> float:
    _, name = target
    return ETCD_SECONDS if name == "etcd" else math.inf


def _rank(target: tuple[str, str], primary: str) -> int:
    server, name = target
    order = supervise.STOP_ORDER
    name = "patroni" if name in BESIDE_DATABASES else name
    rank = order.index(name) * 2 if name in order else 2
    return rank + (1 if server == primary else 0)
