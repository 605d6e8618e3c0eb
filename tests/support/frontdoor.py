"""Real HAProxys, edges and web servers for tests: who starts them ends them.

Used by `tests/engines/test_haproxy_*.py`. Web servers are the processes of `upstream.py`, at the private addresses
that the layout gives them; requests go over raw connections, so that a test sees every broken one.
"""

import asyncio
import json
import os
import signal
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from tenfold import engines
from tenfold.engines import haproxy, varnish
from tenfold.kit import clock, files
from tenfold.topology import layout, tiers

NETWORK = 64
LISTEN = ("127.64.0.10", 8080)
SECRETS = engines.Secrets("superuser", "replicator", "app", "patroni", "etcd", "00" * 32, *["unused"] * 5)


def topology(**sections: object) -> tiers.Topology:
    """A topology with balancers and two web servers, where `sections` do not say otherwise."""
    service = tiers.Service(name="shop", app="shop:app", listen=f"{LISTEN[0]}:{LISTEN[1]}")
    defaults: dict[str, object] = {"balancer": tiers.Balancer(), "web": tiers.Web(servers=2)}
    return tiers.Topology.model_validate({"service": service, **defaults, **sections})


def seat(folder: Path, wanted: tiers.Topology, number: int = 0) -> engines.Seat:
    """The seat of the topology's n-th HAProxy, with its folders."""
    place = layout.layout(wanted)
    server = place.balancers[number]
    process = server.process("haproxy")
    assert process is not None
    root = folder / server.name
    for name in ("data", "config", "log"):
        (root / name).mkdir(parents=True, exist_ok=True)
    run = files.make_socket_folder(folder / "run")
    bindings = folder / "bindings.json"
    return engines.Seat(process, server, wanted, place, NETWORK, root, folder, bindings, SECRETS, run)


def with_web(where: engines.Seat, *names: str) -> engines.Seat:
    """The same seat while only these web servers are wanted."""
    return with_only(where, "granian", *names)


def with_only(where: engines.Seat, engine: str, *names: str) -> engines.Seat:
    """The same seat while only these servers run this engine."""
    kept = tuple(one for one in where.layout.servers if not one.process(engine) or one.name in names)
    return replace(where, layout=layout.Layout(kept))


def write(where: engines.Seat, engine: engines.Engine = haproxy.ENGINE) -> None:
    """Render the seat's files, as the runtime does."""
    for name, text in engine.render(where).items():
        files.write_if_changed(where.config / name, text)


@dataclass
class Running:
    """A process in a group of its own."""

    process: asyncio.subprocess.Process

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def ended(self, seconds: float = 10) -> int:
        """Its exit code; fails when it does not end in time."""
        return await asyncio.wait_for(self.process.wait(), seconds)

    async def kill(self) -> None:
        """Kill the whole group and wait."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self.process.wait()


async def spawn(argv: Sequence[str], log: Path) -> Running:
    """Start a program whose output goes to a file."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(*argv, stdout=output, stderr=output, start_new_session=True)
    return Running(process)


@dataclass
class House:
    """A folder with web servers and front doors, all of which end with it."""

    folder: Path
    stack: AsyncExitStack
    webs: dict[str, Running] = field(default_factory=dict)
    edges: dict[str, Running] = field(default_factory=dict)

    async def web(self, where: engines.Seat, *names: str) -> None:
        """Start web servers of the layout and wait until they answer. All of them when no name is given."""
        servers = [one for one in where.layout.running("granian") if not names or one.name in names]
        for server in servers:
            argv = [sys.executable, str(Path(__file__).with_name("upstream.py")), server.name]
            argv += [server.address(NETWORK), "8000", str(self.folder / "journal")]
            self.webs[server.name] = await spawn(argv, self.folder / f"{server.name}.log")
            self.stack.push_async_callback(self.webs[server.name].kill)
        for server in servers:
            await _wait_for(server.address(NETWORK), 8000)

    async def edge(self, where: engines.Seat, *names: str) -> None:
        """Start edges of the layout at the same time, and wait until they answer. All of them when no name is given."""
        seats = [
            self._edge_seat(where, one) for one in where.layout.running("varnish") if not names or one.name in names
        ]
        for one in seats:
            write(one, varnish.ENGINE)
            self.edges[one.server.name] = await spawn(varnish.ENGINE.command(one).argv, one.log)
            self.stack.push_async_callback(self.edges[one.server.name].kill)
        for one in seats:

            async def is_ready(edge: engines.Seat = one) -> bool:
                return (await varnish.ENGINE.probe(edge)).is_ready

            assert await clock.until(is_ready, seconds=30, pause_seconds=0.02), one.log.read_text()

    def _edge_seat(self, where: engines.Seat, server: layout.Server) -> engines.Seat:
        process = server.process("varnish")
        assert process is not None
        root = self.folder / server.name
        for name in ("data/varnish", "config/varnish", "log"):
            (root / name).mkdir(parents=True, exist_ok=True)
        return replace(where, process=process, server=server, root=root)

    async def door(self, where: engines.Seat, *prefix: str) -> Running:
        """Start the seat's HAProxy and wait until it is ready."""
        write(where)
        running = await spawn([*prefix, *haproxy.ENGINE.command(where).argv], where.log)
        self.stack.push_async_callback(running.kill)

        async def is_ready() -> bool:
            return (await haproxy.ENGINE.probe(where)).is_ready

        assert await clock.until(is_ready, seconds=10, pause_seconds=0.002), where.log.read_text()
        return running

    def journal(self) -> list[list[str]]:
        """Every request that a web server began: server, method, path, query."""
        path = self.folder / "journal"
        return [line.split(" ") for line in path.read_text().splitlines()] if path.exists() else []

    def began(self) -> Counter[str]:
        """How often each request began, by its query string."""
        return Counter(row[3] for row in self.journal())


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    """An empty house."""
    async with AsyncExitStack() as stack:
        yield House(folder, stack)


@dataclass(frozen=True)
class Answer:
    """One response. `headers` are the response's, by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def server(self) -> str:
        """The web server that answered."""
        return str(json.loads(self.body)["server"])

    @property
    def seen(self) -> list[tuple[str, str]]:
        """The request's headers as the web server got them."""
        return [(name.lower(), value) for name, value in json.loads(self.body)["headers"]]


class Connection:
    """One connection to the front door; requests go over it one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(
        cls, source: str = "127.0.0.1", at: tuple[str, int] = LISTEN, trust: ssl.SSLContext | None = None
    ) -> "Connection":
        return cls(*await asyncio.open_connection(*at, local_addr=(source, 0), ssl=trust))

    async def request(
        self, path: str = "/", method: str = "GET", body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request and read its answer."""
        lines = [f"{method} {path} HTTP/1.1", "Host: shop.test"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body or method != "GET":
            lines.append(f"Content-Length: {len(body)}")
        return await self.send("\r\n".join([*lines, "", ""]).encode() + body)

    async def send(self, raw: bytes) -> Answer:
        """Send bytes as they are and read one answer."""
        self.writer.write(raw)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        is_chunked = headers.get("transfer-encoding") == "chunked"
        body = await self._chunks() if is_chunked else await self.reader.readexactly(_length(headers, raw))
        return Answer(int(status.split(" ")[1]), headers, body)

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readline()
        await self.reader.readline()
        return body

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


def _length(headers: Mapping[str, str], raw: bytes) -> int:
    return 0 if raw.startswith(b"HEAD ") else int(headers.get("content-length", 0))


async def fetch(
    path: str = "/",
    method: str = "GET",
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    source: str = "127.0.0.1",
) -> Answer:
    """One request over a connection of its own."""
    connection = await Connection.open(source)
    try:
        return await asyncio.wait_for(connection.request(path, method, body, headers), 20)
    finally:
        await connection.close()


async def tell(address: str, path: str) -> bool:
    """Ask one web server directly; whether it agreed."""
    connection = await Connection.open(at=(address, 8000))
    try:
        return (await connection.request(path)).status == 200
    finally:
        await connection.close()


async def spread(count: int, path: str = "/", source: str = "127.0.0.1", at_once: int = 1) -> Counter[str]:
    """Which web server answered how many of `count` requests, `at_once` at a time."""
    found: Counter[str] = Counter()
    left = iter(range(count))

    async def one_after_the_other() -> None:
        connection = await Connection.open(source)
        for _ in left:
            found[(await connection.request(path)).server] += 1
        await connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(one_after_the_other())
    return found


@dataclass
class Load:
    """What a stretch of load met. No request is ever repeated by this client."""

    keep_alive: int
    writes: bool
    trust: ssl.SSLContext | None = None
    """For a front door under TLS: whom it believes."""
    sent: int = 0
    failures: list[str] = field(default_factory=list)
    servers: Counter[str] = field(default_factory=Counter)
    slowest_seconds: float = 0.0
    idle: list[Connection] = field(default_factory=list)

    async def arrive(self, rate: float, stopping: asyncio.Event) -> None:
        """Send requests at a constant rate, however long the answers take."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with asyncio.TaskGroup() as group:
            while not stopping.is_set():
                due = start + self.sent / rate
                await asyncio.sleep(max(0.0, due - loop.time()))
                group.create_task(self.one(self.sent, due))
                self.sent += 1

    async def one(self, number: int, due: float) -> None:
        """One request and its bookkeeping."""
        method = "POST" if self.writes and number % 2 else "GET"
        try:
            async with asyncio.timeout(12):
                answer = await self.ask(f"/load?id={number}", method)
            outcome = "" if answer.status == 200 else str(answer.status)
        except (OSError, EOFError, TimeoutError) as error:
            outcome = repr(error)
        seconds = asyncio.get_running_loop().time() - due
        self.slowest_seconds = max(self.slowest_seconds, seconds)
        if outcome:
            self.failures.append(f"{number} {method}: {outcome} after {seconds:.3f} s")
        else:
            self.servers[answer.server] += 1

    async def ask(self, path: str, method: str) -> Answer:
        """One request over an idle connection or a new one, which is kept afterwards if it may be."""
        connection = self.idle.pop(0) if self.idle else await Connection.open(trust=self.trust)
        is_kept = False
        try:
            answer = await connection.request(path, method)
            is_kept = len(self.idle) < self.keep_alive and answer.headers.get("connection") != "close"
            return answer
        finally:
            if is_kept:
                self.idle.append(connection)
            else:
                await connection.close()


@asynccontextmanager
async def load(
    rate: float, *, keep_alive: int = 0, writes: bool = False, trust: ssl.SSLContext | None = None
) -> AsyncIterator[Load]:
    """A constant arrival rate while the body runs; every request has been answered, or failed, at the end.

    Up to `keep_alive` connections are kept and reused; 0: each request has a connection of its own. `writes`: every
    second request is a POST without a key.
    """
    seen = Load(keep_alive, writes, trust)
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(seen.arrive(rate, stopping))
        try:
            yield seen
        finally:
            stopping.set()
    for connection in seen.idle:
        await connection.close()


async def _wait_for(address: str, port: int) -> None:
    assert await clock.until(lambda: _answers(address, port), seconds=15), f"{address}:{port} does not answer"


async def _answers(address: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(address, port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True
