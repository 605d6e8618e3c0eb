"""`tenfold queue` on a real PostgreSQL, without any runtime: what waits, what is dead, again, away with it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from support import postgres_cluster, write_database
from tenfold import Message, bindings, cli
from tenfold.kit import clock
from tenfold.runtime import paths
from tenfold.sdk import db
from tenfold.sdk.queue import queue

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    with write_database.running(tmp_path_factory.mktemp("queue"), 67) as made:
        yield made


@pytest.fixture
def project(cluster: postgres_cluster.Cluster, tmp_path: Path) -> Path:
    """A project whose service has this database, and no runtime."""
    where = paths.Paths(tmp_path / "tenfold.toml")
    where.topology.write_text('[service]\nname = "shop"\napp = "web:app"\n')
    where.bindings.parent.mkdir()
    told = bindings.Bindings(service=bindings.Service(name="shop"), database=cluster.bound)
    where.bindings.write_bytes(bindings.dump(told))
    return where.topology


@pytest.fixture
async def tf_queue(cluster: postgres_cluster.Cluster) -> AsyncIterator[queue.Queue]:
    database = db.Database()
    await database.start(cluster.bound)
    made = queue.Queue(database)

    @made.subscriber("mail.wanted", group="mailer", retries=0)
    async def mail(message: Message[int]) -> None:
        if FAILS:
            raise ConnectionError("no mail server")

    await made.start(bindings.Queue())
    try:
        yield made
    finally:
        await made.stop()
        await database.stop()


FAILS: list[bool] = []


async def said(project: Path, *words: str) -> Result:
    """What `tenfold queue` says."""
    arguments = ["--file", str(project), "queue", *words]
    return await asyncio.to_thread(CliRunner().invoke, cli.group, arguments)


async def as_json(project: Path, *words: str) -> Any:
    answer = await said(project, *words, "--json")
    assert 0 == answer.exit_code, answer.output
    return json.loads(answer.output)


async def test_dead_letters_are_shown_replayed_and_discarded(project: Path, tf_queue: queue.Queue) -> None:
    FAILS.append(True)
    for number in range(3):
        await tf_queue.publish("mail.wanted", number)

    async def are_dead() -> bool:
        return bool((await as_json(project))["groups"][0]["dead"] == 3)

    assert await clock.until(are_dead, seconds=30)
    overview = await as_json(project)
    assert ("postgres", 0) == (overview["transport"], overview["outbox"])
    assert ("mailer", "mail.wanted", 0) == tuple(
        overview["groups"][0][name] for name in ("group", "subject", "waiting")
    )
    found = (await as_json(project, "dead", "mailer"))["dead_letters"]
    assert ["ConnectionError: no mail server"] * 3 == [one["reason"] for one in found]
    assert "ConnectionError" in (await said(project, "dead")).output
    assert [] == (await as_json(project, "dead", "nobody"))["dead_letters"]
    shown = (await as_json(project, "show", found[0]["id"]))["dead_letters"][0]
    assert shown["payload"] in (0, 1, 2)
    assert "mail.wanted" == shown["headers"]["ce-type"]

    FAILS.clear()
    assert "1 to be tried again" in (await said(project, "replay", found[0]["id"])).output
    assert "1 deleted" in (await said(project, "discard", found[1]["id"], "--yes")).output
    assert "1 to be tried again" in (await said(project, "replay", "--all", "mailer")).output

    async def is_done() -> bool:
        group = (await as_json(project))["groups"][0]
        return bool(0 == group["dead"] == group["waiting"] == group["in_flight"])

    assert await clock.until(is_done, seconds=30)
    again = await said(project, "replay", found[0]["id"])
    assert (1, True) == (again.exit_code, "no such dead letter" in str(again.exception))
    assert "expected" in str((await said(project, "discard", "--yes")).exception)
    assert "gets no more messages" in (await said(project, "forget", "mailer", "--yes")).output
    assert [] == (await as_json(project))["groups"]
    assert "No group has subscribed" in (await said(project)).output


async def test_without_its_queue_servers_it_shows_what_the_database_knows(
    project: Path, cluster: postgres_cluster.Cluster, tf_queue: queue.Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenfold.sdk.queue.nats.publishing.SEND_SECONDS", 0.2)
    FAILS.append(True)
    await tf_queue.publish("mail.wanted", 1)
    where = paths.Paths(project)
    gone = bindings.Queue(transport="nats", nodes=(bindings.QueueNode(name="queue-1", host="127.67.99.99"),))
    told = bindings.Bindings(service=bindings.Service(name="shop"), database=cluster.bound, queue=gone)
    where.bindings.write_bytes(bindings.dump(told))

    async def is_dead() -> bool:
        return bool((await as_json(project))["groups"][0]["dead"])

    assert await clock.until(is_dead, seconds=30), "the dead letters are in the database"
    FAILS.clear()
    found = await as_json(project)
    assert ("nats", "mailer") == (found["transport"], found["groups"][0]["group"])
    assert "NATS servers" in found["missing"]
    output = (await said(project)).output
    assert "What waits on the queue servers is not counted" in output
    assert "mailer" in output


async def test_a_database_that_is_away_is_said_plainly(
    project: Path, cluster: postgres_cluster.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenfold.sdk.queue.store.SECONDS", 0.2)
    where = paths.Paths(project)
    nobody = bindings.Shard(nodes=(bindings.DatabaseNode(name="gone", host="127.8.99.99"),))
    gone = bindings.Database(shards=(nobody,), name="shop", user="app", password="")
    where.bindings.write_bytes(bindings.dump(bindings.Bindings(service=bindings.Service(name="shop"), database=gone)))
    answer = await said(project)
    assert 1 == answer.exit_code
    assert "the database did not answer" in str(answer.exception)
    assert "tenfold status" in str(answer.exception)
