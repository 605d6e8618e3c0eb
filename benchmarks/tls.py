"""What TLS costs at the front door: HTTPS beside plain HTTP, in the same run, as a ratio.

    python benchmarks/tls.py [--seconds 3]

Two loads through a real HAProxy to one small web server: requests over connections that are kept alive, and a new
connection for each request (a full handshake: nothing is resumed). The client takes far more time than HAProxy does, so
beside requests a second stands what counts: the processor time that HAProxy itself spends on one.
"""

import argparse
import asyncio
import os
import ssl
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import frontdoor
from tenfold import engines
from tenfold.kit import certificate, files, process
from tenfold.runtime import certificates
from tenfold.topology import tiers

CLIENTS = 16
TICKS = os.sysconf("SC_CLK_TCK")
REQUEST = b"GET /x HTTP/1.1\r\nHost: shop.test\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nContent-Type: text/plain\r\n\r\n" + b"x" * 100


@dataclass(frozen=True)
class Measured:
    """One stretch: how many a second, and HAProxy's microseconds for one."""

    rate: float
    microseconds: float


async def main(seconds: float) -> None:
    loads = {"requests, kept alive": _kept_alive, "new connections": _new_connections}
    found: dict[str, dict[bool, list[Measured]]] = {name: {False: [], True: []} for name in loads}
    for _ in range(2):
        for tls in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                for name, load in loads.items():
                    found[name][tls].append(await _measure(Path(folder) / name.partition(",")[0], tls, load, seconds))
    for name, by_scheme in found.items():
        plain, secure = (max(by_scheme[tls], key=lambda one: one.rate) for tls in (False, True))
        print(
            f"{name}: http {plain.rate:,.0f}/s, https {secure.rate:,.0f}/s (ratio {secure.rate / plain.rate:.2f}); "
            f"HAProxy's own time {plain.microseconds:.0f} and {secure.microseconds:.0f} us each "
            f"(ratio {secure.microseconds / plain.microseconds:.2f})"
        )


async def _measure(folder: Path, tls: bool, load: "Load", seconds: float) -> Measured:
    seat = _seat(folder, tls)
    trust = None
    if seat.certificate is not None:
        made = certificate.self_signed((frontdoor.LISTEN[0],), certificates.now())
        files.make_private(seat.certificate.parent)
        files.write_atomically(seat.certificate, made.pem)
        trust = ssl.create_default_context(cafile=str(seat.certificate))
    (web,) = seat.layout.running("granian")
    server = await asyncio.get_running_loop().create_server(_Web, web.address(frontdoor.NETWORK), 8000)
    async with server, frontdoor.house(folder) as house:
        door = await house.door(seat)
        (worker,) = process.children(door.pid)
        await load(trust, 0.5)
        before, began = _ticks(worker), time.monotonic()
        count = await load(trust, seconds)
        took, spent = time.monotonic() - began, (_ticks(worker) - before) / TICKS
    return Measured(count / took, spent / count * 1e6)


def _seat(folder: Path, tls: bool) -> engines.Seat:
    folder.mkdir(parents=True)
    address, port = frontdoor.LISTEN
    service = tiers.Service(name="shop", app="shop:app", listen=f"{address}:{port}")
    if tls:
        service = service.model_copy(update={"tls": tiers.SELF_SIGNED})
    return frontdoor.seat(
        folder,
        frontdoor.topology(service=service, balancer=tiers.Balancer(servers=1), web=tiers.Web(servers=1)),
    )


Load = Callable[[ssl.SSLContext | None, float], Awaitable[int]]


async def _kept_alive(trust: ssl.SSLContext | None, seconds: float) -> int:
    async def client() -> int:
        connection, count = await _connect(trust), 0
        while time.monotonic() < ends_at:
            await connection.get()
            count += 1
        connection.transport.abort()
        return count

    ends_at = time.monotonic() + seconds
    return sum(await asyncio.gather(*(client() for _ in range(CLIENTS))))


async def _new_connections(trust: ssl.SSLContext | None, seconds: float) -> int:
    async def client() -> int:
        count = 0
        while time.monotonic() < ends_at:
            connection = await _connect(trust)
            await connection.get()
            connection.transport.abort()
            count += 1
        return count

    ends_at = time.monotonic() + seconds
    return sum(await asyncio.gather(*(client() for _ in range(CLIENTS))))


async def _connect(trust: ssl.SSLContext | None) -> "_Client":
    _, made = await asyncio.get_running_loop().create_connection(_Client, *frontdoor.LISTEN, ssl=trust)
    return made


class _Client(asyncio.Protocol):
    """One connection; knows an answer's end by the body that all answers have."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    async def get(self) -> None:
        self.answered = asyncio.get_running_loop().create_future()
        self.seen = b""
        self.transport.write(REQUEST)
        await self.answered

    def data_received(self, data: bytes) -> None:
        self.seen += data
        if self.seen.endswith(b"x" * 100) and not self.answered.done():
            self.answered.set_result(None)


class _Web(asyncio.Protocol):
    """A web server that does nothing but answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.seen = b""

    def data_received(self, data: bytes) -> None:
        *requests, self.seen = (self.seen + data).split(b"\r\n\r\n")
        self.transport.write(ANSWER * len(requests))


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[11]) + int(fields[12])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    uvloop.run(main(parser.parse_args().seconds))
