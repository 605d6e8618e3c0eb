# ruff: noqa: PT012 - what is refused at some time is sent in a loop
"""The queue's transport on NATS: real servers, a real database for the outbox."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import nats
import pytest

from support import nats_servers, postgres_cluster, write_database
from tenfold import bindings, errors
from tenfold.kit import clock
from tenfold.sdk.db import primary
from tenfold.sdk.queue import draining, envelopes, messages, transport
from tenfold.sdk.queue.nats import consuming, naming, succession
from tenfold.sdk.queue.nats import transport as carrier

pytestmark = pytest.mark.anyio
NETWORK = 9
STORAGE = 16 * 1024**2


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    with write_database.running(tmp_path_factory.mktemp("database"), NETWORK) as made:
        yield made


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nats_servers.Servers]:
    with nats_servers.running(tmp_path_factory.mktemp("nats"), NETWORK, count=3) as made:
        yield made


@pytest.fixture
async def shards(cluster: postgres_cluster.Cluster) -> AsyncIterator[primary.Shards]:
    await cluster.primary.script(
        "truncate tenfold.outbox, tenfold.delivery, tenfold.subscription, tenfold.dead_letter, tenfold.inbox"
    )
    async with write_database.connected(cluster.bound) as made:
        yield made


def bound(servers: nats_servers.Servers, **changes: object) -> bindings.Queue:
    return msgspec.structs.replace(servers.bound, **{"storage_bytes": STORAGE, **changes})


@asynccontextmanager
async def carrying(
    shards: primary.Shards, servers: nats_servers.Servers, service: str = "", **changes: object
) -> AsyncIterator[carrier.Nats]:
    """A transport of a service of its own."""
    made = carrier.Nats(shards, service or f"shop{secrets.token_hex(4)}")
    await made.start(bound(servers, **changes))
    try:
        yield made
    finally:
        await made.stop()


def message(subject: str = "user.signed_up", payload: object = 7, key: str | None = None) -> messages.Envelope:
    return envelopes.make(subject, payload, key=key, headers=None, source="/test", most_bytes=1024**2)


def group(name: str, subject: str = "user.signed_up", **more: object) -> transport.Subscription:
    return transport.Subscription(name, subject, **more)  # type: ignore[arg-type]


async def taken_of(consumer: transport.Consumer, count: int, seconds: float = 20.0) -> list[messages.Taken]:
    """So many messages of a consumer."""
    found: list[messages.Taken] = []
    async with asyncio.timeout(seconds):
        while len(found) < count:
            found += await consumer.take(count - len(found))
    return found


def payloads(found: Sequence[messages.Taken]) -> list[object]:
    return [msgspec.json.decode(one.envelope.payload) for one in found]


async def until_empty(queue: carrier.Nats) -> None:
    """Until the servers hold nothing for any group."""

    async def look() -> bool:
        stream = await queue._streams.info()
        holds = any(one.waiting or one.in_flight for one in await queue.figures())
        return not holds and stream is not None and stream["state"]["messages"] == 0

    assert await clock.until(look, seconds=20), await queue.figures()


async def test_each_group_gets_each_message_and_order_is_kept_where_it_is_asked_for(
    shards: primary.Shards, servers: nats_servers.Servers
) -> None:
    """Also: what was made for a group stays when its process is gone; attempts are counted; headers survive."""
    async with carrying(shards, servers) as queue:
        mailer, stock = group("mailer"), group("stock", "user.*", is_ordered=True, prefetch=32)
        await queue.subscribe([mailer, stock])
        await queue.subscribe([mailer, stock])
        sent = [message(payload=number, key=f"k{number % 3}é %") for number in range(30)]
        await queue.send(sent)
        await queue.send(sent[:5])  # again: the stream knows them

        first, second = queue.consume(mailer), queue.consume(stock)
        found = await taken_of(first, 30)
        assert list(range(30)) == payloads(found)
        assert [one.headers for one in sent] == [one.envelope.headers for one in found]
        assert [one.key for one in sent] == [one.envelope.key for one in found]
        assert [one.id for one in sent] == [one.envelope.id for one in found]
        for one in found[1:]:
            first.acknowledge(one)
        first.give_back(found[0], 0.3)
        again = (await taken_of(first, 1))[0]
        assert (found[0].envelope.id, 2) == (again.envelope.id, again.attempt)
        first.acknowledge(again)

        seen: dict[str | None, list[object]] = {}
        held = False
        while sum(len(one) for one in seen.values()) < 30:
            for one in await taken_of(second, 1):
                if one.envelope.key == "k1é %" and not held:
                    held = True
                    second.give_back(one, 0.3)  # those behind it wait for it
                    continue
                seen.setdefault(one.envelope.key, []).extend(payloads([one]))
                second.acknowledge(one)
        assert {f"k{key}é %": list(range(key, 30, 3)) for key in range(3)} == seen
        await until_empty(queue)
        assert [("mailer", "user.signed_up"), ("stock", "user.*")] == [
            (one.group, one.subject) for one in await queue.figures()
        ]
        await first.close()
        await second.close()


async def test_a_group_that_was_forgotten_keeps_no_messages(
    shards: primary.Shards, servers: nats_servers.Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with carrying(shards, servers, "forgetful") as before:
        await before.subscribe([group("mailer"), group("gone")])
        await before.send([message()])
    monkeypatch.setattr(succession, "STRANGE_SECONDS", 0.0)
    async with carrying(shards, servers, "forgetful") as queue:
        await queue.subscribe([group("mailer")])

        assert [("mailer", 1)] == [(one.group, one.waiting) for one in await queue.figures()]


async def test_what_a_process_leaves_is_given_back_at_once(
    shards: primary.Shards, servers: nats_servers.Servers
) -> None:
    async with carrying(shards, servers) as queue:
        mailer = group("mailer", prefetch=10)
        await queue.subscribe([mailer])
        consumer = queue.consume(mailer)
        await queue.send([message(payload=number) for number in range(10)])
        assert isinstance(consumer, consuming.Consuming)
        held = await taken_of(consumer, 2)
        assert await clock.until(lambda: asyncio.sleep(0, consumer.ready == 8), seconds=20)
        consumer.give_back(held[1], 0)
        consumer.acknowledge(held[0])
        await consumer.close()

        other = queue.consume(mailer)

        found = await taken_of(other, 9, seconds=succession.ACK_SECONDS / 2)
        assert set(range(10)) - {0} == set(payloads(found))
        for one in found:
            other.acknowledge(one)
        await until_empty(queue)
        await other.close()


async def test_a_full_storage_refuses_and_goes_on_when_there_is_room(
    shards: primary.Shards, servers: nats_servers.Servers
) -> None:
    async with carrying(shards, servers, storage_bytes=2 * 1024**2) as queue:
        mailer = group("mailer")
        await queue.subscribe([mailer])
        large = "x" * 100_000
        sent = 0
        with pytest.raises(errors.Overloaded, match="storage is full"):
            for _ in range(40):
                await queue.send([message(payload=large)])
                sent += 1
        assert sent > 10

        consumer = queue.consume(mailer)
        for one in await taken_of(consumer, sent):
            consumer.acknowledge(one)
        await until_empty(queue)
        await queue.send([message(payload=large)])
        assert [large] == payloads(await taken_of(consumer, 1))
        await consumer.close()


async def test_storage_that_the_servers_have_not_got_yet_stops_nobody(
    shards: primary.Shards, servers: nats_servers.Servers
) -> None:
    """`queue.storage` is raised: the app hears of it before the servers are restarted with it."""
    async with carrying(shards, servers) as queue:
        mailer = group("mailer")
        await queue.subscribe([mailer])
        queue.update(bound(servers, storage_bytes=2**50))

        await queue.send([message(payload=1)])

        consumer = queue.consume(mailer)
        found = await taken_of(consumer, 1)
        consumer.acknowledge(found[0])
        await until_empty(queue)
        await consumer.close()


async def test_what_other_clients_publish_to_our_subjects_is_a_message_too(
    shards: primary.Shards, servers: nats_servers.Servers
) -> None:
    """Its id stays the same for every try, so that it is handled, or dead, once."""
    async with carrying(shards, servers, "strangers") as queue:
        mailer = group("mailer")
        await queue.subscribe([mailer])
        consumer = queue.consume(mailer)
        stranger = await nats.connect(servers.urls, user=nats_servers.USER, password=nats_servers.PASSWORD)
        await stranger.jetstream().publish("tenfold.strangers.77.user.signed_up", b"\xff\x00 no JSON")
        await stranger.jetstream().publish(
            "tenfold.strangers.00.user.signed_up", b"{}", headers={"ce-id": "no uuid", "X-Of-Theirs": "ü"}
        )
        await stranger.close()

        first = await taken_of(consumer, 2)
        assert [b"\xff\x00 no JSON", b"{}"] == [one.envelope.payload for one in first]
        assert ["user.signed_up"] * 2 == [one.envelope.subject for one in first]
        for one in first:
            consumer.give_back(one, 0)
        second = await taken_of(consumer, 2)
        assert {one.envelope.id for one in first} == {one.envelope.id for one in second}
        await consumer.close()


async def test_the_outbox_is_passed_on_and_what_is_too_large_goes_by_the_database(
    shards: primary.Shards, servers: nats_servers.Servers, cluster: postgres_cluster.Cluster
) -> None:
    async with carrying(shards, servers) as queue:
        mailer = group("mailer")
        await queue.subscribe([mailer])
        await cluster.primary.script(
            "insert into tenfold.subscription (group_name, subject) values ('mailer', 'user.signed_up');"
            "insert into tenfold.outbox (id, subject, payload, available_at) values"
            " (gen_random_uuid(), 'user.signed_up', '7', now() - interval '1 minute'),"
            " (gen_random_uuid(), 'user.signed_up', repeat('9', 1200000)::bytea, now() - interval '1 minute'),"
            " (gen_random_uuid(), 'user.signed_up', '8', now() + interval '1 minute')"
        )
        assert await queue.pass_on([], 10) == 2

        consumer = queue.consume(mailer)
        assert [7] == payloads(await taken_of(consumer, 1))
        assert await cluster.primary.sql("select count(*) from tenfold.outbox", database="shop") == 1
        assert (
            await cluster.primary.sql("select octet_length(payload) from tenfold.delivery", database="shop") == 1200000
        )
        with pytest.raises(errors.TooLarge, match="at most 1114112 together"):
            await queue.send([msgspec.structs.replace(message(), payload=b"9" * 1_200_000)])
        await consumer.close()


async def test_a_late_retry_waits_in_the_database(
    shards: primary.Shards, servers: nats_servers.Servers, cluster: postgres_cluster.Cluster
) -> None:
    async with carrying(shards, servers) as queue:
        mailer = group("mailer")
        await queue.subscribe([mailer])
        consumer = queue.consume(mailer)
        await queue.send([message()])
        one = (await taken_of(consumer, 1))[0]
        consumer.give_back(one, 3600)
        await consumer.settled()
        await until_empty(queue)
        kept = await cluster.primary.sql(
            "select (id, attempt, available_at > now() + interval '59 minutes')::text from tenfold.delivery",
            database="shop",
        )
        assert f"({one.envelope.id},1,t)" == kept
        await consumer.close()


async def test_everything_starts_before_the_servers_do_and_outlives_their_death(
    shards: primary.Shards, tmp_path: object, cluster: postgres_cluster.Cluster
) -> None:
    """A consumer whose servers all died, and one whose servers lost everything, go on by themselves."""
    async with nats_servers.started(tmp_path, NETWORK, count=1, subnet=6) as servers:  # type: ignore[arg-type]
        await servers.kill()
        mailer = group("mailer")
        async with carrying(shards, servers, "survivor") as queue:
            consumer = queue.consume(mailer)
            with pytest.raises(errors.StoreUnavailable):
                await queue.send([message()])
            await servers.restart()
            await sent(queue, [message(payload=1)])
            one = (await taken_of(consumer, 1))[0]
            await servers.kill()
            consumer.acknowledge(one)  # while nobody hears it
            await servers.restart()
            await sent(queue, [message(payload=2)])
            while True:  # a server that lost its power may not know any more what it had delivered
                found = await taken_of(consumer, 1)
                consumer.acknowledge(found[0])
                if payloads(found) == [2]:
                    break
            await until_empty(queue)

            await servers.stop()  # with everything that it kept
            await servers.restart()
            await sent(queue, [message(payload=3)])
            assert [3] == payloads(await taken_of(consumer, 1))
            await consumer.close()


async def test_a_consumer_notices_that_its_leader_died_while_its_own_connection_stands(
    shards: primary.Shards, servers: nats_servers.Servers
) -> None:
    """The request for messages died with the leader, and nobody says so: only the heartbeats are missing."""
    async with carrying(shards, servers, "silent") as queue:
        await queue.subscribe([group("mailer")])
        consumers = await queue._streams.consumers()
    leader = servers.server(consumers[0]["cluster"]["leader"])
    others = tuple(one.node for one in servers.servers if one is not leader)
    async with carrying(shards, servers, "silent", nodes=others) as queue:
        consumer = queue.consume(group("mailer"))
        await queue.send([message(payload=1)])
        for one in await taken_of(consumer, 1):
            consumer.acknowledge(one)
        await leader.kill()
        try:
            await sent(queue, [message(payload=2)])
            while payloads(found := await taken_of(consumer, 1, seconds=60)) != [2]:
                consumer.acknowledge(found[0])
        finally:
            await servers.restart(leader)
        await consumer.close()


async def sent(queue: carrier.Nats, batch: Sequence[messages.Envelope]) -> None:
    """Send until it is taken, as the relay does."""

    async def attempt() -> bool:
        try:
            await queue.send(batch)
        except errors.StoreUnavailable as error:
            seen.append(str(error))
            return False
        return True

    seen: list[str] = []
    assert await clock.until(attempt, seconds=30), seen


async def test_a_group_that_begins_or_ceases_to_keep_order_gets_what_waited_for_it(
    shards: primary.Shards, servers: nats_servers.Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a lane that a drain has renamed is read again under its own name; whoever was replaced goes."""
    service = f"flip{secrets.token_hex(4)}"
    free, strict = group("mailer"), group("mailer", is_ordered=True)
    async with carrying(shards, servers, service) as queue:
        await queue.subscribe([free])
        await queue.send([message(payload=number, key=f"k{number}") for number in range(8)])
        first = queue.consume(free)
        for one in await taken_of(first, 3):
            first.acknowledge(one)
        await first.settled()
        await first.close()
    async with carrying(shards, servers, service) as queue:
        await queue.subscribe([strict])
        await queue.send([message(payload=8, key="k0")])
        for lane in await queue._streams.consumers():
            if lane["name"].endswith("-07"):
                await queue._streams.restart(lane)
        await queue.subscribe([strict])
        monkeypatch.setattr(succession, "STRANGE_SECONDS", 0.0)
        expected = {one.name for one in queue._names.consumers(naming.Group("mailer", free.subject, True))}

        async def has_gone() -> bool:
            """The servers count the requests of a connection that has ended for a moment yet."""
            await queue.subscribe([strict])
            return {one["name"] for one in await queue._streams.consumers()} == expected

        assert await clock.until(has_gone, seconds=20), await queue._streams.consumers()
        lanes = queue.consume(strict)
        seen: list[object] = []
        while len(seen) < 6:
            for one in await taken_of(lanes, 1):
                seen += payloads([one])
                lanes.acknowledge(one)
        assert [3, 4, 5, 6, 7, 8] == sorted(seen)  # type: ignore[type-var]
        await lanes.settled()
        await lanes.close()
        await until_empty(queue)
        await queue.send([message(payload=9, key="k1")])
    async with carrying(shards, servers, service) as queue:
        await queue.subscribe([free])
        assert [9] == payloads(await taken_of(queue.consume(free), 1))


async def test_what_is_left_moves_into_the_database_once(
    shards: primary.Shards, servers: nats_servers.Servers, cluster: postgres_cluster.Cluster
) -> None:
    """Waiting, held by a worker, given back for later, at the head of a lane for an hour; twice moves nothing more."""
    async with carrying(shards, servers, "leaver") as queue, carrying(shards, servers, "leaver") as unaware:
        mailer, stock = group("mailer", prefetch=3), group("stock", is_ordered=True)
        await queue.subscribe([mailer, stock])
        await queue.send([message(payload=number, key="k") for number in range(20)])
        first, second = queue.consume(mailer), queue.consume(stock)
        held = await taken_of(first, 3)
        head = await taken_of(second, 1)
        second.give_back(head[0], 3600)
        first.give_back(held[0], 1)
        first.acknowledge(held[1])
        queue.update(bound(servers, transport="postgres", former="nats"))
        draining_now = asyncio.create_task(draining.drain(cluster.bound, bound(servers), "leaver", 8))
        late = 0
        with pytest.raises(errors.StoreUnavailable):
            async with asyncio.timeout(30):
                while True:
                    await queue.send([message(payload=-1)])
                    late += 1
        await asyncio.sleep(1)
        first.give_back(held[2], 0)
        await first.close()
        await second.close()

        assert draining.Drained(19 + 20 + 2 * late, 0) == await draining_now
        assert draining.Drained(0, 0) == await draining.drain(cluster.bound, bound(servers), "leaver", 8)
        rows = (
            "select array_agg(convert_from(payload, 'UTF8')::int order by number) from tenfold.delivery"
            " where payload <> '-1' and group_name ="
        )
        assert sorted(set(range(20)) - {1}) == sorted(await cluster.primary.sql(f"{rows} 'mailer'", database="shop"))
        assert list(range(20)) == await cluster.primary.sql(f"{rows} 'stock'", database="shop")
        with pytest.raises(errors.StoreUnavailable):  # it has not heard, and must not open what was shut
            await unaware.send([message(payload="late")])

        queue.update(bound(servers))
        await queue.send([message(payload="again")])
        again = queue.consume(mailer)
        assert ["again"] == payloads(await taken_of(again, 1))
        await again.close()
