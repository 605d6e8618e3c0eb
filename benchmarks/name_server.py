"""What a name server answers a second, and how fast it notices: `python benchmarks/name_server.py [--rounds 5]`.

The real PowerDNS and the program beside it, two regions, one sender on the same machine with 64 queries on their way,
256 networks in turn. Three kinds in turn, medians of the rounds: with the client's network; without it, located by the
resolver's address (the program is asked each time); and without it, answered the name server's own region, which
PowerDNS keeps in memory for a second. Beside answers a second stands the processor time of one: of PowerDNS, of the
program beside it, and of the sender, which shares the machine. Then the time from a region's failure, and from its
return, to the first answer that says so.
"""

import argparse
import asyncio
import dataclasses
import multiprocessing
import os
import socket
import statistics
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import dns.edns
import dns.message

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support import name_servers
from tenfold.kit import clock
from tenfold.topology import layout

WINDOW = 64
TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True)
class Measured:
    """One round: answers a second, and the microseconds of a processor that each took, by process."""

    rate: float
    costs: dict[str, float]


def queries(*, has_subnet: bool) -> list[bytes]:
    """Packets without their first two bytes, the number."""
    told = [[dns.edns.ECSOption(f"203.{one}.113.0", 24)] for one in range(256)] if has_subnet else [[]]
    return [dns.message.make_query("shop.test", "A", use_edns=0, options=one).to_wire()[2:] for one in told]


def send(host: str, seconds: float, packets: list[bytes]) -> tuple[int, float]:
    """How many were answered, with `WINDOW` queries on their way at any time, and the processor time that this took."""
    began = time.process_time()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect((host, layout.PORTS["powerdns"]))
        one.settimeout(0.5)
        sent = answered = waiting = 0
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            while waiting < WINDOW:
                one.send(struct.pack("!H", sent & 0xFFFF) + packets[sent % len(packets)])
                sent, waiting = sent + 1, waiting + 1
            try:
                one.recv(4096)
                answered, waiting = answered + 1, waiting - 1
            except TimeoutError:
                waiting = 0
    return answered, time.process_time() - began


async def rate(server: name_servers.NameServer, seconds: float, *, has_subnet: bool) -> Measured:
    """From a process of its own: this one's doors go on answering."""
    loop, pool = asyncio.get_running_loop(), multiprocessing.Pool(1)
    pids = {name: server.site.running["dns-1", name].pid for name in ("powerdns", "georoute")}
    with pool:
        asked = (server.host, seconds, queries(has_subnet=has_subnet))
        before = {name: spent(pid) for name, pid in pids.items()}
        answered, own = await loop.run_in_executor(None, lambda: pool.apply(send, asked))
        costs = {**{name: spent(pid) - before[name] for name, pid in pids.items()}, "sender": own}
    return Measured(answered / seconds, {name: one / max(1, answered) * 1e6 for name, one in costs.items()})


def spent(pid: int) -> float:
    """Seconds of a processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def until(server: name_servers.NameServer, addresses: tuple[str, ...]) -> float:
    """Seconds until a client of seoul is answered so."""
    began = time.monotonic()

    async def look() -> bool:
        return (await server.ask("203.0.113.0/24")).addresses == addresses

    assert await clock.until(look, seconds=20, pause_seconds=0.01)
    return time.monotonic() - began


async def noticed(server: name_servers.NameServer, rounds: int) -> dict[str, list[float]]:
    """Seconds to notice a door that refuses, and one that is back; a minute between the rounds."""
    seoul, virginia = (await server.ask("203.0.113.0/24")).addresses, (await server.ask("192.0.2.0/24")).addresses
    host, _, port = name_servers.HOME_DOOR.rpartition(":")
    found: dict[str, list[float]] = {"a region fails": [], "a region returns": []}
    for number in range(rounds):
        if number:
            await asyncio.sleep(61)  # who fails again sooner is believed later
        await server.doors["seoul"].close()
        found["a region fails"].append(await until(server, virginia))
        await server.doors["seoul"].open(host, int(port))
        found["a region returns"].append(await until(server, seoul))
    return found


async def measure(rounds: int, seconds: float, flips: int) -> None:
    kinds: dict[str, tuple[dict[str, Any], bool]] = {
        "with the client's network": ({}, True),
        "without, by the resolver": ({}, False),
        "without, the own region": ({"without_subnet": "region"}, False),
    }
    rates: dict[str, list[Measured]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, (dns_section, has_subnet) in kinds.items():
            with tempfile.TemporaryDirectory() as folder:
                async with name_servers.running(Path(folder), name_servers.topology(dns_section)) as server:
                    rates[name].append(await rate(server, seconds, has_subnet=has_subnet))
    for name, found in rates.items():
        each = [one.rate for one in found]
        costs = ", ".join(
            f"{part} {statistics.median(one.costs[part] for one in found):.1f} us" for part in found[0].costs
        )
        print(
            f"{name:28} {statistics.median(each):9,.0f} answers a second ({min(each):,.0f} to {max(each):,.0f})"
            f"; {costs}"
        )
    with tempfile.TemporaryDirectory() as folder:
        async with name_servers.running(Path(folder), name_servers.topology()) as server:
            for name, times in (await noticed(server, flips)).items():
                print(f"{name:28} {statistics.median(times):9.2f} s until answers say so (at most {max(times):.2f} s)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--flips", type=int, default=2, help="how often a region fails and returns: a minute each")
    chosen = parser.parse_args()
    asyncio.run(measure(chosen.rounds, chosen.seconds, chosen.flips))
