"""Hits of a decorated function beside cashews and async-lru: `python benchmarks/cache.py [--rounds 9]`.

Interleaves them in one process on uvloop, so that what else the machine does hits all alike, and prints medians and
ratios. tf.cache checks on every hit that nothing has made the value stale: outside a request, in one of a visitor who
has written nothing, in one of somebody who has, for a value that must be copied (a dict), and for a method. Then the
longest time that sweeping holds up the loop while 300,000 entries die, beside cashews' own sweeping, and the hit ratios
of the four evictions.

Needs `pip install -r benchmarks/requirements.lock`.
"""

import argparse
import asyncio
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import async_lru
import cashews
import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support import caches, postgres_cluster, recorded_traces, routed_reads
from tenfold import bindings, position, request
from tenfold.sdk.cache import entries, local, values

KEYS = 100
ENTRIES = 300_000

Get = Callable[[int], Awaitable[Any]]


async def rate(get: Get, seconds: float, serving: request.Request | None) -> float:
    """Hits a second, one after the other."""
    for number in range(KEYS):
        await get(number)
    if serving is None:
        return await _rate(get, seconds)
    with request.serving(serving):
        return await _rate(get, seconds)


async def _rate(get: Get, seconds: float) -> float:
    count, began = 0, time.perf_counter()
    while time.perf_counter() < began + seconds:
        for number in range(KEYS):
            await get(number)
        count += KEYS
    return count / (time.perf_counter() - began)


def rivals() -> dict[str, Get]:
    """The others, with a time to live as ours have."""
    memory = cashews.Cache()
    memory.setup("mem://", size=100_000)

    @memory(ttl=600, key="product:{pid}")
    async def by_cashews(pid: int) -> str:
        return f"product {pid}"

    @async_lru.alru_cache(maxsize=100_000, ttl=600)
    async def by_async_lru(pid: int) -> str:
        return f"product {pid}"

    @async_lru.alru_cache(maxsize=100_000)
    async def by_async_lru_for_ever(pid: int) -> str:
        return f"product {pid}"

    return {"cashews": by_cashews, "async-lru": by_async_lru, "async-lru, no ttl": by_async_lru_for_ever}


def ours(one: caches.Process) -> dict[str, Get]:
    """The same function, decorated by us."""

    @one.cache.cached("product:{pid}", ttl=600, tags=["product:{pid}"])
    async def product(pid: int) -> str:
        return f"product {pid}"

    @one.cache.cached("copied:{pid}", ttl=600, tags=["product:{pid}"])
    async def copied(pid: int) -> dict[str, Any]:
        return {"id": pid, "name": f"product {pid}", "price": 100 * pid}

    class Shop:
        @one.cache.cached("method:{pid}", ttl=600, tags=["product:{pid}"])
        async def product(self, pid: int) -> str:
            return f"product {pid}"

    return {"tf.cache": product, "tf.cache, a dict": copied, "tf.cache, a method": Shop().product}


async def measure(one: caches.Process, s3fifo: caches.Process, arguments: argparse.Namespace) -> None:
    """The rates of every way, round by round. With `lru` each hit moves what is hit; with `s3fifo` it does not."""
    mine, others = ours(one), rivals()
    mine["tf.cache, s3fifo"] = ours(s3fifo)["tf.cache"]
    writer = request.Request()
    with request.serving(writer):
        await one.db.execute("update product set name = name where id = 1")
    ways: dict[str, tuple[Get, request.Request | None]] = {
        name: (get, None) for name, get in {**others, **mine}.items()
    }
    ways["tf.cache, in a request"] = (mine["tf.cache"], request.Request())
    ways["tf.cache, in a writer's request"] = (mine["tf.cache"], request.Request(seen=writer.seen, is_known=True))
    seen: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, (get, serving) in ways.items():
            seen[name].append(await rate(get, arguments.seconds, serving))
    medians = {name: statistics.median(found) for name, found in seen.items()}
    for name, median in medians.items():
        print(f"  {name:34} {median / 1e6:6.2f}M/s  x cashews {median / medians['cashews']:6.1f}"
              f"  x async-lru {median / medians['async-lru']:5.2f}")  # fmt: skip


async def stalls(fill: Callable[[], Awaitable[None]], seconds: float) -> float:
    """The longest turn of the loop while what was filled in dies, in milliseconds of its own processor time: what other
    programs take from the machine meanwhile is not ours to measure."""
    await fill()
    longest, last, until = 0.0, time.thread_time(), time.perf_counter() + seconds
    while time.perf_counter() < until:
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, last = max(longest, now - last), now
    return longest * 1000


async def sweep() -> None:
    """300,000 entries that die within two seconds, the collector of Python left out: it stops every program alike."""
    made = local.Local(2**31, "s3fifo")

    async def fill() -> None:
        now, at = time.time(), position.Position(0, 1, 1, 1)
        for number in range(ENTRIES):
            dies = now + 1 + number / ENTRIES * 2
            entry = entries.Entry(b"x", at, (1, 2), now, dies, dies)
            made.keep(local.Kept(f"product:{number}", entry, values.UNTYPED, "x", is_live=True), now)
            if number % 1000 == 0:
                await asyncio.sleep(0)

    made.start()
    gc.disable()
    held = await stalls(fill, 5)
    left = made.count
    made.stop()
    memory = cashews.Cache()
    memory.setup("mem://", size=ENTRIES)

    async def fill_theirs() -> None:
        for number in range(ENTRIES):
            await memory.set(f"product:{number}", "x", expire=1 + number / ENTRIES * 2)

    theirs = await stalls(fill_theirs, 5)
    gc.enable()
    print(f"longest stall while {ENTRIES:,} entries die: tf.cache {held:.2f} ms ({left} left), cashews {theirs:.1f} ms")


def ratios() -> None:
    """How often each eviction has what is asked for."""
    for name, trace in recorded_traces.ALL.items():
        found = {policy: recorded_traces.hit_ratio(policy, trace) for policy in ("lru", "lfu", "fifo", "s3fifo")}
        print(f"hit ratio, {name}: " + ", ".join(f"{policy} {100 * one:.1f} %" for policy, one in found.items()))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.2, help="for each measurement of a round")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        async with postgres_cluster.cluster(Path(folder), 64, replicas=1) as cluster:
            await cluster.primary.script(routed_reads.schema.statements(postgres_cluster.USER))
            await cluster.primary.script(caches.TABLE)
            await cluster.until_caught_up()
            async with (
                caches.process(cluster, bindings.Cache(local_eviction="lru")) as one,
                caches.process(cluster, bindings.Cache(local_eviction="s3fifo")) as other,
            ):
                await measure(one, other, arguments)
    await sweep()
    ratios()


if __name__ == "__main__":
    uvloop.run(main())
