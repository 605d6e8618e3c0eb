"""Two small regions of one service: one coordination server and a few databases each, and the links between them.

Used by tests/engines. The links are proxies of this process: `cut` is what a wide area network does at its worst.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from support import proxy, seats
from tenfold import bindings, engines, errors
from tenfold.engines import database, etcd, patroni, postgres
from tenfold.engines.patroni import admin
from tenfold.engines.postgres import admin as admin_of_postgres
from tenfold.kit import clock
from tenfold.runtime import crossing
from tenfold.sdk.db import schema
from tenfold.topology import layout, tiers

ENGINES = {"postgres": postgres.ENGINE, "patroni": patroni.ENGINE, "etcd": etcd.ENGINE}

NETWORK = 252

HOME, FAR = "seoul", "virginia"


def topology(*, home: str = HOME, **wanted: object) -> tiers.Topology:
    """The shop in two regions."""
    regions = {name: {"primary": name == home} for name in (HOME, FAR)}
    return seats.topology(1, sections={"regions": regions}, **wanted)


def servers(members: int) -> layout.Layout:
    """What the two regions have, less than any topology would ask for."""
    found: list[layout.Server] = []
    for number, (region, prefix) in enumerate(((HOME, ""), (FAR, f"{FAR}-")), start=1):
        made = layout.Region(region, number, prefix)
        found += made.servers("coordination", 1, (layout.ETCD,))
        found += made.servers("database", members, (layout.PATRONI,))
    return layout.Layout(tuple(found))


@dataclass
class Regions:
    """The site of both, and the proxies between them."""

    site: seats.Site
    links: list[proxy.Proxy] = field(default_factory=list)

    @property
    def known(self) -> layout.Layout:
        """All servers of both."""
        assert self.site.known is not None
        return self.site.known

    def databases(self, region: str) -> list[engines.Seat]:
        """The seats of a region's Patronis."""
        known = self.known.databases
        return [self.site.seat(one.name, "patroni") for one in known if one.region == region]

    def coordination(self, region: str) -> engines.Seat:
        """The seat of a region's etcd."""
        (found,) = (one for one in self.known.running("etcd") if one.region == region)
        return self.site.seat(found.name, "etcd")

    async def start(self, region: str) -> list[engines.Seat]:
        """Everything of a region; the database that leads comes first."""
        await self.site.start(self.coordination(region))
        nodes = self.databases(region)
        await asyncio.gather(*(self.site.start(seat, seconds=90) for seat in nodes))
        return await self.settled(region)

    async def settled(self, region: str, seconds: float = 90.0) -> list[engines.Seat]:
        """Wait until one of the region's databases leads and all that follow stream. The leader comes first."""
        nodes = self.databases(region)
        role = "leader" if region == self.site.topology.home else "standby_leader"
        seen: object = None

        async def look() -> list[engines.Seat]:
            nonlocal seen
            try:
                seen = members = await admin.members(nodes[0])
            except errors.EngineFailed as error:
                seen = error
                return []
            leading = [one.server for one in members if one.role == role]
            streaming = {one.server for one in members if one.state == "streaming"}
            running = {one.server for one in members if one.role == "leader" and one.state == "running"}
            if len(leading) == 1 and {one.server.name for one in nodes} == streaming | running:
                return sorted(nodes, key=lambda seat: seat.server.name != leading[0])
            return []

        found = await clock.until(look, seconds=seconds, pause_seconds=0.1)
        assert found, seen
        return found

    def side(self, region: str) -> crossing.Side:
        """The region as moves know it."""
        return crossing.Side(region, tuple(self.databases(region)))

    async def run(self, seat: engines.Seat, command: engines.Command) -> str:
        """A one-shot program on the seat's server."""
        return await self.site.run(seat, command)

    async def migrate(self, primary: engines.Seat) -> None:
        """The service's roles, its database and tenfold's own tables, as a first start makes them."""
        await admin_of_postgres.create_roles_and_database(primary)
        connection = await asyncpg.connect(
            host=primary.address, user="postgres", password=primary.secrets.superuser, database="shop", ssl=False
        )
        try:
            await connection.execute(schema.statements("shop"))
        finally:
            await connection.close()

    def bound(self, region: str) -> bindings.Database:
        """What an app in this region is told of the databases of both."""
        near = [(seat.server, seat.address) for seat in self.databases(region)]
        nodes = tuple(
            bindings.DatabaseNode(name=server.name, host=host, region=server.region)
            for server, host in [*near, *self.seen_from(region)]
        )
        shard = bindings.Shard(nodes=nodes)
        return bindings.Database(shards=(shard,), name="shop", user="shop", password=seats.PASSWORDS.app)

    async def kill(self, region: str) -> None:
        """Everything of a region loses its power at once."""
        names = [one.name for one in self.known.servers if one.region == region]
        await asyncio.gather(*(self.site.cut(name) for name in names if name in self.site.powered))

    def seen_from(self, region: str) -> list[tuple[layout.Server, str]]:
        """The other region's database servers, with the addresses at which this one finds them."""
        seat = self.databases(region)[0]
        others = [one for one in self.known.databases if one.region != region]
        return list(zip(others, database.addresses(seat, others[0].region), strict=True))

    def cut(self) -> None:
        """Nothing passes between the regions any more."""
        for link in self.links:
            link.close()

    def heal(self) -> None:
        """Everything passes again."""
        for link in self.links:
            link.is_closed = False


@asynccontextmanager
async def regions(folder: Path, members: int = 2, network: int = NETWORK, **wanted: object) -> AsyncIterator[Regions]:
    """Two regions with links between them, nothing started."""
    async with seats.site(folder, topology(**wanted), ENGINES, network) as site, AsyncExitStack() as links:
        site.known = servers(members)
        made = Regions(site)
        for region in (HOME, FAR):
            for server, address in made.seen_from(region):
                target = (server.address(network), database.PORT)
                made.links.append(await links.enter_async_context(proxy.proxy(address, database.PORT, target)))
        yield made
