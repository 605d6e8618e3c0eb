"""The example shop in this process: its migrated database, its app with the lifespan run by hand, and browsers.

Used by tests that are about the app; those that are about the topology start it with `tenfold up`.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from support import postgres_cluster
from tenfold import bindings
from tenfold.runtime import migrate

FOLDER = Path(__file__).parents[2] / "examples" / "shop"


async def migrated(cluster: postgres_cluster.Cluster, folder: Path = FOLDER / "migrations") -> None:
    """The cluster's database, as `tenfold migrate` leaves it."""
    host, name = cluster.primary.host, postgres_cluster.DATABASE
    await migrate.prepare(migrate.Address(host, "postgres", "", name), postgres_cluster.USER)
    await migrate.run(migrate.Address(host, postgres_cluster.USER, postgres_cluster.PASSWORD, name), folder)


def write_bindings(path: Path, database: bindings.Database, name: str = "shop") -> None:
    """What the runtime would tell the app."""
    service = bindings.Service(name=name, secret=secrets.token_hex(32), directory=str(FOLDER))
    path.write_bytes(
        bindings.dump(bindings.Bindings(service=service, database=database, cdn=bindings.Cdn(static="shop/static")))
    )


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[None]:
    """The app's lifespan, as a server runs it."""
    inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    task = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}}, inbox.get, outbox.put))
    try:
        await inbox.put({"type": "lifespan.startup"})
        message = await asyncio.wait_for(outbox.get(), 20)
        assert message["type"] == "lifespan.startup.complete", message
        yield
        await inbox.put({"type": "lifespan.shutdown"})
        message = await asyncio.wait_for(outbox.get(), 20)
        assert message["type"] == "lifespan.shutdown.complete", message
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])


@dataclass(frozen=True)
class Shop:
    """A running shop. `browser()` is a new visitor, with cookies of their own."""

    app: Any
    cluster: postgres_cluster.Cluster

    def browser(self, **options: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, client=("127.0.0.1", 4000))
        return httpx.AsyncClient(transport=transport, base_url="http://shop.test", **options)

    async def value(self, query: str, *args: Any) -> Any:
        """What the database says."""
        return await self.cluster.primary.sql(query, *args, database=postgres_cluster.DATABASE)
