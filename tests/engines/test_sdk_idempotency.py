"""`tf.db.run` under an `Idempotency-Key` on a real PostgreSQL: once, whoever repeats it and whenever."""

import asyncio
import datetime
import decimal
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from support import postgres_cluster, write_database
from tenfold import errors, request
from tenfold.sdk.db import primary, run, tokens, transaction

pytestmark = pytest.mark.anyio
NETWORK = 62


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    with write_database.running(tmp_path_factory.mktemp("keys"), NETWORK) as made:
        yield made


@pytest.fixture
async def shards(cluster: postgres_cluster.Cluster) -> AsyncIterator[primary.Shards]:
    await cluster.primary.script("truncate effect; truncate account; truncate tenfold.commit")
    async with write_database.connected(cluster.bound) as made:
        yield made


@dataclass
class Order:
    """What a handler may return."""

    id: uuid.UUID
    at: datetime.datetime
    total: decimal.Decimal


ORDER = Order(uuid.UUID(int=7), datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), decimal.Decimal("12.50"))


async def count(cluster: postgres_cluster.Cluster) -> int:
    found: int = await cluster.primary.sql("select count(*) from effect", database="shop")
    return found


def serving(key: str = "k", body: bytes = b"body", deadline: float | None = None, scope: str = "POST / ada") -> Any:
    return request.serving(request.Request(idempotency=request.IdempotencyKey(scope, key, body), deadline=deadline))


async def effect(tx: transaction.Transaction, name: str) -> dict[str, Any]:
    number = await tx.fetchval("insert into effect (name) values ($1) returning id", name)
    return {"id": number, "name": name}


async def test_a_repeat_gets_the_first_result_and_the_position(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    with serving() as first:
        made = await run.run(shards, effect, ("one",))
    with serving() as repeat:
        again = await run.run(shards, effect, ("one",))

    assert made == again
    assert 1 == await count(cluster)
    assert repeat.has_written
    assert repeat.seen[0].lsn >= first.seen[0].lsn


async def test_each_run_of_a_request_has_its_own_result(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    async def handler() -> list[dict[str, Any]]:
        with serving():
            return [await run.run(shards, effect, (name,)) for name in ("one", "two")]

    assert await handler() == await handler()
    assert 2 == await count(cluster)


async def test_concurrent_duplicates_wait_for_the_first(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    started, may_end = asyncio.Event(), asyncio.Event()

    async def slow(tx: transaction.Transaction) -> int:
        started.set()
        await may_end.wait()
        return int((await effect(tx, "one"))["id"])

    async def handler() -> int:
        with serving():
            return int(await run.run(shards, slow))

    first = asyncio.ensure_future(handler())
    await started.wait()
    others = [asyncio.ensure_future(handler()) for _ in range(4)]
    await asyncio.wait(others, timeout=0.2)
    assert not any(one.done() for one in others)
    may_end.set()

    assert 1 == len({await first, *await asyncio.gather(*others)})
    assert 1 == await count(cluster)


async def test_a_duplicate_takes_over_when_the_first_fails(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    started, may_end = asyncio.Event(), asyncio.Event()

    async def failing(tx: transaction.Transaction) -> None:
        await effect(tx, "failed")
        started.set()
        await may_end.wait()
        raise RuntimeError("flawed")

    async def handler(fn: Any, *args: Any) -> Any:
        with serving():
            return await run.run(shards, fn, args)

    first = asyncio.ensure_future(handler(failing))
    await started.wait()
    second = asyncio.ensure_future(handler(effect, "one"))
    await asyncio.wait([second], timeout=0.1)
    may_end.set()

    with pytest.raises(RuntimeError):
        await first
    assert "one" == (await second)["name"]
    assert 1 == await count(cluster)


async def test_a_duplicate_that_waited_to_its_deadline_is_told_so(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    async def slow(tx: transaction.Transaction) -> dict[str, Any]:
        with serving(deadline=asyncio.get_running_loop().time() + 0.3):
            with pytest.raises(errors.KeyInUse, match="still running") as caught:
                await asyncio.create_task(run.run(shards, effect, ("one",)))
            assert 409 == caught.value.status
        return await effect(tx, "one")

    with serving():
        await run.run(shards, slow)

    assert 1 == await count(cluster)


async def test_another_body_under_the_same_key_is_refused(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    with serving(body=b"one"):
        await run.run(shards, effect, ("one",))
    with serving(body=b"two"), pytest.raises(errors.KeyReused, match="another request") as caught:
        await run.run(shards, effect, ("two",))
    with serving(body=b"two", scope="POST / bob"):
        await run.run(shards, effect, ("two",))

    assert 422 == caught.value.status
    assert 2 == await count(cluster)


async def test_a_result_comes_back_as_the_annotation_says_both_times(shards: primary.Shards) -> None:
    async def annotated(tx: transaction.Transaction) -> Order:
        return ORDER

    async def plain(tx: transaction.Transaction):  # type: ignore[no-untyped-def]
        return await tx.fetch("select $1::uuid as id, $2::numeric as total", ORDER.id, ORDER.total), ORDER.at

    for _ in range(2):
        with serving("annotated"):
            assert ORDER == await run.run(shards, annotated)
        with serving("plain"):
            assert [[{"id": str(ORDER.id), "total": "12.50"}], "2026-01-02T03:04:05Z"] == await run.run(shards, plain)


async def test_a_result_that_cannot_be_kept_is_an_error_before_the_commit(
    cluster: postgres_cluster.Cluster, shards: primary.Shards
) -> None:
    async def returns_an_object(tx: transaction.Transaction) -> object:
        await effect(tx, "one")
        return object()

    with serving(), pytest.raises(errors.NotStorable, match="object is no JSON"):
        await run.run(shards, returns_an_object)

    assert 0 == await count(cluster)


async def test_a_voided_key_can_be_used_again(cluster: postgres_cluster.Cluster, shards: primary.Shards) -> None:
    token = tokens.of_key(request.IdempotencyKey("POST / ada", "k", b"body"), 0)
    await cluster.primary.sql(tokens.LOOK, token.id, database="shop")

    for _ in range(2):
        with serving():
            await run.run(shards, effect, ("one",), options=transaction.Options(isolation="serializable"))

    assert 1 == await count(cluster)
