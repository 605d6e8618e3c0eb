"""What a commit costs that has to be in two regions: `python benchmarks/regions.py [--tasks 8] [--rounds 5]`.

One primary, a replica beside it, a copy behind a link with a delay each way. Interleaves commits that wait for nobody
(`synchronous = false`), for the replica (`true`) and for the other region, too (`"regions"`), with one task and with
many. Prints medians, and the medians of the rounds' ratios to `false`.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support import postgres_cluster, write_database
from tenfold import bindings
from tenfold.sdk.db import database, schema

INSERT = "insert into effect (name) values ('one')"


class Link:
    """Carries bytes both ways, each so much later."""

    def __init__(self, host: str, port: int) -> None:
        self.delay_seconds = 0.0
        self._target = (host, port)
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        for one, other in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.ensure_future(self._carry(one, other))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while data := await reader.read(65536):
                if self.delay_seconds:
                    loop.call_later(self.delay_seconds, writer.write, data)
                else:
                    writer.write(data)
        writer.close()


def bound(cluster: postgres_cluster.Cluster, witnesses: tuple[str, ...]) -> bindings.Database:
    """The last server is in another region."""
    far = cluster.servers[-1]
    nodes = tuple(
        bindings.DatabaseNode(name=one.name, host=one.host, port=one.port, region="far" if one is far else "home")
        for one in cluster.servers
    )
    shards = (bindings.Shard(nodes=nodes),)
    user, password = postgres_cluster.USER, postgres_cluster.PASSWORD
    return bindings.Database(
        shards=shards, name=postgres_cluster.DATABASE, user=user, password=password, witnesses=witnesses
    )


async def commits(db: database.Database, tasks: int, seconds: float) -> tuple[float, float]:
    """Commits a second, and the median of how long one takes, in milliseconds."""
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def one() -> None:
        while (began := time.perf_counter()) < until:
            await db.execute(INSERT)
            took.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(tasks)))
    return len(took) / (time.perf_counter() - began), statistics.median(took) * 1000


async def measure(cluster: postgres_cluster.Cluster, arguments: argparse.Namespace) -> None:
    """Every mode, round by round."""
    await cluster.primary.script(schema.statements(postgres_cluster.USER))
    await cluster.primary.script(write_database.TABLE + write_database.OWNER)
    home, far = cluster.primary, cluster.servers[-1]
    link, address = Link(home.host, home.port), (f"127.{arguments.network}.6.1", home.port)
    server = await asyncio.start_server(link.take, *address)
    await far.configure(
        primary_conninfo=f"host={address[0]} port={address[1]} user=postgres application_name={far.name}"
    )
    await cluster.until_streaming(far)
    modes = {"false": ("", ()), "true": ('"database-2"', ()), '"regions"': ('"database-2"', ("home", "far"))}
    print(f"{'WAN':>8} {'tasks':>6} {'synchronous':>12} {'a second':>9} {'ratio':>6} {'median ms':>10} {'ratio':>6}")
    for delay in (0.0, 0.02):
        link.delay_seconds = delay
        for tasks in (1, arguments.tasks):
            seen: dict[str, list[tuple[float, float]]] = {mode: [] for mode in modes}
            for number in range(arguments.rounds + 1):
                for mode, (standbys, witnesses) in modes.items():
                    await home.configure(synchronous_standby_names=standbys)
                    db = database.Database()
                    await db.start(bound(cluster, witnesses), "home")
                    await commits(db, tasks, 0.2)
                    measured = await commits(db, tasks, arguments.seconds)
                    await db.stop()
                    if number:  # the first round warms up
                        seen[mode].append(measured)
            report(delay, tasks, seen)
    server.close()


def report(delay: float, tasks: int, seen: dict[str, list[tuple[float, float]]]) -> None:
    """Medians, and the medians of the rounds' ratios to the first mode."""
    reference = next(iter(seen.values()))
    for mode, rounds in seen.items():
        rate, took = (statistics.median(column) for column in zip(*rounds, strict=True))
        pairs = list(zip(rounds, reference, strict=True))
        rates = statistics.median(mine[0] / theirs[0] for mine, theirs in pairs)
        times = statistics.median(mine[1] / theirs[1] for mine, theirs in pairs)
        print(f"{delay * 1000:>5.0f} ms {tasks:>6} {mode:>12} {rate:>9,.0f} {rates:>6.2f} {took:>10.2f} {times:>6.2f}")


async def main(arguments: argparse.Namespace) -> None:
    """Start the databases, measure, print."""
    with tempfile.TemporaryDirectory(prefix="tenfold-bench-") as folder:
        async with postgres_cluster.cluster(Path(folder), arguments.network, 2) as cluster:
            await measure(cluster, arguments)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each mode in each round")
    parser.add_argument("--network", type=int, default=76, help="the second number of 127.N.0.0/16")
    uvloop.run(main(parser.parse_args()))
