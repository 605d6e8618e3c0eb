"""A routed point read beside asyncpg's pool: `python benchmarks/point_read.py [--tasks 8] [--rounds 15]`.

Interleaves three ways of the same query on the same primary, so that what else the machine does hits all alike:
asyncpg.Pool.fetchval, tf.db.fetchval (classified, routed, freshness proven, in a request of a session that has
written), and a bare free list of asyncpg connections, which is what no pool can beat. Prints medians and ratios.
`--replica` lets tf.db and the others read from a replica instead.
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

import asyncpg
import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support import postgres_cluster
from tenfold import position, request
from tenfold.sdk import db

QUERY = "select name from product where id = $1"
ROWS = 1000
TABLE = f"""
create table product (id int primary key, name text not null);
insert into product select i, 'product ' || i from generate_series(1, {ROWS}) as i;
grant select on product to {postgres_cluster.USER};
analyze product;
"""

Read = Callable[[int], Awaitable[Any]]


async def rate(read: Read, tasks: int, seconds: float, serving: Callable[[], request.Request]) -> float:
    """Reads a second by so many tasks, each in a request of its own."""
    until = time.perf_counter() + seconds

    async def work(start: int) -> int:
        count = 0
        with request.serving(serving()):
            while time.perf_counter() < until:
                for number in range(50):
                    await read((start + count + number) % ROWS + 1)
                count += 50
        return count

    began = time.perf_counter()
    counts = await asyncio.gather(*(work(task * 100) for task in range(tasks)))
    return sum(counts) / (time.perf_counter() - began)


async def measure(cluster: postgres_cluster.Cluster, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """The rates of every way, round by round."""
    primary = cluster.primary
    server = cluster.replicas[0] if cluster.replicas else primary
    address = {"host": server.host, "port": server.port, "user": postgres_cluster.USER}
    address |= {"password": postgres_cluster.PASSWORD, "database": postgres_cluster.DATABASE}
    await primary.script(TABLE)
    await cluster.until_caught_up()
    wrote = position.Position(0, 1, 1, await server.lsn())

    def serving() -> request.Request:
        now = asyncio.get_running_loop().time()
        made = request.Request(is_known=True, deadline=now + 60)
        made.seen = made.seen.raised([wrote])
        return made

    free = [await asyncpg.connect(**address) for _ in range(arguments.tasks)]

    async def bare(number: int) -> Any:
        connection = free.pop()
        try:
            return await connection.fetchval(QUERY, number)
        finally:
            free.append(connection)

    pool = await asyncpg.create_pool(min_size=arguments.tasks, max_size=arguments.tasks, **address)
    tenfold = db.Database()
    await tenfold.start(cluster.bound)
    ways: dict[str, Read] = {
        "asyncpg.Pool": lambda number: pool.fetchval(QUERY, number),
        "tf.db": lambda number: tenfold.fetchval(QUERY, number),
        "bare free list": bare,
    }
    seen: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(arguments.rounds + 1):
        for name, read in ways.items():
            measured = await rate(read, arguments.tasks, arguments.seconds, serving)
            if number:  # the first round warms up
                seen[name].append(measured)
    await tenfold.stop()
    await pool.close()
    for connection in free:
        await connection.close()
    return seen


def report(seen: dict[str, list[float]]) -> None:
    """Medians, and the median of the rounds' ratios with its spread."""
    reference = seen["asyncpg.Pool"]
    print(f"{'':16}{'reads/s':>10}{'ratio':>8}   (10 % .. 90 % of the rounds' ratios)")
    for name, rates in seen.items():
        ratios = sorted(mine / theirs for mine, theirs in zip(rates, reference, strict=True))
        low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
        median = statistics.median(ratios)
        print(f"{name:16}{statistics.median(rates):>10,.0f}{median:>8.2f}   {low:.2f} .. {high:.2f}")


async def main(arguments: argparse.Namespace) -> None:
    """Start a database, measure, print."""
    with tempfile.TemporaryDirectory(prefix="tenfold-bench-") as folder:
        replicas = 1 if arguments.replica else 0
        async with postgres_cluster.cluster(Path(folder), arguments.network, replicas) as cluster:
            report(await measure(cluster, arguments))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each way in each round")
    parser.add_argument("--network", type=int, default=61, help="the second number of 127.N.0.0/16")
    parser.add_argument("--replica", action="store_true", help="read from a replica")
    uvloop.run(main(parser.parse_args()))
