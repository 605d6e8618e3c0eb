"""`DATABASE_URL` is one text that every library reads, and that finds the primary wherever it is."""

import sys
from collections.abc import AsyncIterator

import asyncpg
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from support import postgres_cluster
from tenfold import bindings
from tenfold.kit import process

pytestmark = pytest.mark.anyio

NETWORK = 74
QUERY = "select host(inet_server_addr()) || ' ' || current_setting('transaction_read_only')"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[postgres_cluster.Cluster]:
    """Three servers; the test moves the primary from the first to the last."""
    async with postgres_cluster.cluster(tmp_path_factory.mktemp("url"), NETWORK) as made:
        yield made


def url(hosts: list[str]) -> str:
    known = postgres_cluster
    return bindings.database_url(hosts, known.USER, known.PASSWORD, known.DATABASE)


async def by_asyncpg(address: str) -> str:
    connection = await asyncpg.connect(address)
    try:
        return str(await connection.fetchval(QUERY))
    finally:
        await connection.close()


async def by_libpq(address: str) -> str:
    argv = [str(postgres_cluster.BINARIES / "psql"), "-XAtc", QUERY, address]
    finished = await process.run(argv, timeout_seconds=30)
    assert finished.code == 0, finished.output
    return finished.output.strip()


async def by_psycopg(address: str) -> str:
    async with await psycopg.AsyncConnection.connect(address) as connection:
        row = await (await connection.execute(QUERY)).fetchone()
        assert row is not None
        return str(row[0])


async def by_sqlalchemy(address: str, driver: str) -> str:
    engine = create_async_engine(address.replace("postgresql://", f"postgresql+{driver}://"))
    try:
        async with engine.connect() as connection:
            return str((await connection.execute(sqlalchemy.text(QUERY))).scalar_one())
    finally:
        await engine.dispose()


DJANGO = """
import sys
from urllib.parse import parse_qs, urlsplit
from django.conf import settings
parts = urlsplit(sys.argv[1])
settings.configure(DATABASES={"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": parts.path[1:], "USER": parts.username,
    "PASSWORD": parts.password, "HOST": parts.hostname or "", "PORT": parts.port or "",
    "OPTIONS": {key: values[-1] for key, values in parse_qs(parts.query).items()},
}})
import django
django.setup()
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute(sys.argv[2])
    print(cursor.fetchone()[0])
"""
"""The address taken apart as dj-database-url does it: no host, and the query is OPTIONS."""


async def by_django(address: str) -> str:
    finished = await process.run([sys.executable, "-c", DJANGO, address, QUERY], timeout_seconds=30)
    assert finished.code == 0, finished.output
    return finished.output.strip()


async def everyone(address: str) -> dict[str, str]:
    return {
        "asyncpg": await by_asyncpg(address),
        "psql": await by_libpq(address),
        "psycopg": await by_psycopg(address),
        "sqlalchemy on asyncpg": await by_sqlalchemy(address, "asyncpg"),
        "sqlalchemy on psycopg": await by_sqlalchemy(address, "psycopg"),
        "django": await by_django(address),
    }


async def test_every_library_finds_the_primary_first_and_last_in_the_list(cluster: postgres_cluster.Cluster) -> None:
    gone = f"127.{NETWORK}.5.99"
    address = url([gone, *(server.host for server in cluster.servers)])
    first, last = cluster.servers[0], cluster.servers[-1]

    assert {f"{first.host} off"} == set((await everyone(address)).values())

    await cluster.fail_over(last)

    assert {f"{last.host} off"} == set((await everyone(address)).values())


def test_what_would_end_a_name_or_a_password_is_quoted() -> None:
    made = bindings.database_url(["127.1.1.1", "127.1.1.2"], "my-shop", "a/b@c:d?e", "my-shop")

    expected = "postgresql://my-shop:a%2Fb%40c%3Ad%3Fe@/my-shop?host=127.1.1.1,127.1.1.2&port=5432,5432"
    assert f"{expected}&target_session_attrs=read-write" == made
