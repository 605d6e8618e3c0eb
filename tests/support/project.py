"""A project of one's own: a copy of the example shop in a temporary folder, driven by the commands a user types.

Used by the journeys. Whatever a test leaves running is stopped when the fixture ends, and proven gone.
"""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tenfold import traffic
from tenfold.engines.granian import admin as granian
from tenfold.engines.nats import settings as nats
from tenfold.kit import clock, process
from tenfold.runtime import paths, records
from tenfold.traffic import journeys

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "examples" / "shop"


UNDONE = """
select json_build_object(
    'accounts', (select count(*) from shop_user) - (select coalesce(sum(accounts), 0) from shop_day),
    'mails', (select count(*) from shop_user) - (select count(*) from shop_mail),
    'orders', (select count(*) from shop_order) - (select coalesce(sum(orders), 0) from shop_day),
    'bought', (select coalesce(sum(quantity), 0) from shop_order_item)
              - (select coalesce(sum(times), 0) from shop_bought)
)
"""
"""What messages and write-back should have done and have not: too little is above zero, twice is below."""

DONE = '{"accounts" : 0, "mails" : 0, "orders" : 0, "bought" : 0}'


class Project:
    """One project. `tenfold` runs a command as a user would."""

    def __init__(self, folder: Path, listen: str) -> None:
        self.folder = folder
        self.listen = listen
        self.loads = 0
        self.trust: ssl.SSLContext | None = None
        """Set for a project whose front door is under TLS: whom its clients believe."""

    @property
    def ledger(self) -> Path:
        """Where the newest `load` keeps its ledger."""
        return self.folder / f"journey-{self.loads}.ledger"

    @property
    def url(self) -> str:
        return f"{'http' if self.trust is None else 'https'}://{self.listen}"

    async def try_tenfold(self, *words: str, seconds: float = 120.0) -> process.Finished:
        """Run a command; whatever comes of it."""
        return await process.run(
            [sys.executable, "-m", "tenfold.cli", *words],
            env={"COLUMNS": "160", "PYTHONDONTWRITEBYTECODE": "1"},
            directory=self.folder,
            timeout_seconds=seconds,
        )

    async def tenfold(self, *words: str, seconds: float = 120.0) -> str:
        """Run a command that must succeed; its output."""
        finished = await self.try_tenfold(*words, seconds=seconds)
        assert finished.code == 0, f"tenfold {' '.join(words)} ended with {finished.code}:\n{finished.output}"
        return finished.output

    async def status(self) -> dict[str, Any]:
        """What `tenfold status --json` says."""
        return json.loads(await self.tenfold("status", "--json"))

    async def primary(self) -> str:
        """The server of the primary; of two, the one on the newer timeline."""
        nodes = [server["database"] for server in (await self.status())["servers"] if server["database"]]
        primaries = [node for node in nodes if node["role"] == "primary" and node["is_reachable"]]
        assert primaries, "no primary"
        return str(max(primaries, key=lambda node: node["timeline"])["server"])

    async def pid(self, server: str, name: str) -> int:
        """The pid of a process on a server."""
        found = next(one for one in (await self.status())["servers"] if one["name"] == server)
        return int(next(one["pid"] for one in found["processes"] if one["name"] == name))

    @property
    def records(self) -> records.Records:
        """What the runtime remembers, read from its file."""
        return records.Store.open(self.folder / ".tenfold" / "state.json").records

    def alive(self) -> dict[str, int]:
        """Pids of all recorded processes that run, by `server/process`."""
        return {
            f"{server}/{name}": one.identity.pid
            for server, record in self.records.servers.items()
            for name, one in record.processes.items()
            if one.identity is not None and one.is_alive
        }

    def runtime_pid(self) -> int:
        """The pid of the detached runtime."""
        return int(paths.Paths(self.folder / "tenfold.toml").lock.read_text())

    def kill_runtime(self) -> None:
        """SIGKILL to the runtime alone."""
        os.kill(self.runtime_pid(), signal.SIGKILL)

    def load(self, rate: float = 100.0) -> traffic.Load:
        """The shop's journeys against the front door, until the block ends."""
        plan = journeys.load("load.py", self.folder)
        self.loads += 1
        return traffic.Load(self.url, plan, rate=rate, ledger_path=self.ledger, service="shop", trust=self.trust)

    async def ensure_nothing_lost(self, report: traffic.Report) -> None:
        """No request failed, every acknowledged write is there exactly once, every session saw its own."""
        assert not report.failures, report.failures
        assert report.writes_acknowledged > 0
        assert report.own_reads > 0
        await self.tenfold("load", "--verify", str(self.ledger))

    async def ensure_messages_had_their_effect_once(self) -> None:
        """Every message and every counted purchase is in the database, none of them twice."""

        async def look() -> bool:
            return DONE == (await self.tenfold("psql", "-Atc", UNDONE)).strip()

        assert await clock.until(look, seconds=60, pause_seconds=1), await self.tenfold("psql", "-Atc", UNDONE)

    async def copies_messages(self, server: str, region: str) -> bool:
        """Whether this queue server keeps a copy of the messages of another region, that has come up to now."""
        address = next(one["address"] for one in (await self.status())["servers"] if one["name"] == server)
        _, text = await granian.get(address, nats.MONITOR_PORT, "/jsz?streams=true")
        accounts = json.loads(text).get("account_details") or ()
        streams = [stream for account in accounts for stream in account.get("stream_detail") or ()]
        return any(one["name"].endswith(f"-from-{region}") and not one["mirror"]["lag"] for one in streams)

    def edit(self, pattern: str, replacement: str, file: str = "tenfold.toml") -> None:
        """Change one of the project's files; the pattern must be there."""
        path = self.folder / file
        changed, count = re.subn(pattern, replacement, path.read_text(), flags=re.MULTILINE)
        assert count, f"{pattern} not found in {file}"
        path.write_text(changed)


@asynccontextmanager
async def shop(folder: Path, source: Path = SHOP) -> AsyncIterator[Project]:
    """A copy of the shop, or of another project; not started. On exit everything that it started is gone."""
    target = folder / source.name
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(".tenfold", "__pycache__", "*.ledger"))
    project = Project(target, f"127.0.0.1:{free_port()}")
    project.edit(r"^listen\s*=.*$", f'listen = "{project.listen}"')
    try:
        yield project
    finally:
        await project.try_tenfold("down", "--delete-data", "--yes")
        await ensure_gone(target)


async def ensure_gone(folder: Path, but: int = 0) -> None:
    """Nothing started from this folder runs any more; what does is killed, and the test fails. `but`: one that may."""

    async def look() -> bool:
        process.Detached.reap()
        return not _running_in(folder).keys() - {but}

    if not await clock.until(look, seconds=5.0):
        left = _running_in(folder)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        raise AssertionError(f"still running after down: {left}")


def _running_in(folder: Path) -> dict[int, str]:
    """Processes whose command line names the folder, or that were started in it."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in command or os.readlink(entry / "cwd").startswith(str(folder)):
                found[int(entry.name)] = command[:200]
    return found


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
