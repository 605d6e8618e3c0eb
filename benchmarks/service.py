"""How long a service takes to start, to climb and to come back, and what it costs when idle.

    python benchmarks/service.py [--rate 100]

The commands are those that a user types; the figures go to docs/figures.md. Beside the start of rung 1 stands the raw
engine's part: initdb alone, in the same run, as a ratio.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import project
from tenfold.engines import database
from tenfold.kit import enclosure, process

IDLE_SECONDS = 20.0
NAMES = ("haproxy", "patroni", "etcd", "valkey", "nats", "postgres")
TICKS = os.sysconf("SC_CLK_TCK")


async def main(rate: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        raw = await _initdb(root)
        async with project.shop(root) as shop:
            start = await _start(shop)
            print(f"up, rung 1, to the first 200: {start:.2f} s ({start / raw:.1f} x initdb alone, {raw:.2f} s)")
            await _climb(shop, rate)
        async with project.shop(root / "second") as shop:
            shop.edit(r"^\[database\]$", "[database]\nreplicas = 2\nsynchronous = true")
            shop.edit(r"^\[web\]\nservers = 1$", "[web]\nservers = 2\n\n[balancer]\nservers = 2")
            print(f"up, rung 4 from nothing, to the first 200: {await _start(shop):.2f} s")
            await _idle(shop, "replicated")
            await shop.tenfold("grow", "--to", "queued", "--skip", "regions", "--yes")
            await _idle(shop, "queued")


async def _initdb(root: Path) -> float:
    """Seconds that PostgreSQL's own initdb takes here, with the options that tenfold uses."""
    inside = await enclosure.make(enclosure.new_marker(), root / "initdb.log")
    program = str(database.program("initdb"))
    options = [f"--{option}" for option in database.INITDB_OPTIONS]
    began = time.monotonic()
    finished = await inside.run(
        [program, "-D", str(root / "raw"), "-U", "postgres", *options], env={}, directory=root, timeout_seconds=60
    )
    assert finished.code == 0, finished.output
    await inside.cut()
    return time.monotonic() - began


async def _start(shop: project.Project) -> float:
    began = time.monotonic()
    await shop.tenfold("up", "-d")
    finished = await process.run(["curl", "-sf", "-o", "/dev/null", f"{shop.url}/"])
    assert finished.code == 0, finished.output
    return time.monotonic() - began


async def _climb(shop: project.Project, rate: float) -> None:
    async with shop.load(rate=rate) as load:
        for command in (("grow", "--to", "queued", "--skip", "regions"), ("shrink", "--to", "single")):
            began = time.monotonic()
            await shop.tenfold(*command, "--yes")
            print(f"{' '.join(command)} under {rate:g} requests/s: {time.monotonic() - began:.1f} s")
    report = load.report
    total = report.total
    print(
        f"the climb and back: {report.requests} requests, {report.failed} failed, {report.repeated} repeated, "
        f"{report.writes_acknowledged} writes, p50 {total.percentile(50) * 1e3:.1f} ms, "
        f"p99 {total.percentile(99) * 1e3:.0f} ms, longest {total.longest_seconds:.2f} s"
    )
    print((await shop.tenfold("load", "--verify", str(shop.ledger))).strip().splitlines()[-1])


async def _idle(shop: project.Project, rung: str) -> None:
    """CPU of everything the service runs, and the runtime's memory, over some seconds without a request."""
    await asyncio.sleep(8)  # the start's own work ends
    pids = _processes(shop.folder)
    before = {pid: _ticks(pid) for pid in pids}
    await asyncio.sleep(IDLE_SECONDS)
    spent = {pid: (_ticks(pid) - before[pid]) / TICKS / IDLE_SECONDS * 100 for pid in pids}
    by_name: dict[str, float] = {}
    for pid, share in spent.items():
        by_name[_name(pid, shop)] = by_name.get(_name(pid, shop), 0.0) + share
    shares = ", ".join(f"{name} {share:.1f}" for name, share in sorted(by_name.items(), key=lambda one: -one[1]))
    print(f"idle CPU at rung {rung}: {sum(spent.values()):.1f} % of one core ({shares})")
    print(f"the runtime's memory: {_memory(shop.runtime_pid()):.0f} MB")


def _processes(folder: Path) -> list[int]:
    """Everything that names the service's folder in its environment, its command line or its working folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                text += os.readlink(entry / "cwd").encode()
            except OSError:
                continue
            if str(folder).encode() in text:
                found.append(int(entry.name))
    return found


def _ticks(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[11]) + int(fields[12])


def _name(pid: int, shop: project.Project) -> str:
    if pid == shop.runtime_pid():
        return "runtime"
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        if "granian" in command or "spawn_main" in command:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            return "worker" if b"TENFOLD_ROLE=worker" in environment else "granian"
    except OSError:
        return "gone"
    return next((name for name in NAMES if name in command), "other")


def _memory(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:")) / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=100.0)
    asyncio.run(main(parser.parse_args().rate))
