"""Real NATS servers with JetStream for tests: one, or three that hold every stream together.

Each runs in a PID namespace (kit/enclosure), so `kill` is a power cut and nothing survives the test. For a module:

    @pytest.fixture(scope="module")
    def queue(tmp_path_factory):
        with nats_servers.running(tmp_path_factory.mktemp("queue"), network=61, count=3) as made:
            yield made

Inside a test: `async with nats_servers.started(tmp_path, network=61, count=3) as made`.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import seats
from tenfold import bindings, engines, errors
from tenfold.engines import nats
from tenfold.engines.nats import admin, monitor, settings
from tenfold.kit import clock, enclosure, process
from tenfold.topology import tiers

USER, PASSWORD = settings.APP, "app-password"
ADMIN, ADMIN_PASSWORD = settings.ADMIN, "admin-password"
PORT = 4222


@dataclass(slots=True)
class Server:
    """One NATS server on a machine of its own."""

    seat: engines.Seat
    machine: enclosure.Enclosure | None = None

    @property
    def name(self) -> str:
        """As the layout names it: `queue-1`."""
        return self.seat.server.name

    @property
    def host(self) -> str:
        """Its private address."""
        return self.seat.address

    @property
    def node(self) -> bindings.QueueNode:
        """As the bindings name it."""
        return bindings.QueueNode(name=self.name, host=self.host, port=PORT)

    @property
    def url(self) -> str:
        """As nats-py wants it."""
        return f"nats://{self.host}:{PORT}"

    async def launch(self) -> None:
        """Start it on the data it has; it may wait for the others before it is ready."""
        self.machine = await seats.launch(self.seat, nats.ENGINE)

    async def kill(self) -> None:
        """A power cut: SIGKILL, proven. Twice is once."""
        if self.machine is not None:
            assert await self.machine.cut()
            self.machine = None
            process.Detached.reap()

    async def monitor(self, path: str) -> dict[str, Any]:
        """What a page of its monitor says (`/jsz`); empty when it does not answer."""
        page, _, query = path.partition("?")
        try:
            _, said = await monitor.ask(self.seat, page, **dict(one.split("=") for one in query.split("&") if one))
        except errors.EngineFailed:
            return {}
        return dict(said)

    def log(self) -> str:
        """The last lines that it wrote."""
        return seats.log_of(self.seat)


@dataclass(slots=True)
class Servers:
    """One server, or several with one JetStream."""

    folder: Path
    network: int
    count: int = 1
    storage_bytes: int = 256 * 1024**2
    most_bytes: int = 1024**2
    subnet: int = 4
    servers: list[Server] = field(default_factory=list)

    @property
    def topology(self) -> tiers.Topology:
        """The shop that has them."""
        queue = {"servers": self.count, "storage": self.storage_bytes, "message_size": self.most_bytes}
        return seats.topology(sections={"queue": queue})

    @property
    def urls(self) -> list[str]:
        """All servers, as nats-py wants them."""
        return [one.url for one in self.servers]

    @property
    def bound(self) -> bindings.Queue:
        """What the runtime would tell an app."""
        return bindings.Queue(
            transport="nats",
            nodes=tuple(one.node for one in self.servers),
            user=USER,
            password=PASSWORD,
            replicas=min(3, self.count),
            storage_bytes=self.storage_bytes,
            most_bytes=self.most_bytes,
        )

    async def start(self) -> None:
        """Start all of them; returns when JetStream has a leader that all of them know."""
        places = seats.of_engine(
            "nats", self.folder, self.topology, self.network, self.subnet, queue=PASSWORD, queue_admin=ADMIN_PASSWORD
        )
        self.servers = [Server(seat) for seat in places]
        await self.restart()

    def server(self, name: str) -> Server:
        """The server of this name (`queue-1`)."""
        return next(one for one in self.servers if one.name == name)

    async def kill(self, *servers: Server) -> None:
        """SIGKILL; without a name: all of them at once."""
        await asyncio.gather(*(one.kill() for one in servers or self.servers))

    async def restart(self, *servers: Server) -> None:
        """Kill what runs and start again on what is left; without a name: all of them. Returns when they are ready."""
        await self.kill(*servers)
        await asyncio.gather(*(one.launch() for one in servers or self.servers))
        await self.until_ready()

    async def stop(self) -> None:
        """Cut all power and delete what they kept. Twice is once."""
        await self.kill()
        for one in self.servers:
            await asyncio.to_thread(shutil.rmtree, one.seat.root, ignore_errors=True)

    async def leader_of(self, stream: str) -> Server:
        """The living server that leads a stream; a dead leader is followed within ten seconds."""

        async def look() -> str:
            living = [one.seat for one in self.servers if one.machine is not None]
            for known in await admin.streams(living):
                if known.name == stream and known.leader in [seat.server.name for seat in living]:
                    return known.leader
            return ""

        leader = await clock.until(look, seconds=30, pause_seconds=0.1)
        assert leader, f"nobody leads {stream}"
        return self.server(leader)

    async def until_ready(self, seconds: float = 60.0) -> None:
        """Return when every server that lives is healthy: JetStream has a leader, and its streams are current."""
        assert await clock.until(self._is_ready, seconds=seconds, pause_seconds=0.05), self.servers[0].log()

    async def _is_ready(self) -> bool:
        living = [one for one in self.servers if one.machine is not None]
        roles = []
        for one in living:
            health = await nats.ENGINE.probe(one.seat)
            if not health.is_ready or (await one.monitor("/healthz")).get("status") != "ok":
                return False
            if health.role == "leader" and not await _sees(one, len(living) - 1):
                return False
            roles.append(health.role)
        return "leader" in roles or "single" in roles


async def _sees(leader: Server, followers: int) -> bool:
    """Whether it would put a stream on so many others: what came back is not believed at once."""
    group = (await leader.monitor("/jsz")).get("meta_cluster", {})
    well = [one for one in group.get("replicas") or () if one.get("current") and not one.get("offline")]
    return len(well) >= followers


@contextmanager
def running(folder: Path, network: int, count: int = 1, **more: Any) -> Iterator[Servers]:
    """Servers outside any event loop, so that many tests can share them."""
    made = Servers(folder, network, count, **more)
    try:
        asyncio.run(made.start())
        yield made
    finally:
        asyncio.run(made.stop())


@asynccontextmanager
async def started(folder: Path, network: int, count: int = 1, **more: Any) -> AsyncIterator[Servers]:
    """Servers for one test."""
    made = Servers(folder, network, count, **more)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
