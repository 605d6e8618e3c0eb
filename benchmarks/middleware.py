"""What `tf.wrap` costs: a trivial app bare and wrapped, under granian, in turns.

    python benchmarks/middleware.py [--rounds 12] [--seconds 1] [--address 127.0.0.1]

Two granian processes serve the same trivial handler, one of them wrapped. A small client (no HTTP library: fixed bytes
out, counted bytes in) loads them in turns, so that whatever else the machine does meets both. Two ratios are printed:
requests per second, and the server's own processor time per request, which the client's share of the machine does not
blur. Then the same handler in this process, without a server: the middleware's bare cost in microseconds.
"""

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

APP = """
from tenfold import bindings
from tenfold.sdk.asgi import idempotency, inflight, settings, wrap

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
BODY = {"type": "http.response.body", "body": b"hello"}

async def bare(scope, receive, send):
    if scope["type"] == "lifespan":
        for word in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{word}.complete"})
        return
    await send(START)
    await send(BODY)

class Service:
    known = bindings.Service(name="bench", secret="ab" * 32, trusted_proxies=("127.0.0.0/8",))
    inflight = inflight.InFlight(settings.Settings(known, idempotency.default_principal))
    async def start(self):
        self.inflight.open()
    async def drain(self):
        self.inflight.drain()
    async def stop(self):
        self.inflight.close()

service = Service()
wrapped = wrap.Wrapped(bare, service)
"""
"""A handler that does nothing, and a service without a database: what is measured is the middleware."""

PLAIN = b"GET / HTTP/1.1\r\nHost: shop.test\r\nAccept: */*\r\nUser-Agent: bench\r\n\r\n"
BALANCED = PLAIN[:-2] + (
    b"X-Forwarded-For: 203.0.113.5\r\nX-Forwarded-Proto: http\r\n"
    b"X-Request-Id: 0123456789abcdef\r\nX-Request-Start: t=%d\r\n\r\n"
)
HEADERS = [(b"host", b"shop.test"), (b"accept", b"*/*"), (b"user-agent", b"bench")]
CONNECTIONS = 16


@dataclass
class Measured:
    """One turn's figures."""

    per_second: float
    microseconds: float
    """Processor time of the server's worker for one request."""


class Client(asyncio.Protocol):
    """One connection that asks again as soon as it is answered. All answers have the same length."""

    def __init__(self, ask: bytes) -> None:
        self.ask = ask
        self.answered = 0
        self.received = 0
        self.length = 0
        self.problem = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.ask)

    def data_received(self, data: bytes) -> None:
        if not self.length:
            self.length = len(data)
            if not data.startswith(b"HTTP/1.1 200"):
                self.problem = data
                return
        self.received += len(data)
        if self.received >= self.length:
            self.received -= self.length
            self.answered += 1
            self.transport.write(self.ask)


async def load(address: str, port: int, ask: bytes, seconds: float, worker: int) -> Measured:
    """Load one server for a while."""
    loop = asyncio.get_running_loop()
    clients = [(await loop.create_connection(lambda: Client(ask), address, port))[1] for _ in range(CONNECTIONS)]
    await asyncio.sleep(0.2)
    before, cpu, began = sum(one.answered for one in clients), processor_seconds(worker), time.perf_counter()
    await asyncio.sleep(seconds)
    count = sum(one.answered for one in clients) - before
    spent, took = processor_seconds(worker) - cpu, time.perf_counter() - began
    for one in clients:
        one.transport.abort()
        if one.problem:
            raise SystemExit(f"not a 200: {one.problem!r}")
    return Measured(count / took, spent / count * 1e6)


def processor_seconds(pid: int) -> float:
    """User and system time of a process and all its threads, to the nanosecond (schedstat, unlike stat's ticks)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


@contextmanager
def granian(folder: Path, target: str, address: str, port: int) -> Iterator[int]:
    """A granian that serves `target`; gives its worker's pid."""
    argv = [sys.executable, "-m", "granian", f"served:{target}", "--interface", "asgi"]
    argv += ["--host", address, "--port", str(port), "--working-dir", str(folder)]
    path = folder / f"{target}.log"
    with path.open("wb") as log:
        server = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        yield until_ready(server, address, port, path)
    finally:
        server.terminate()
        server.wait()


def until_ready(server: "subprocess.Popen[bytes]", address: str, port: int, log: Path) -> int:
    """The pid of the worker, once it accepts connections."""
    until = time.monotonic() + 20
    while time.monotonic() < until and server.poll() is None:
        try:
            socket.create_connection((address, port)).close()
        except OSError:
            time.sleep(0.05)
            continue
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        return int(children[0])
    raise SystemExit(f"granian did not start:\n{log.read_text()}")


def under_granian(rounds: int, seconds: float, address: str) -> None:
    """Both servers in turns, once as a client asks and once as a balancer passes it on."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "served.py").write_text(APP)
        with granian(folder, "bare", address, 8000) as bare, granian(folder, "wrapped", address, 8001) as wrapped:
            for title, form in (("a plain request", PLAIN), ("with a balancer's headers", BALANCED)):
                turns: dict[str, list[Measured]] = {"bare": [], "wrapped": []}
                for number in range(rounds):
                    for target in ("bare", "wrapped") if number % 2 else ("wrapped", "bare"):
                        port, pid = (8000, bare) if target == "bare" else (8001, wrapped)
                        ask = form % (time.time() * 1000) if b"%d" in form else form
                        turns[target].append(asyncio.run(load(address, port, ask, seconds, pid)))
                report(title, turns)


def report(title: str, turns: dict[str, list[Measured]]) -> None:
    pairs = list(zip(turns["bare"], turns["wrapped"], strict=True))
    by_rate = statistics.median(bare.per_second / wrapped.per_second for bare, wrapped in pairs) - 1
    by_cost = statistics.median(wrapped.microseconds / bare.microseconds for bare, wrapped in pairs) - 1
    print(f"{title}: medians of {len(pairs)} turns each")
    for target, each in turns.items():
        rate = statistics.median(one.per_second for one in each)
        cost = statistics.median(one.microseconds for one in each)
        print(f"  {target:8} {rate:9,.0f} requests/s   {cost:6.1f} us of processor time a request")
    print(f"  overhead, median of the pairs: {by_rate:+.1%} by rate, {by_cost:+.1%} by processor time\n")


async def in_process(count: int = 50_000) -> None:
    """The handler called as a server would call it, but for the server."""
    served: dict[str, Any] = {}
    exec(APP, served)
    await served["service"].start()
    done = asyncio.Future[None]()
    done.set_result(None)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    def send(_: object) -> "asyncio.Future[None]":
        return done

    async def turn(app: Any) -> float:
        began = time.perf_counter()
        for _ in range(count):
            scope = {"type": "http", "scheme": "http", "path": "/", "method": "GET", "headers": HEADERS, "client": None}
            await app(scope, receive, send)
        return (time.perf_counter() - began) / count * 1e6

    costs = [(await turn(served["bare"]), await turn(served["wrapped"])) for _ in range(5)]
    await served["service"].stop()
    alone, both = min(one for one, _ in costs), min(one for _, one in costs)
    print(f"in process, no server: bare {alone:.2f} us, wrapped {both:.2f} us: the middleware {both - alone:.2f} us")


def main() -> None:
    parser = argparse.ArgumentParser(description="what tf.wrap costs")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--address", default="127.0.0.1")
    asked = parser.parse_args()
    under_granian(asked.rounds, asked.seconds, asked.address)
    asyncio.run(in_process())


if __name__ == "__main__":
    main()
