"""A worker, the real one: granian without pages, which handles messages of a real NATS server or of PostgreSQL."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGTERM

import msgspec
import pytest

from support import nats_servers, postgres_cluster, seats, write_database
from tenfold import bindings, engines
from tenfold.engines import granian
from tenfold.engines.granian import admin
from tenfold.kit import clock, files, process
from tenfold.topology import tiers

pytestmark = pytest.mark.anyio
NETWORK = 9

APP = """
from contextlib import asynccontextmanager
from fastapi import FastAPI
from tenfold import Tenfold

tf = Tenfold()
ready = []

@asynccontextmanager
async def lifespan(app):
    ready.append("the app's lifespan")
    yield
    print("the app has stopped", flush=True)

app = FastAPI(lifespan=lifespan)

@app.get("/")
async def page():
    return "hello"
"""

MAILING = """
import asyncio
from served import ready, tf
from tenfold import Message, Transaction

@tf.queue.subscriber("user.signed_up", group="mailer", transaction=True, concurrency=1)
async def welcome(message: Message[float], tx: Transaction):
    print("begun", flush=True)
    await asyncio.sleep(message.payload)
    await tx.execute("insert into effect (name) values ($1)", f"{message.payload} {ready[0]}")
"""

PUBLISH = """
insert into tenfold.outbox (id, subject, payload, available_at)
values (gen_random_uuid(), 'user.signed_up', convert_to('{}', 'UTF8'), now() - interval '1 minute')
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    with write_database.running(tmp_path_factory.mktemp("database"), NETWORK) as made:
        yield made


@asynccontextmanager
async def site(
    folder: Path, cluster: postgres_cluster.Cluster, queue: bindings.Queue, mailing: str = MAILING
) -> AsyncIterator[seats.Site]:
    """A site with one worker."""
    await cluster.primary.script("truncate effect, tenfold.outbox, tenfold.delivery, tenfold.subscription")
    wanted = tiers.Topology.model_validate(
        {
            "service": {"name": "shop", "app": "served:app"},
            "database": {"placement": "own"},
            "workers": {"servers": 1, "imports": ["mailing"]},
        }
    )
    (folder / "served.py").write_text(APP)
    (folder / "mailing.py").write_text(mailing)
    made = bindings.Bindings(
        service=bindings.Service(
            name="shop", app="served:app", directory=str(folder), secret=seats.PASSWORDS.signing, request_seconds=5.0
        ),
        database=cluster.bound,
        queue=msgspec.structs.replace(queue, handled_by="workers", imports=("mailing",)),
    )
    files.write_atomically(folder / "bindings.json", bindings.dump(made))
    async with seats.site(folder, wanted, {"worker": granian.WORKER}, NETWORK) as here:
        yield here


async def get(seat: engines.Seat, path: str) -> tuple[int, str]:
    return await admin.get(seat.address, seat.process.port, path)


async def effects(cluster: postgres_cluster.Cluster) -> list[str]:
    found = await cluster.primary.sql("select array_agg(name order by id) from effect", database="shop")
    return found or []


async def publish(cluster: postgres_cluster.Cluster, *payloads: float) -> None:
    for one in payloads:
        await cluster.primary.script(PUBLISH.format(one))


async def test_a_worker_handles_messages_and_finishes_what_it_has_begun_when_it_is_asked_to_end(
    cluster: postgres_cluster.Cluster, tmp_path: Path
) -> None:
    """It serves no pages; the next one takes what it had not begun, at once."""
    async with (
        nats_servers.started(tmp_path / "nats", NETWORK, subnet=8) as servers,
        site(tmp_path, cluster, servers.bound) as here,
    ):
        seat = here.seat("worker-1", "worker")
        identity = await here.start(seat)
        assert (404, "this is a worker: it handles messages and serves no pages\n") == await get(seat, "/")
        assert (200, "live\n") == await get(seat, "/-/live")
        await publish(cluster, 0.0)
        first = ["0.0 the app's lifespan"]

        async def has_handled_one() -> bool:
            return first == await effects(cluster)

        assert await clock.until(has_handled_one, seconds=20), seats.log_of(seat, 1000)
        load = await admin.load(seat)
        assert load is not None
        assert 1 == load["queue"]["handled"]
        assert 0 == load["queue"]["in_flight"]
        assert load["counts"]["queue.handled"] == 1

        await publish(cluster, 1.5, 0.25)

        async def has_begun() -> bool:
            return seats.log_of(seat, 1000).count("begun") == 2

        assert await clock.until(has_begun, seconds=20), seats.log_of(seat, 1000)
        process.send(identity, SIGTERM)
        assert await process.gone(identity, 15)
        assert "the app has stopped" in seats.log_of(seat, 1000)
        assert 2 == len(await effects(cluster))
        await here.start(seat)

        async def has_handled_all() -> bool:
            return len(await effects(cluster)) == 3

        assert await clock.until(has_handled_all, seconds=10), seats.log_of(seat, 1000)


async def test_a_worker_handles_the_databases_queue_too(cluster: postgres_cluster.Cluster, tmp_path: Path) -> None:
    async with site(tmp_path, cluster, bindings.Queue()) as here:
        seat = here.seat("worker-1", "worker")
        await here.start(seat)
        await publish(cluster, 0.0)

        async def has_handled() -> bool:
            return len(await effects(cluster)) == 1

        assert await clock.until(has_handled, seconds=20), seats.log_of(seat, 1000)


async def test_an_import_that_fails_is_named_and_the_worker_ends(
    cluster: postgres_cluster.Cluster, tmp_path: Path
) -> None:
    async with site(
        tmp_path, cluster, bindings.Queue(), mailing="import smtplib\nraise OSError('no mail here')\n"
    ) as here:
        seat = here.seat("worker-1", "worker")
        with pytest.raises(seats.NotReadyError) as raised:
            await here.start(seat)

        assert "tenfold: workers.imports: mailing does not import: OSError: no mail here" in str(raised.value)
        assert 'mailing.py", line 2' in str(raised.value)
