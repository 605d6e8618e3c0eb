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
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tenfold import bindings
from tenfold.kit import clock, enclosure, process

USER, PASSWORD = "app", "app-password"
ADMIN, ADMIN_PASSWORD = "admin", "admin-password"
PORT, ROUTE_PORT, MONITOR_PORT = 4222, 6222, 8222

SETTINGS = """
server_name: "{name}"
listen: "{host}:{port}"
http: "{host}:{monitor}"
max_payload: {payload}
ping_interval: "5s"
ping_max: 2
lame_duck_duration: "30s"
lame_duck_grace_period: "500ms"
jetstream {{ store_dir: "{store}", max_file_store: {storage}, max_memory_store: 16777216 }}
accounts {{
  SERVICE: {{ jetstream: enabled, users: [ {{ user: "{user}", password: "{password}" }} ] }}
  SYSTEM: {{ users: [ {{ user: "{admin}", password: "{admin_password}" }} ] }}
}}
system_account: SYSTEM
"""

CLUSTERED = """
cluster {{
  name: "test"
  listen: "{host}:{port}"
  authorization {{ user: "{admin}", password: "{admin_password}", timeout: 5 }}
  routes: [ {routes} ]
}}
"""


@dataclass(slots=True)
class Server:
    """One NATS server on a machine of its own."""

    name: str
    host: str
    folder: Path
    settings: str
    machine: enclosure.Enclosure | None = None

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
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "nats.conf"
        config.write_text(self.settings)
        self.machine = await enclosure.make(enclosure.new_marker(), self.folder / "machine.log")
        argv = [_program(), "-c", str(config)]
        await self.machine.spawn("nats", argv, env={}, log=self.folder / "log", directory=self.folder)

    async def kill(self) -> None:
        """A power cut: SIGKILL, proven. Twice is once."""
        if self.machine is not None:
            assert await self.machine.cut()
            self.machine = None
            process.Detached.reap()

    async def monitor(self, path: str) -> dict[str, Any]:
        """What a page of its monitor says (`/jsz`); empty when it does not answer."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session,
                session.get(f"http://{self.host}:{MONITOR_PORT}{path}") as response,
            ):
                return dict(await response.json(content_type=None))
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return {}

    def log(self) -> str:
        """The last lines that it wrote."""
        path = self.folder / "log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else "(no log)"


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
        self.servers = [self._server(number) for number in range(1, self.count + 1)]
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
            await asyncio.to_thread(shutil.rmtree, one.folder, ignore_errors=True)

    async def leader_of(self, stream: str) -> Server:
        """The living server that leads a stream; a dead leader is followed within ten seconds."""

        async def look() -> str:
            for one in self.servers:
                said = await one.monitor("/jsz?streams=true") if one.machine is not None else {}
                for account in said.get("account_details", []):
                    for detail in account.get("stream_detail", []):
                        leader = detail.get("cluster", {}).get("leader", one.name)
                        if detail["name"] == stream and leader and self.server(leader).machine is not None:
                            return str(leader)
            return ""

        leader = await clock.until(look, seconds=30, pause_seconds=0.1)
        assert leader, f"nobody leads {stream}"
        return self.server(leader)

    async def until_ready(self, seconds: float = 60.0) -> None:
        """Return when every server that lives is healthy: JetStream has a leader, and its streams are current."""
        assert await clock.until(self._is_ready, seconds=seconds, pause_seconds=0.05), self.servers[0].log()

    async def _is_ready(self) -> bool:
        for one in self.servers:
            if one.machine is None:
                continue
            if (await one.monitor("/healthz")).get("status") != "ok":
                return False
            if self.count > 1 and not (await one.monitor("/jsz")).get("meta_cluster", {}).get("leader"):
                return False
        return True

    def _server(self, number: int) -> Server:
        name = f"queue-{number}"
        folder = self.folder / name
        text = SETTINGS.format(
            name=name, host=self._host(number), port=PORT, monitor=MONITOR_PORT, payload=self.most_bytes + 65536,
            store=folder / "data", storage=self.storage_bytes,
            user=USER, password=PASSWORD, admin=ADMIN, admin_password=ADMIN_PASSWORD,
        )  # fmt: skip
        if self.count > 1:
            peers = [self._host(one) for one in range(1, self.count + 1)]
            routes = ", ".join(f'"nats-route://{ADMIN}:{ADMIN_PASSWORD}@{host}:{ROUTE_PORT}"' for host in peers)
            text += CLUSTERED.format(
                host=self._host(number), port=ROUTE_PORT, admin=ADMIN, admin_password=ADMIN_PASSWORD, routes=routes
            )
        return Server(name, self._host(number), folder, text)

    def _host(self, number: int) -> str:
        return f"127.{self.network}.{self.subnet}.{number}"


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


def _program() -> str:
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if beside.exists() else str(shutil.which("nats-server"))
