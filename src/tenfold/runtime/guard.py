"""The control loop: looks whether what should run does, and starts again what does not. One iteration is one function.

It restarts processes and servers that died, with backoff, ends those that hang, and helps Patroni decide sooner: a
server that is proven dead cannot be the leader any more, so its key is released at once instead of after its time to
live.
"""

import asyncio
import time
from collections.abc import Callable

from tenfold import errors
from tenfold.engines.haproxy import admin as haproxy
from tenfold.engines.haproxy import command as haproxy_command
from tenfold.engines.haproxy import settings as haproxy_settings
from tenfold.engines.patroni import admin as patroni
from tenfold.kit import process
from tenfold.runtime import certificates, hung, logs, paths, records, renewal, seats, supervise
from tenfold.runtime.actions import balancer as balancers

PERIOD_SECONDS = 0.25

LOGS_SECONDS = 30.0

CERTIFICATES_SECONDS = 1.0


async def watch(supervisor: supervise.Supervisor, places: Callable[[], seats.Seats], where: paths.Paths) -> None:
    """Iterate until cancelled. An iteration that fails is reported and does not end the loop."""
    rotated_at = looked_at = 0.0
    certificate = renewal.Renewal(where, supervisor.journal)
    watch_of_hung = hung.Watch()
    while True:
        try:
            await hung.end(supervisor, watch_of_hung, time.monotonic())
            await once(supervisor, places())
            await balance(places())
            if time.monotonic() - looked_at > CERTIFICATES_SECONDS:
                looked_at = time.monotonic()
                now = places()
                await certificate.look(now.topology, balancers.living(now), certificates.now())
            if time.monotonic() - rotated_at > LOGS_SECONDS:
                rotated_at = time.monotonic()
                await asyncio.to_thread(logs.rotate, where)
        except errors.NotRunning:
            pass  # nothing was ever started here, so there is nothing to guard
        except (errors.TenfoldError, OSError) as error:
            supervisor.journal.say("guard_failed", str(error), level="error")
            await asyncio.sleep(1.0)
        await asyncio.sleep(PERIOD_SECONDS)


async def once(supervisor: supervise.Supervisor, places: seats.Seats) -> tuple[str, ...]:
    """One iteration: what it started again, as `server` or `server/process`."""
    process.Detached.reap()
    started: list[str] = []
    for server in list(supervisor.store.records.servers.values()):
        if server.power != "on":
            continue
        if not server.is_alive:
            started += await _revive(supervisor, places, server)
            continue
        for record in list(server.processes.values()):
            is_due = record.is_expected and not record.is_alive and time.time() >= record.next_start_at
            if is_due and await _restart(supervisor, places, server, record):
                started.append(f"{server.spec.name}/{record.name}")
    return tuple(started)


async def release_leader(supervisor: supervise.Supervisor, places: seats.Seats, server: records.ServerRecord) -> bool:
    """Release the leader key of a server that is proven dead, so that a replica takes over now.

    True when it held the key. Only ever called after `cut_server` returned: that is the proof (fencing).
    """
    if "patroni" not in server.processes or server.is_alive:
        return False
    seat = places.seat(server.spec.name, "patroni")
    was_leader = await patroni.release_leader_key(seat)
    if was_leader:
        supervisor.journal.say(
            "leader_released",
            f"{server.spec.name} is proven dead: its leader key is released, a replica takes over",
            subject=server.spec.name,
            level="warning",
        )
    return was_leader


async def balance(places: seats.Seats) -> None:
    """Policy `fastest`: set the weights of web servers from their measured latency, once a second.

    Not while a canary has its share: that is kept by weights, too.
    """
    if places.canaries:
        return
    for server in places.wanted.balancers:
        balancer = places.topology.of(server.region).balancer
        record = places.store.records.servers.get(server.name)
        if balancer is not None and balancer.policy == "fastest" and record is not None and record.is_alive:
            await haproxy.apply_fastest(haproxy_settings.runtime_socket(places.seat(server.name, "haproxy")))


async def _revive(supervisor: supervise.Supervisor, places: seats.Seats, server: records.ServerRecord) -> list[str]:
    """A server lost its power without anybody asking: fence it, release its leader key, start it again."""
    name = server.spec.name
    await supervisor.cut_server(name, "on")
    await release_leader(supervisor, places, server)
    if time.time() < server.next_start_at:
        return []
    server.restarts += 1
    server.next_start_at = time.time() + supervise.RESTARTS.seconds(server.restarts)
    await supervisor.start_server(server.spec, places.of(name))
    for record in server.processes.values():
        if record.is_expected:
            await _restart(supervisor, places, server, record)
    return [name]


async def _restart(
    supervisor: supervise.Supervisor,
    places: seats.Seats,
    server: records.ServerRecord,
    record: records.ProcessRecord,
) -> bool:
    """As it was started before; but a front door shares the listening socket of one that lives now.

    With a socket of its own it would have a queue of its own, and connections in it would end with it.
    """
    name = server.spec.name
    is_door = record.engine == "haproxy" and not record.is_alive
    argv = haproxy_command.command(places.seat(name, record.name)).argv if is_door else ()
    return await supervisor.restart(name, record.name, argv)
