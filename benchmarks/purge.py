"""How soon every edge of two regions has forgotten: `python benchmarks/purge.py [--purges 500] [--rate 100]`.

Transactions that change a row and purge a tag, over a real PostgreSQL with a replica and real edges that keep 500 pages
under that tag's neighbours. One edge and the replica are in another region: met through the network between regions,
which has no delay. By turns, in one run: COMMIT alone, COMMIT with a purge until each region's edges have acknowledged,
and a bare purge over a bare connection to each edge, which is what the engine (and the network before it) takes by
itself. `--rate 0` sends as fast as it goes, `--at-once` many at the same time.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support import edge_service, edges, far_region, postgres_cluster, write_database
from tenfold.sdk import counters
from tenfold.sdk.cdn import delivery
from tenfold.sdk.cdn import edges as told_edges
from tenfold.topology import layout

NETWORK = 15
PAGES = 500
NEAR, FAR = "the home region", "the other region"


@dataclass
class Watched:
    """One transaction: its COMMIT, and when which edge acknowledged, in `time.perf_counter()`."""

    began: float = 0.0
    sent: float = 0.0
    told: told_edges.Told = field(default_factory=dict)
    heard: dict[str, float] = field(default_factory=dict)


now_watched: ContextVar[Watched | None] = ContextVar("now_watched", default=None)


def watch(known: told_edges.Edges) -> None:
    """From now on the first purge of each transaction is noted, and when it was acknowledged."""
    send = known.send

    def noted(*args: object, **options: object) -> told_edges.Told:
        told = send(*args, **options)  # type: ignore[arg-type]
        one = now_watched.get()
        if one is not None and not one.sent:
            one.sent, one.told = time.perf_counter(), told
            for name, done in told.items():
                done.add_done_callback(lambda _, name=name: one.heard.setdefault(name, time.perf_counter()))
        return told

    known.send = noted  # type: ignore[method-assign]


async def change(served: edge_service.Served, name: str, *, is_purging: bool) -> Watched:
    """One transaction, and the acknowledgements of every edge."""
    one = Watched()
    now_watched.set(one)
    async with served.tf.db.transaction() as tx:
        await tx.execute("update account set balance = balance - 1 where name = $1", name)
        if is_purging:
            await tx.purge(tags=[f"stock:{name}"])
        one.began = time.perf_counter()
    one.sent = one.sent or time.perf_counter()
    if one.told:
        await asyncio.wait(one.told.values())
    return one


async def repeated(options: argparse.Namespace, act: Callable[[int], Awaitable[None]]) -> None:
    """So many times, so many at once, so many a second."""
    loop, numbers = asyncio.get_running_loop(), iter(range(options.purges))
    began = loop.time()

    async def work() -> None:
        for n in numbers:
            if options.rate:
                await asyncio.sleep(began + n / options.rate - loop.time())
            await act(n)

    await asyncio.gather(*(work() for _ in range(options.at_once)))


async def commits(options: argparse.Namespace, served: edge_service.Served, *, is_purging: bool) -> list[Watched]:
    """The transactions of one turn."""
    found: list[Watched] = []

    async def act(n: int) -> None:
        found.append(await change(served, f"thing-{n % PAGES}", is_purging=is_purging))

    await repeated(options, act)
    return found


async def bare(options: argparse.Namespace, host: str) -> list[float]:
    """Purges over a connection of one's own, one after the other: seconds each."""
    reader, writer = await asyncio.open_connection(host, layout.PURGE_PORT)
    found: list[float] = []

    async def act(n: int) -> None:
        began = time.perf_counter()
        said = f"PURGE / HTTP/1.1\r\nHost: e\r\nTenfold-Key: {edges.KEY}\r\nTenfold-Purge: hard\r\n"
        writer.write(f"{said}Tenfold-Tags: stock:thing-{n % PAGES}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
        found.append(time.perf_counter() - began)

    await repeated(argparse.Namespace(**{**vars(options), "at_once": 1}), act)
    writer.close()
    return found


def show(name: str, seconds: Sequence[float], more: str = "") -> None:
    """Median, 99th percentile and the worst, in milliseconds."""
    found = {"p50": statistics.median(seconds), "p99": statistics.quantiles(seconds, n=100)[98], "worst": max(seconds)}
    said = "   ".join(f"{name} {one * 1000:7.2f} ms" for name, one in found.items())
    print(f"{name:50} {said}{more}", flush=True)


async def turn(options: argparse.Namespace, served: edge_service.Served, hosts: dict[str, str]) -> None:
    """One of each kind."""
    assert served.link is not None
    show("COMMIT without a purge", [one.sent - one.began for one in await commits(options, served, is_purging=False)])
    late = counters.reading().get("cdn.purges_late", 0)
    found = await commits(options, served, is_purging=True)
    late = counters.reading().get("cdn.purges_late", 0) - late
    show("COMMIT with a purge", [one.sent - one.began for one in found])
    far = served.link.seen(served.link.edge)
    regions = {name: edge.where.host == far for name, edge in served.tf.cdn._edges._by_name.items()}
    for place, is_far in ((NEAR, False), (FAR, True)):
        names = [name for name, one in regions.items() if one == is_far]
        heard = [max(one.heard[name] for name in names) - one.sent for one in found]
        show(f"COMMIT answered to acknowledged in {place}", heard)
    whole = [max(one.heard.values()) - one.began for one in found]
    show("COMMIT sent to acknowledged everywhere", whole, f"   later than {delivery.TELL_SECONDS} s: {late}")
    for place, host in hosts.items():
        show(f"a bare purge in {place}", await bare(options, host))


async def run(options: argparse.Namespace, site: edge_service.seats.Site, cluster: postgres_cluster.Cluster) -> None:
    rows = f"insert into account select 'thing-' || n, 100000 from generate_series(0, {PAGES - 1}) n"
    await cluster.primary.script(rows)
    await cluster.until_caught_up()
    near, *_, far = [site.seat(f"edge-{number + 1}", "varnish").address for number in range(options.edges)]
    async with (
        far_region.joined(site.folder / "wan", NETWORK, far, cluster.replicas[0].host) as link,
        edge_service.serving(site, cluster, link) as served,
        served.visitor() as visitor,
    ):
        for number in range(PAGES * options.edges):
            await visitor.stock(f"thing-{number % PAGES}")
        watch(served.tf.cdn._edges)
        await commits(options, served, is_purging=True)  # to warm up
        hosts = {NEAR: near, FAR: link.seen(far)}
        for number in range(options.rounds):
            print(
                f"turn {number + 1}: {options.edges} edges, {options.at_once} at once, {options.rate or 'any'} a second"
            )
            await turn(options, served, hosts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edges", type=int, default=2)
    parser.add_argument("--purges", type=int, default=500)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--rate", type=int, default=100)
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
