"""What it costs to watch: processor time of the runtime and of the web tier, with and without `tenfold status --watch`.

    python benchmarks/watching.py [--rate 200] [--seconds 15]

A service of ten servers (rung 4), idle and under load, each watched and unwatched. Processor time is the kernel's own
count of every thread (schedstat), so what else the machine does blurs it little.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import project
from tenfold.kit import process
from tenfold.runtime import traffic

ENGINES = ("granian", "haproxy")


async def main(rate: float, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with project.shop(Path(folder)) as shop:
            shop.edit(r"^\[database\]$", "[database]\nreplicas = 2\nsynchronous = true")
            shop.edit(r"^\[web\]\nservers = 1$", "[web]\nservers = 2\n\n[balancer]\nservers = 2")
            await shop.tenfold("up", "-d")
            await compare(shop, "idle", seconds)
            async with shop.load(rate=rate):
                await compare(shop, f"{rate:g} requests/s", seconds)


async def compare(shop: project.Project, title: str, seconds: float) -> None:
    """Unwatched, watched, unwatched, watched: what drifts meets both."""
    pids = processes(await shop.status())
    pids["runtime"] = [shop.runtime_pid()]
    await asyncio.sleep(traffic.ATTENTION_SECONDS)
    for is_watched in (False, True, False, True):
        async with watching(shop) if is_watched else contextlib.nullcontext():
            await asyncio.sleep(1)
            before = {name: spent(those) for name, those in pids.items()}
            await asyncio.sleep(seconds)
            shares = {name: (spent(those) - before[name]) / seconds * 100 for name, those in pids.items()}
        words = ", ".join(f"{name} {share:.1f}" for name, share in shares.items())
        print(f"{title}, {'watched' if is_watched else 'unwatched'}: % of a core: {words}", flush=True)
        await asyncio.sleep(traffic.ATTENTION_SECONDS if is_watched else 0)


@contextlib.asynccontextmanager
async def watching(shop: project.Project) -> AsyncIterator[None]:
    """Somebody looks, once a second."""
    argv = [sys.executable, "-m", "tenfold.cli", "status", "--watch"]
    watcher = await asyncio.create_subprocess_exec(*argv, cwd=shop.folder, stdout=asyncio.subprocess.DEVNULL)
    try:
        yield
    finally:
        watcher.terminate()
        await watcher.wait()


def processes(body: dict[str, Any]) -> dict[str, list[int]]:
    """By engine, its processes with their children."""
    found: dict[str, list[int]] = {name: [] for name in ENGINES}
    for server in body["servers"]:
        for one in server["processes"]:
            if one["engine"] in found:
                found[one["engine"]] += [one["pid"], *process.children(one["pid"])]
    return found


def spent(pids: list[int]) -> float:
    """Seconds of processor time, of all threads."""
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=15.0)
    asked = parser.parse_args()
    asyncio.run(main(asked.rate, asked.seconds))
