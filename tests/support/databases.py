"""Ways to a running database on a site: alone, copied, taken over by Patroni, replicated from nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from support import seats
from tenfold import engines
from tenfold.engines.patroni import admin as patroni
from tenfold.engines.postgres import admin as postgres
from tenfold.engines.postgres import command
from tenfold.kit import clock, process

Connection = asyncpg.Connection


@asynccontextmanager
async def app_connection(seat: engines.Seat) -> AsyncIterator[Connection]:
    """A connection as the app opens it."""
    connection = await asyncpg.connect(
        host=seat.address, user="shop", password=seat.secrets.app, database="shop", ssl=False, timeout=5
    )
    try:
        yield connection
    finally:
        connection.terminate()


async def made(site: seats.Site, server: str) -> engines.Seat:
    """A new database that does not run yet."""
    seat = site.seat(server, "postgres")
    await site.power(seat)
    site.render(seat)
    postgres.begin_copy(seat)
    await site.run(seat, command.initialise(seat))
    postgres.finish_copy(seat)
    return seat


async def alone(site: seats.Site, server: str = "database-1") -> engines.Seat:
    """A new primary without Patroni, with the service's roles and database."""
    seat = await made(site, server)
    await site.start(seat)
    await postgres.create_roles_and_database(seat)
    return seat


async def standby(site: seats.Site, source: engines.Seat, server: str) -> engines.Seat:
    """A standby of `source` without Patroni that streams."""
    seat = site.seat(server, "postgres")
    await site.power(seat)
    site.render(seat)
    await postgres.create_slot(source, server)
    postgres.begin_copy(seat)
    await site.run(seat, command.base_backup(seat, source))
    postgres.finish_standby(seat, source)
    await site.start(seat)

    async def is_streaming() -> bool:
        return await postgres.is_replicating_to(source, (server,))

    assert await clock.until(is_streaming, seconds=10)
    return seat


async def coordination(site: seats.Site) -> tuple[engines.Seat, ...]:
    """Three etcd servers with passwords on."""
    found = tuple(site.seat(f"coordination-{number}", "etcd") for number in (1, 2, 3))
    await asyncio.gather(*(site.start(seat) for seat in found))
    return found


async def replicated(site: seats.Site, count: int = 3) -> list[engines.Seat]:
    """Patronis on the first servers, at once, until one leads and the others stream. The leader comes first."""
    nodes = [site.seat(f"database-{number}", "patroni") for number in range(1, count + 1)]
    await asyncio.gather(*(site.start(seat, seconds=60) for seat in nodes))
    return await settled(nodes)


async def settled(nodes: list[engines.Seat], seconds: float = 60.0) -> list[engines.Seat]:
    """Wait until one of the nodes leads and the others stream. The leader comes first."""

    async def look() -> list[engines.Seat]:
        try:
            found = await patroni.members(nodes[0])
        except engines.errors.EngineFailed:
            return []
        leading = [one.server for one in found if one.role == "leader" and one.state == "running"]
        streaming = {one.server for one in found if one.state == "streaming"}
        names = {seat.server.name for seat in nodes}
        if len(leading) == 1 and names <= streaming | set(leading):
            return sorted(nodes, key=lambda seat: seat.server.name != leading[0])
        return []

    found = await clock.until(look, seconds=seconds, pause_seconds=0.05)
    assert found, await patroni.members(nodes[0])
    return found


def postmaster(site: seats.Site, seat: engines.Seat) -> process.Identity:
    """The postmaster of the server, whoever started it."""
    pid_file = seat.root / "data" / "postgres" / "postmaster.pid"
    identity = site.powered[seat.server.name].outside(int(pid_file.read_text().split()[0]))
    assert identity is not None
    return identity
