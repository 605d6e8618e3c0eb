"""An edge beside Varnish as it comes, and how long a purge takes: `python benchmarks/edge.py [--rounds 7]`.

Three run at the same time on the same machine, with the same memory and the same answer kept: an edge, Varnish as it
comes, and Varnish without a line of ours but with the parameters of an edge, which shows what the VCL takes. They take
turns; ratios are the medians of those of each round. Clients send requests in bundles over connections that are kept
alive, so that Varnish works and not they; beside requests a second stands the processor time that Varnish itself
spends on one. Then an edge is filled with 100,000 answers, and purges by tag, each of one answer among them, are timed
from the first byte sent to the last one received.
"""

import argparse
import asyncio
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import edges, seats
from tenfold import engines
from tenfold.engines import varnish
from tenfold.engines.varnish import admin, command
from tenfold.kit import clock, process
from tenfold.topology import layout

NETWORK = 114
TICKS = os.sysconf("SC_CLK_TCK")
CONNECTIONS, BUNDLE = 16, 64
OBJECTS, PURGES = 100_000, 2_000
BODY = b"x" * 1000

OTHERS = {"Varnish as it comes": {}, "Varnish with an edge's parameters": command.PARAMETERS}
"""What an edge is compared with, by its parameters."""

STOCK = """
vcl 4.1;
backend origin { .host = "ORIGIN"; .port = "PORT"; }
"""


@dataclass(frozen=True, eq=False)
class Running:
    """One Varnish, and the process of it that serves."""

    seat: engines.Seat
    pid: int


@dataclass(frozen=True)
class Turn:
    """What one of them did in its turn."""

    rate: float
    """Requests a second."""
    cost: float
    """Microseconds of a processor each."""


async def main(rounds: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        wanted = edges.topology(balancers=1, edges=3, memory="512MiB")
        async with seats.site(Path(folder), wanted, {"varnish": varnish.ENGINE}, NETWORK) as site:
            ours, *theirs = [site.seat(f"edge-{number}", "varnish") for number in (1, 2, 3)]
            origin = await asyncio.start_server(
                _answer_all, ours.layout.balancers[0].address(NETWORK), layout.ORIGIN_PORT
            )
            async with origin:
                began = time.monotonic()
                edge = await _serving(ours, await site.start(ours))
                print(f"start: {time.monotonic() - began:.2f} s; memory, empty: {_memory(edge.pid):.0f} MB")
                running = {"edge": edge}
                for seat, (name, parameters) in zip(theirs, OTHERS.items(), strict=True):
                    site.engine_of = {"varnish": _without_us(seat, parameters)}
                    running[name] = await _serving(seat, await site.launch(seat))
                await _compare(running, rounds, seconds)
                await _time_purges(edge)


async def _compare(running: Mapping[str, Running], rounds: int, seconds: float) -> None:
    turns: list[dict[str, Turn]] = []
    for number in range(rounds + 1):
        names = list(running) if number % 2 else list(reversed(running))
        turns.append({name: await _turn(running[name], seconds if number else 0.5) for name in names})
    for name in running:
        own = [one[name] for one in turns[1:]]
        beside = [(one["edge"].rate / one[name].rate, one["edge"].cost / one[name].cost) for one in turns[1:]]
        rate, cost = (statistics.median(pair[which] for pair in beside) for which in (0, 1))
        print(
            f"hits, {name}: {statistics.median(one.rate for one in own):,.0f}/s, "
            f"{statistics.median(one.cost for one in own):.1f} us of Varnish's own time each"
            + (f"; the edge: {rate:.2f} of its requests, {cost:.2f} of its time" if name != "edge" else "")
        )


async def _turn(one: Running, seconds: float) -> Turn:
    before, began = _ticks(one.pid), time.monotonic()
    count = await _load(one.seat, seconds)
    return Turn(count / (time.monotonic() - began), (_ticks(one.pid) - before) / TICKS / count * 1e6)


async def _time_purges(edge: Running) -> None:
    await _ask_for(edge.seat, [f"/thing/{number}" for number in range(OBJECTS)])
    figures = admin.figures(edge.seat)
    assert figures is not None
    print(f"kept: {figures.objects:,} answers, {_memory(edge.pid):.0f} MB, {figures.evicted} driven out")
    reader, writer = await asyncio.open_connection(edge.seat.address, layout.PURGE_PORT)
    took = [await _purge(reader, writer, f"Tenfold-Tags: thing:{n * (OBJECTS // PURGES)}", 1) for n in range(PURGES)]
    took.sort()
    print(
        f"purge of one tag among them: p50 {took[len(took) // 2]:.2f} ms, p99 {took[len(took) * 99 // 100]:.2f} ms, "
        f"slowest {took[-1]:.2f} ms"
    )
    print(f"purge of a tag that 1,000 have: {await _purge(reader, writer, 'Tenfold-Tags: shelf:7', 980):.1f} ms")
    print(f"purge of everything: {await _purge(reader, writer, 'Tenfold-Everything: 1', 90_000):.1f} ms")
    writer.close()


async def _purge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, what: str, at_least: int) -> float:
    """Milliseconds. Fails when fewer than `at_least` were found."""
    began = time.perf_counter()
    writer.write(
        f"PURGE / HTTP/1.1\r\nHost: e\r\nTenfold-Key: {edges.KEY}\r\nTenfold-Purge: hard\r\n{what}\r\n\r\n".encode()
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
    await reader.readexactly(int(fields["Content-Length"]))
    assert int(fields["Tenfold-Purged"]) >= at_least, head
    return (time.perf_counter() - began) * 1000


async def _load(seat: engines.Seat, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    bundle = b"GET /same HTTP/1.1\r\nHost: shop.test\r\n\r\n" * BUNDLE

    async def client() -> int:
        reader, writer = await asyncio.open_connection(seat.address, seat.process.port, limit=2**20)
        count = 0
        while time.monotonic() < deadline:
            writer.write(bundle)
            await _read(reader, BUNDLE)
            count += BUNDLE
        writer.close()
        return count

    return sum(await asyncio.gather(*(client() for _ in range(CONNECTIONS))))


async def _ask_for(seat: engines.Seat, paths: Sequence[str]) -> None:
    async def client(mine: Sequence[str]) -> None:
        reader, writer = await asyncio.open_connection(seat.address, seat.process.port, limit=2**20)
        for first in range(0, len(mine), BUNDLE):
            bundle = mine[first : first + BUNDLE]
            writer.write(b"".join(f"GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n".encode() for path in bundle))
            await _read(reader, len(bundle))
        writer.close()

    await asyncio.gather(*(client(paths[number::CONNECTIONS]) for number in range(CONNECTIONS)))


async def _read(reader: asyncio.StreamReader, answers: int) -> None:
    """That many whole answers; all have the same body."""
    rest, seen = b"", 0
    while seen < answers:
        data = await reader.read(2**18)
        if not data:
            raise EOFError("the connection ended early")
        seen += (rest + data).count(BODY)
        rest = (rest + data)[-len(BODY) + 1 :] if not (rest + data).endswith(BODY) else b""


async def _answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An origin: any path may be kept for an hour, and has a tag of its own."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            number = head.split(b" ", 2)[1].rpartition(b"/")[2]
            shelf = int(number) % 100 if number.isdigit() else 0
            tags = b"thing:%s shelf:%d" % (number, shelf)
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nCache-Control: public, max-age=3600\r\n"
                b"Surrogate-Key: %s\r\nContent-Length: %d\r\n\r\n%s" % (tags, len(BODY), BODY)
            )
    except (EOFError, OSError):
        writer.close()


def _without_us(seat: engines.Seat, parameters: Mapping[str, str]) -> engines.Engine:
    """Varnish with no settings but an origin, these parameters, and the same memory."""
    origin = seat.layout.balancers[0].address(seat.network)
    usual = command.command(seat)
    argv = (
        *(usual.argv[0], "-F", "-j", "none", "-n", str(seat.data / "work"), "-T", "none"),
        *("-a", f"{seat.address}:{seat.process.port}", "-f", str(seat.config / "stock.vcl"), "-s", "malloc,512m"),
        *(word for name, value in parameters.items() for word in ("-p", f"{name}={value}")),
    )
    text = STOCK.replace("ORIGIN", origin).replace("PORT", str(layout.ORIGIN_PORT))
    return dataclasses.replace(
        varnish.ENGINE,
        render=lambda _: {"stock.vcl": text},
        command=lambda _: dataclasses.replace(usual, argv=argv),
    )


async def _serving(seat: engines.Seat, manager: process.Identity) -> Running:
    """Wait until it takes connections: the manager then has no other child, such as the compiler."""

    async def look() -> bool:
        try:
            _, writer = await asyncio.open_connection(seat.address, seat.process.port)
        except OSError:
            return False
        writer.close()
        return True

    assert await clock.until(look, seconds=60, pause_seconds=0.05)
    (serving,) = process.children(manager.pid)
    return Running(seat, serving)


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _memory(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1000


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    uvloop.run(main(options.rounds, options.seconds))
