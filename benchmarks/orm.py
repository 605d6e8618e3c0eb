"""SQLAlchemy on tf.db beside SQLAlchemy alone: `python benchmarks/orm.py [--tasks 8] [--rounds 9]`.

Interleaves the ways of the same work on the same primary, so that what else the machine does hits all alike: a point
read and an insert by the ORM, with an engine on asyncpg alone, with one on `tf.db.connect`, and with `Sessions`.
Prints medians, and the medians of the rounds' ratios with their spread.
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

import uvloop
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support import orm, postgres_cluster
from tenfold import request
from tenfold.sqlalchemy import Sessions

ROWS = 1000
FILL = f"insert into effect (name) select 'effect ' || i from generate_series(1, {ROWS}) as i"

Work = Callable[[int], Awaitable[Any]]


async def rate(work: Work, tasks: int, seconds: float) -> float:
    """How often a second so many tasks do it, each in a request of its own."""
    until = time.perf_counter() + seconds

    async def one(start: int) -> int:
        count = 0
        with request.serving(request.Request(is_known=True)):
            while time.perf_counter() < until:
                await work((start + count) % ROWS + 1)
                count += 1
        return count

    began = time.perf_counter()
    counts = await asyncio.gather(*(one(task * 100) for task in range(tasks)))
    return sum(counts) / (time.perf_counter() - began)


def with_sessionmaker(made: async_sessionmaker[AsyncSession]) -> tuple[Work, Work]:
    """Read and insert as SQLAlchemy's documentation does."""

    async def read(number: int) -> None:
        async with made() as session:
            await session.get_one(orm.Effect, number)

    async def insert(_: int) -> None:
        async with made() as session, session.begin():
            session.add(orm.Effect(name="new"))

    return read, insert


def with_sessions(sessions: Sessions) -> tuple[Work, Work]:
    """Read and insert as docs/sqlalchemy.md does."""

    async def read(number: int) -> None:
        async with sessions.reading() as session:
            await session.get_one(orm.Effect, number)

    async def insert(_: int) -> None:
        await sessions.run(orm.add, "new")

    return read, insert


async def measure(cluster: postgres_cluster.Cluster, arguments: argparse.Namespace) -> None:
    """Every way, round by round."""
    await orm.prepare(cluster)
    await cluster.primary.script(FILL)
    server = cluster.primary
    url = f"postgresql+asyncpg://{postgres_cluster.USER}:{postgres_cluster.PASSWORD}@{server.host}:{server.port}/shop"
    pool = {"pool_size": arguments.tasks}
    async with orm.started(cluster.bound) as (tf, sessions):
        alone = create_async_engine(url, **pool)
        following = create_async_engine("postgresql+asyncpg://", async_creator=tf.db.connect, **pool)
        ways = {
            "SQLAlchemy alone": with_sessionmaker(async_sessionmaker(alone, expire_on_commit=False)),
            "on tf.db.connect": with_sessionmaker(async_sessionmaker(following, expire_on_commit=False)),
            "Sessions": with_sessions(sessions),
        }
        for kind, name in enumerate(("point read", "insert")):
            seen: dict[str, list[float]] = {way: [] for way in ways}
            for number in range(arguments.rounds + 1):
                for way, works in ways.items():
                    measured = await rate(works[kind], arguments.tasks, arguments.seconds)
                    if number:  # the first round warms up
                        seen[way].append(measured)
            report(name, seen)
        await alone.dispose()
        await following.dispose()


def report(name: str, seen: dict[str, list[float]]) -> None:
    """Medians, and the median of the rounds' ratios with its spread."""
    reference = next(iter(seen.values()))
    print(f"{name:18}{'per second':>12}{'ratio':>8}   (10 % .. 90 % of the rounds' ratios)")
    for way, rates in seen.items():
        ratios = sorted(mine / theirs for mine, theirs in zip(rates, reference, strict=True))
        low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
        print(
            f"  {way:16}{statistics.median(rates):>12,.0f}{statistics.median(ratios):>8.2f}   {low:.2f} .. {high:.2f}"
        )


async def main(arguments: argparse.Namespace) -> None:
    """Start a database, measure, print."""
    with tempfile.TemporaryDirectory(prefix="tenfold-bench-") as folder:
        async with postgres_cluster.cluster(Path(folder), arguments.network, 0) as cluster:
            await measure(cluster, arguments)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each way in each round")
    parser.add_argument("--network", type=int, default=75, help="the second number of 127.N.0.0/16")
    uvloop.run(main(parser.parse_args()))
