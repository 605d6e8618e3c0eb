"""Queue servers of two regions, each with a JetStream of its own, and the links between them.

Used by tests/engines. The links are proxies of this process, at the addresses where the wide area network would listen.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support import nats_servers, proxy, seats
from tenfold import engines
from tenfold.topology import layout

HOME, FAR = "seoul", "virginia"


@dataclass(slots=True)
class Regions:
    """The servers of both; the far ones are joined to those at home."""

    near: nats_servers.Servers
    far: nats_servers.Servers
    links: list[proxy.Proxy] = field(default_factory=list)

    def cut(self) -> None:
        """Nothing passes between the regions any more."""
        for one in self.links:
            one.close()

    def heal(self) -> None:
        """Everything passes again."""
        for one in self.links:
            one.is_closed = False


@asynccontextmanager
async def started(folder: Path, network: int, count: int = 3) -> AsyncIterator[Regions]:
    """Both regions, ready; and gone afterwards."""
    made = Regions(*(nats_servers.Servers(folder, network, count) for _ in (HOME, FAR)))
    topology = made.near.topology.model_copy(
        update={"regions": seats.topology(sections={"regions": {HOME: {"primary": True}, FAR: {}}}).regions}
    )
    known = layout.Layout(layout.layout(topology).running("nats"))
    for region, servers in ((HOME, made.near), (FAR, made.far)):
        servers.servers = [
            nats_servers.Server(
                engines.Seat(
                    process=layout.NATS,
                    server=one,
                    topology=topology,
                    layout=known,
                    network=network,
                    root=folder / one.name,
                    project=folder,
                    bindings=folder / "bindings.json",
                    secrets=dataclasses.replace(
                        seats.PASSWORDS, queue=nats_servers.PASSWORD, queue_admin=nats_servers.ADMIN_PASSWORD
                    ),
                    run=folder,
                )
            )
            for one in known.of(region).servers
        ]
    async with contextlib.AsyncExitStack() as stack:
        for one in known.of(HOME).servers:
            target = (one.address(network), layout.QUEUE_LINK_PORT)
            link = proxy.proxy(one.address(network, seen_from=2), layout.QUEUE_LINK_PORT, target)
            made.links.append(await stack.enter_async_context(link))
        for servers in (made.near, made.far):
            stack.push_async_callback(servers.stop)
        await asyncio.gather(made.near.restart(), made.far.restart())
        yield made
