"""An app of tests/apps served by the real granian, over a real PostgreSQL, as `tenfold up` would serve it.

Used by tests/engines/test_frameworks.py and test_framework_mistakes.py. One granian serves many checks; one that a test
has stopped is started again for the next.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM

import httpx

from support import postgres_cluster, seats
from tenfold import bindings, engines
from tenfold.engines import granian
from tenfold.kit import clock, files, process
from tenfold.sdk.db import schema
from tenfold.topology import tiers

APPS = Path(__file__).parents[1] / "apps" / "frameworks"

REQUEST_SECONDS = 10.0
"""Generous: a slow machine must not answer 503 by accident. Tests of the deadline set a short one."""


@dataclass
class Served:
    """One app, and ways to ask it."""

    site: seats.Site
    module: str
    bound: bindings.Database
    client: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.AsyncClient(base_url=self.url, headers={"host": "shop.test"}, timeout=20)

    @property
    def seat(self) -> engines.Seat:
        return self.site.seat("server-1", "granian")

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def address(self) -> str:
        return f"{self.seat.address}:{self.seat.process.port}"

    @property
    def log(self) -> str:
        """All that granian and the app have written."""
        return seats.log_of(self.seat, 10_000)

    async def says(self, words: str, count: int = 1, seconds: float = 10.0) -> bool:
        """Wait until the log holds the words so many times."""

        async def look() -> bool:
            return self.log.count(words) >= count

        return await clock.until(look, seconds=seconds)

    async def ensure_started(self) -> None:
        if ("server-1", "granian") not in self.site.running:
            await self.site.start(self.seat)

    async def stop(self) -> float:
        """SIGTERM, as the runtime sends it; the seconds until everything was gone."""
        identity = self.site.running.pop(("server-1", "granian"))
        began = asyncio.get_running_loop().time()
        process.send(identity, SIGTERM)
        assert await process.gone(identity, 30.0), self.log
        return asyncio.get_running_loop().time() - began

    def publish(self, request_seconds: float = REQUEST_SECONDS) -> None:
        """Write the bindings; the app watches them."""
        service = bindings.Service(
            name="shop",
            app=f"{self.module}:app",
            directory=str(APPS),
            secret="ab" * 32,
            request_seconds=request_seconds,
            trusted_proxies=("127.0.0.0/8",),
        )
        made = bindings.Bindings(service=service, database=self.bound)
        files.write_atomically(self.site.folder / "bindings.json", bindings.dump(made))

    @asynccontextmanager
    async def deadline(self, seconds: float) -> AsyncIterator[None]:
        """Requests have so long, within this block."""
        self.publish(seconds)
        try:

            async def is_known() -> bool:
                return (await self.client.get("/seconds")).text == str(seconds)

            assert await clock.until(is_known, seconds=20)
            yield
        finally:
            self.publish()


@asynccontextmanager
async def cluster(folder: Path, network: int) -> AsyncIterator[postgres_cluster.Cluster]:
    """A database with tenfold's schema."""
    async with postgres_cluster.cluster(folder, network, replicas=0) as made:
        await made.primary.script(schema.statements(postgres_cluster.USER))
        await made.primary.script(
            f"create table note (text text not null); grant all on note to {postgres_cluster.USER}"
        )
        yield made


@asynccontextmanager
async def served(folder: Path, module: str, network: int, bound: bindings.Database) -> AsyncIterator[Served]:
    """The app `MODULE:app` of tests/apps/frameworks, started."""
    service = {"name": "shop", "app": f"{module}:app", "directory": str(APPS)}
    wanted = tiers.Topology.model_validate({"service": service, "database": {"placement": "own"}})
    async with seats.site(folder, wanted, {"granian": granian.ENGINE}, network) as site:
        one = Served(site, module, bound)
        one.publish()
        await one.ensure_started()
        async with one.client:
            yield one
