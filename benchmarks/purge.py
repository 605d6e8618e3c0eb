"""How soon every edge has forgotten: `python benchmarks/purge.py [--edges 2] [--purges 500] [--at-once 4]`.

Transactions that change a row and purge a tag, over a real PostgreSQL with a replica and real edges that keep 500 pages
under that tag's neighbours. Prints the time from sending COMMIT until every edge has acknowledged, beside that of the
same transactions without a purge, turn by turn.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support import edge_service, postgres_cluster, write_database
from tenfold.sdk import counters
from tenfold.sdk.cdn import delivery

NETWORK = 15
PAGES = 500


async def change(served: edge_service.Served, name: str, *, is_purging: bool) -> float:
    """One transaction: the seconds that its end took, the edges' acknowledgements included."""
    async with served.tf.db.transaction() as tx:
        await tx.execute("update account set balance = balance - 1 where name = $1", name)
        if is_purging:
            await tx.purge(tags=[f"stock:{name}"])
        began = time.perf_counter()
    return time.perf_counter() - began


async def measured(served: edge_service.Served, purges: int, at_once: int, *, is_purging: bool) -> list[float]:
    """So many transactions, so many at once."""
    numbers = iter(range(purges))

    async def work() -> list[float]:
        return [await change(served, f"thing-{n % PAGES}", is_purging=is_purging) for n in numbers]

    return [one for some in await asyncio.gather(*(work() for _ in range(at_once))) for one in some]


def said(seconds: Sequence[float]) -> str:
    """Median, 99th percentile and the worst, in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100)
    found = {"p50": statistics.median(seconds), "p99": cuts[98], "worst": max(seconds)}
    return "   ".join(f"{name} {one * 1000:6.2f} ms" for name, one in found.items())


async def run(options: argparse.Namespace, site: edge_service.seats.Site, cluster: postgres_cluster.Cluster) -> None:
    rows = f"insert into account select 'thing-' || n, 100000 from generate_series(0, {PAGES - 1}) n"
    await cluster.primary.script(rows)
    await cluster.until_caught_up()
    async with edge_service.serving(site, cluster) as served, served.visitor() as visitor:
        for number in range(PAGES * options.edges):
            await visitor.stock(f"thing-{number % PAGES}")
        await measured(served, 100, options.at_once, is_purging=True)
        for _ in range(options.rounds):
            late = counters.reading().get("cdn.purges_late", 0)
            bare = await measured(served, options.purges, options.at_once, is_purging=False)
            purging = await measured(served, options.purges, options.at_once, is_purging=True)
            late = counters.reading().get("cdn.purges_late", 0) - late
            where = f"{options.edges} edges, {options.at_once} at once"
            print(f"{where}, COMMIT alone:           {said(bare)}")
            print(f"{where}, COMMIT to acknowledged: {said(purging)}   later than {delivery.TELL_SECONDS} s: {late}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edges", type=int, default=2)
    parser.add_argument("--purges", type=int, default=500)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        edge_service.machines(Path(folder) / "edges", NETWORK, options.edges) as site,
        write_database.running(Path(folder), NETWORK, replicas=1) as cluster,
    ):
        asyncio.run(run(options, site, cluster))


if __name__ == "__main__":
    main()
