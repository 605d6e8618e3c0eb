"""A hit in the shared cache beside redis-py: `python benchmarks/shared_hit.py [--rounds 9] [--tasks 1 50]`.

Interleaves the ways of getting the same values from the same servers, in one process on uvloop, so that what else the
machine does hits all alike: redis-py's asyncio client with hiredis and a pool as large as the tasks need; tf.valkey,
with its deadlines, redirects and reconnects; and the whole hit of the cache in the servers, decoded and checked.
Prints medians and ratios. `--bytes` is the size of the values.

Needs `pip install -r benchmarks/requirements.lock`.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import redis.asyncio
import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support import valkey_servers
from tenfold import position
from tenfold.sdk import valkey
from tenfold.sdk.cache import entries, shared

KEYS = 1000

Get = Callable[[str], Awaitable[Any]]


async def rate(get: Get, tasks: int, seconds: float) -> float:
    """Hits a second by so many tasks."""
    until = time.perf_counter() + seconds

    async def work(start: int) -> int:
        count = 0
        while time.perf_counter() < until:
            for number in range(50):
                assert await get(f"product:{(start + count + number) % KEYS}") is not None
            count += 50
        return count

    began = time.perf_counter()
    counts = await asyncio.gather(*(work(task * 17) for task in range(tasks)))
    return sum(counts) / (time.perf_counter() - began)


async def measure(servers: valkey_servers.Servers, arguments: argparse.Namespace) -> None:
    """The rates of every way, round by round."""
    client = valkey.Client()
    await client.start(servers.bound)
    await client.call("PING", timeout=10)
    await client.many([("SET", f"product:{number}", b"x" * arguments.bytes) for number in range(KEYS)])
    cache = shared.Shared(client)
    now, until = time.time(), asyncio.get_running_loop().time() + 3600
    at = position.Position(0, 1, 1, 1)
    entry = entries.Entry(b"x" * arguments.bytes, at, (1, 2), now, now + 3600, now + 3600)
    for number in range(KEYS):
        await cache.set(f"product:{number}", entry, None)
    for tasks in arguments.tasks:
        other = rival(servers, tasks)
        ways: dict[str, Get] = {
            "redis-py": other.get,
            "tf.valkey": lambda key: client.call("GET", key),
            "tf.cache, shared hit": lambda key: cache.find(key, until, usable),
        }
        seen: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(arguments.rounds + 1):
            for name, get in ways.items():
                measured = await rate(get, tasks, arguments.seconds)
                if number:  # the first round warms up
                    seen[name].append(measured)
        report(tasks, seen)
        await other.aclose()
    await client.stop()


def usable(_: entries.Entry) -> bool:
    """As the floors would say."""
    return True


def rival(servers: valkey_servers.Servers, tasks: int) -> Any:
    """redis-py's client for these servers."""
    first = servers.servers[0]
    account = {"host": first.host, "port": valkey_servers.PORT, "max_connections": max(tasks, 10)}
    account |= {"username": valkey_servers.USER, "password": valkey_servers.PASSWORD}
    return redis.asyncio.Redis(**account)


def report(tasks: int, seen: dict[str, list[float]]) -> None:
    """Medians, and the median of the rounds' ratios with its spread."""
    reference = seen["redis-py"]
    print(f"{f'{tasks} tasks':24}{'hits/s':>10}{'ratio':>8}   (10 % .. 90 % of the rounds' ratios)")
    for name, rates in seen.items():
        ratios = sorted(mine / theirs for mine, theirs in zip(rates, reference, strict=True))
        low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
        median = statistics.median(ratios)
        print(f"{name:24}{statistics.median(rates):>10,.0f}{median:>8.2f}   {low:.2f} .. {high:.2f}")


async def main(arguments: argparse.Namespace) -> None:
    """Start the servers, measure, print."""
    with tempfile.TemporaryDirectory(prefix="tenfold-bench-") as folder:
        async with valkey_servers.started(Path(folder), arguments.network) as servers:
            await measure(servers, arguments)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 50])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each way in each round")
    parser.add_argument("--bytes", type=int, default=100)
    parser.add_argument("--network", type=int, default=63, help="the second number of 127.N.0.0/16")
    uvloop.run(main(parser.parse_args()))
