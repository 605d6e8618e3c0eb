"""Real Valkey servers for tests: one, or a cluster of primaries that each have a replica on a server of its own.

Each runs in a PID namespace (kit/enclosure), so `kill` is a power cut and nothing survives the test. For a module:

    @pytest.fixture(scope="module")
    def cache(tmp_path_factory):
        with valkey_servers.running(tmp_path_factory.mktemp("cache"), network=61, primaries=3) as made:
            yield made

`primaries=1` is a single server, `primaries=3` a cluster of six. Inside a test:
`async with valkey_servers.started(...)`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import seats
from tenfold import bindings, engines, errors
from tenfold.engines import valkey
from tenfold.engines.valkey import admin, connection, settings
from tenfold.kit import clock, enclosure, process
from tenfold.topology import tiers

USER, PASSWORD = settings.APP, "app-password"
ADMIN, ADMIN_PASSWORD = settings.ADMIN, "admin-password"
PORT = 6379


@dataclass(slots=True)
class Server:
    """One Valkey on a machine of its own."""

    seat: engines.Seat
    machine: enclosure.Enclosure | None = None

    @property
    def name(self) -> str:
        """As the layout names it: `cache-1`."""
        return self.seat.server.name

    @property
    def host(self) -> str:
        """Its private address."""
        return self.seat.address

    @property
    def node(self) -> bindings.CacheNode:
        """As the bindings name it."""
        return bindings.CacheNode(name=self.name, host=self.host, port=PORT)

    async def start(self) -> None:
        """Start it on the data it has; returns when it answers."""
        self.machine = await seats.launch(self.seat, valkey.ENGINE)
        assert await clock.until(self.answers, seconds=30, pause_seconds=0.01), self.log()

    async def kill(self) -> None:
        """A power cut: SIGKILL, proven. Twice is once."""
        if self.machine is not None:
            assert await self.machine.cut()
            self.machine = None
            process.Detached.reap()

    async def ask(self, *words: str | int, timeout_seconds: float = 5.0) -> Any:
        """The answer to a command of the admin, who may do anything."""
        async with connection.of(self.seat, timeout_seconds) as opened:
            return await opened.ask(*words, timeout_seconds=timeout_seconds)

    async def answers(self) -> bool:
        """Whether it runs and has read its data."""
        try:
            return bool(await self.ask("PING") == "PONG")
        except errors.EngineFailed:
            return False

    def log(self) -> str:
        """The last lines that it wrote."""
        return seats.log_of(self.seat)


@dataclass(slots=True)
class Servers:
    """One server, or a cluster. In a cluster the first half begins as primaries, the second as their replicas."""

    folder: Path
    network: int
    primaries: int = 1
    memory_bytes: int = 64 * 1024**2
    eviction: str = "lru"
    subnet: int = 3
    servers: list[Server] = field(default_factory=list)

    @property
    def topology(self) -> tiers.Topology:
        """The shop that has them."""
        cache = {"servers": self.primaries, "memory": self.memory_bytes, "eviction": self.eviction}
        return seats.topology(sections={"cache": cache})

    @property
    def bound(self) -> bindings.Cache:
        """What the runtime would tell an app."""
        return bindings.Cache(
            nodes=tuple(one.node for one in self.servers), user=USER, password=PASSWORD, eviction=self.eviction
        )

    async def start(self) -> None:
        """Start all of them; a cluster serves every slot when this returns, and every replica follows."""
        await self.launch()
        await admin.form([one.seat for one in self.servers], begins_anew=True)
        await self.until_whole()

    async def launch(self) -> None:
        """Start all of them; they do not know each other yet."""
        places = seats.of_engine(
            "valkey", self.folder, self.topology, self.network, self.subnet, cache=PASSWORD, cache_admin=ADMIN_PASSWORD
        )
        self.servers = [Server(seat) for seat in places]
        await asyncio.gather(*(one.start() for one in self.servers))

    def server(self, name: str) -> Server:
        """The server of this name (`cache-1`)."""
        return next(one for one in self.servers if one.name == name)

    async def kill(self, *servers: Server) -> None:
        """SIGKILL; without a name: all of them at once."""
        await asyncio.gather(*(one.kill() for one in servers or self.servers))

    async def restart(self, *servers: Server) -> None:
        """Kill what runs and start again on what is left; without a name: all of them."""
        await self.kill(*servers)
        await asyncio.gather(*(one.start() for one in servers or self.servers))

    async def stop(self) -> None:
        """Cut all power. Twice is once."""
        await self.kill()

    async def flush(self) -> None:
        """Forget everything, on every primary."""
        for one in self.servers:
            if (await one.ask("ROLE"))[0] == "master":
                await one.ask("FLUSHALL")

    async def primary_of(self, key: str) -> Server:
        """The server that holds the key's slot now, as a server that lives says."""
        if len(self.servers) == 1:
            return self.servers[0]
        asked = await self._living()
        slot = await asked.ask("CLUSTER", "KEYSLOT", key)
        for first, last, primary, *_ in await asked.ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(one for one in self.servers if one.host == primary[0])
        raise AssertionError(f"nobody holds slot {slot}")

    async def replica_of(self, primary: Server) -> Server:
        """The server that follows a primary."""
        asked = await self._living()
        for _, _, found, *replicas in await asked.ask("CLUSTER", "SLOTS"):
            if found[0] == primary.host and replicas:
                return next(one for one in self.servers if one.host == replicas[0][0])
        raise AssertionError(f"{primary.name} has no replica")

    async def until_whole(self, seconds: float = 30.0) -> None:
        """Return when every server that lives knows a primary for every slot, and every replica follows."""
        assert await clock.until(self._is_whole, seconds=seconds, pause_seconds=0.02), self.servers[0].log()

    async def _is_whole(self) -> bool:
        living = [one for one in self.servers if one.machine is not None]
        if len(self.servers) == 1:
            return bool(living) and await living[0].answers()
        try:
            views = await admin.look([one.seat for one in living])
            slots = [await one.ask("CLUSTER", "SLOTS") for one in living]
        except errors.EngineFailed:
            return False
        hosts = {one.host for one in living}
        are_listed = all({node[0] for _, _, *nodes in each for node in nodes} == hosts for each in slots)
        return are_listed and all(view.is_settled for view in views)

    async def _living(self) -> Server:
        for one in self.servers:
            if one.machine is not None and await one.answers():
                return one
        raise AssertionError("no server lives")


@contextmanager
def running(folder: Path, network: int, primaries: int = 1, **more: Any) -> Iterator[Servers]:
    """Servers outside any event loop, so that many tests can share them."""
    made = Servers(folder, network, primaries, **more)
    try:
        asyncio.run(made.start())
        yield made
    finally:
        asyncio.run(made.stop())


@asynccontextmanager
async def started(folder: Path, network: int, primaries: int = 1, **more: Any) -> AsyncIterator[Servers]:
    """Servers for one test."""
    made = Servers(folder, network, primaries, **more)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
