"""PostgreSQL alone: made, copied, fenced, drained, switched."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from support import seats

from tenfold import engines, errors
from tenfold.engines import postgres
from tenfold.engines.postgres import admin, command, settings
from tenfold.kit import clock

pytestmark = pytest.mark.anyio

ENGINES = {"postgres": postgres.ENGINE}


@asynccontextmanager
async def app_connection(seat: engines.Seat) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """A connection as the app opens it."""
    connection = await asyncpg.connect(
        host=seat.address, user="shop", password=seat.secrets.app, database="shop", ssl=False, timeout=5
    )
    try:
        yield connection
    finally:
        await connection.close(timeout=2)


async def initialised(site: seats.Site, server: str = "database-1") -> engines.Seat:
    """A new primary with the service's roles and database."""
    seat = site.seat(server, "postgres")
    await site.power(seat)
    site.render(seat)
    admin.begin_copy(seat)
    await site.run(seat, command.initialise(seat))
    admin.finish_copy(seat)
    await site.start(seat)
    await admin.create_roles_and_database(seat)
    return seat


async def standby(site: seats.Site, source: engines.Seat, server: str) -> engines.Seat:
    """A standby of `source` that streams."""
    seat = site.seat(server, "postgres")
    await site.power(seat)
    site.render(seat)
    await admin.create_slot(source, server)
    admin.begin_copy(seat)
    await site.run(seat, command.base_backup(seat, source))
    admin.finish_standby(seat, source)
    await site.start(seat)

    async def is_streaming() -> bool:
        return await admin.is_replicating_to(source, (server,))

    assert await clock.until(is_streaming, seconds=10)
    return seat


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[seats.Site]:
    async with seats.site(tmp_path, seats.topology(replicas=2), ENGINES) as made:
        yield made


async def test_a_new_database_has_roles_that_can_log_in_and_the_app_owns_its_own(site: seats.Site) -> None:
    seat = await initialised(site)
    await admin.create_roles_and_database(seat)
    async with app_connection(seat) as connection:
        await connection.execute("create table one (id int)")
        assert "shop" == await connection.fetchval("select current_user")
        assert await connection.fetchval("select pg_has_role('pg_monitor', 'member')")
        assert not await connection.fetchval("select rolsuper from pg_roles where rolname = 'shop'")
