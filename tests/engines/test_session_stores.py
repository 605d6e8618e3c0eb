"""What every store of sessions promises, held against each of them: on a real PostgreSQL with a replica, and a real
Valkey cluster."""

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg
import pytest

from support import postgres_cluster, valkey_servers, write_database
from tenfold import bindings, errors
from tenfold.kit import clock
from tenfold.sdk import counters, db
from tenfold.sdk.sessions import cached, database, memory, moving, records, sealed, sealing, stores
from tenfold.sdk.tokens import revocations
from tenfold.sdk.valkey import assured, client

pytestmark = pytest.mark.anyio

NETWORK = 7
ON_SERVERS = ("database", "cache", "memory")
ALL = (*ON_SERVERS, "token")
SEAL = sealing.Seal(["ab" * 32], "shop")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    with write_database.running(tmp_path_factory.mktemp("pg"), NETWORK, replicas=1) as made:
        yield made


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[valkey_servers.Servers]:
    with valkey_servers.running(tmp_path_factory.mktemp("cache"), network=NETWORK, primaries=3) as made:
        yield made


@pytest.fixture
async def every(
    cluster: postgres_cluster.Cluster, servers: valkey_servers.Servers
) -> AsyncIterator[dict[str, stores.Store]]:
    """All stores, connected."""
    reading, cache = db.Database(), client.Client()
    await reading.start(cluster.bound)
    await cache.start(servers.bound)

    async def is_whole() -> bool:
        return cache.is_whole

    try:
        assert await clock.until(is_whole, seconds=20, pause_seconds=0.01)
        revoked = revocations.Revocations(reading, cache)
        yield {
            "database": database.DatabaseStore(reading),
            "cache": cached.CachedStore(cache),
            "memory": memory.MemoryStore(),
            "token": sealed.SealedStore(lambda: SEAL, revoked, lambda: 3600.0),
        }
    finally:
        await cache.stop()
        await reading.stop()


def now() -> float:
    return round(time.time(), 3)


def record(life: float = 3600.0, principal: str | None = None, **fields: str) -> records.Record:
    return records.Record(fields, principal, now(), now(), now() + life)


class Visitor:
    """Somebody with a cookie, who does what `visits` does."""

    def __init__(self, store: stores.Store) -> None:
        self.store = store
        self.id = records.new_id()
        self.cookie = ""

    async def begin(self, first: records.Record) -> bool:
        self.cookie = self.store.cookie(self.id, first)
        return await self.store.create(self.id, first, is_precious=True)

    async def load(self, at: float = 0.0) -> records.Record | None:
        return await self.store.load(self.ticket, at or now())

    async def change(self, **put: str) -> bool:
        before = await self.load()
        changes = records.Changes(put)
        if before is None or not await self.store.change(self.id, changes, now(), now() + 3600.0):
            return False
        self.cookie = self.store.cookie(self.id, replace(before, fields=changes.onto(before.fields)))
        return True

    @property
    def ticket(self) -> records.Ticket:
        found = SEAL.open(self.cookie) if self.store.is_in_cookie else records.Ticket(self.id)
        assert found is not None
        return found


@pytest.mark.parametrize("name", ALL)
async def test_a_session_comes_back_as_it_was_kept(every: dict[str, stores.Store], name: str) -> None:
    visitor = Visitor(every[name])
    first = record(principal="user-7", cart='[{"b": 1, "a": "\\u0000é"}]', empty='""', number="1.0")

    assert await visitor.begin(first)
    assert first == await visitor.load()
    assert await visitor.change(cart="[]", more="true")

    found = await visitor.load()
    assert found is not None
    assert {"cart": "[]", "empty": '""', "number": "1.0", "more": "true"} == found.fields
    assert "user-7" == found.principal
    assert await every[name].load(records.Ticket(records.new_id()), now()) is None


@pytest.mark.parametrize("name", ON_SERVERS)
async def test_ten_at_once_lose_none_of_their_fields(every: dict[str, stores.Store], name: str) -> None:
    visitor, store = Visitor(every[name]), every[name]
    await visitor.begin(record(old="1"))

    at = now()
    changes = [records.Changes({f"field-{number}": str(number)}) for number in range(9)]
    changes.append(records.Changes({}, frozenset({"old"})))
    done = await asyncio.gather(*(store.change(visitor.id, one, at, at + 3600) for one in changes))

    found = await visitor.load()
    assert [True] * 10 == done
    assert found is not None
    assert {f"field-{number}": str(number) for number in range(9)} == found.fields


@pytest.mark.parametrize("name", ALL)
async def test_nothing_brings_a_session_back_that_is_over(every: dict[str, stores.Store], name: str) -> None:
    visitor, store = Visitor(every[name]), every[name]
    first = record(principal="user-7", a="1")
    await visitor.begin(first)

    await store.end(visitor.id, now())
    await store.end(visitor.id, now())

    at = now()
    later = records.Changes({"a": "2"})
    if not store.is_in_cookie:
        assert not await store.change(visitor.id, later, at, at + 3600)
        assert not await store.create(visitor.id, record(a="3"), is_precious=True)
    assert not await store.adopt(visitor.id, replace(first, changed_at=at + 60))
    assert not await store.rotate(visitor.id, records.new_id(), record(a="4"), later)
    found = await visitor.load()
    assert found is None or found.is_over
    assert found is None or not found.fields


@pytest.mark.parametrize("name", ON_SERVERS)
async def test_what_others_have_changed_meanwhile_is_there_under_the_new_id_too(
    every: dict[str, stores.Store], name: str
) -> None:
    visitor, store = Visitor(every[name]), every[name]
    await visitor.begin(record(a="1", b="2", c="3"))
    at, new = now(), records.new_id()
    assert await store.change(visitor.id, records.Changes({"b": "5", "d": "4"}, frozenset({"c"})), at, at + 3600)

    mine = records.Changes({"a": "6"})
    assert await store.rotate(visitor.id, new, record(principal="user-7", a="6", b="2", c="3"), mine)

    found = await store.load(records.Ticket(new), now())
    assert found is not None
    assert ({"a": "6", "b": "5", "d": "4"}, "user-7") == (found.fields, found.principal)


@pytest.mark.parametrize("name", ALL)
async def test_of_ten_who_change_an_id_at_once_one_succeeds(every: dict[str, stores.Store], name: str) -> None:
    visitor, store = Visitor(every[name]), every[name]
    await visitor.begin(record(a="1", b="2"))
    new = [records.new_id() for _ in range(10)]
    after = record(principal="user-7", a="5", b="2")

    won = await asyncio.gather(*(store.rotate(visitor.id, one, after, records.Changes({"a": "5"})) for one in new))

    assert 1 == sum(won)
    old = await visitor.load()
    assert old is None or old.is_over
    if not store.is_in_cookie:
        assert not await store.rotate(records.new_id(), records.new_id(), after, records.Changes()), "there was none"
        found = [await store.load(records.Ticket(one), now()) for one in new]
        (living,) = [one for one in found if one is not None]
        assert won == [one is not None for one in found]
        assert ({"a": "5", "b": "2"}, "user-7") == (living.fields, living.principal)


async def test_of_two_who_change_an_id_at_the_same_moment_one_succeeds_in_the_database(
    every: dict[str, stores.Store], cluster: postgres_cluster.Cluster
) -> None:
    """Both have looked before either has changed anything: a lock makes sure of that."""
    visitor, store = Visitor(every["database"]), every["database"]
    await visitor.begin(record(a="1"))
    where = cluster.primary
    holder = await asyncpg.connect(host=where.host, port=where.port, user="postgres", database="shop")
    try:
        await holder.execute("begin")
        await holder.execute("select from tenfold.session where id = $1 for update", visitor.id.digest)
        both = [
            asyncio.ensure_future(store.rotate(visitor.id, records.new_id(), record(a="1"), records.Changes()))
            for _ in range(2)
        ]

        async def wait() -> bool:
            waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%closed%'"
            return bool(await where.sql(waiting) == 2)

        assert await clock.until(wait, seconds=20, pause_seconds=0.01)
        await holder.execute("rollback")
        assert [False, True] == sorted(await asyncio.gather(*both))
    finally:
        await holder.close()


@pytest.mark.parametrize("name", ALL)
async def test_a_session_that_has_expired_is_none(every: dict[str, stores.Store], name: str) -> None:
    visitor, store = Visitor(every[name]), every[name]
    await visitor.begin(record(life=0.3, a="1"))

    async def is_gone() -> bool:
        return await visitor.load() is None

    assert await clock.until(is_gone, seconds=10, pause_seconds=0.02)
    if not store.is_in_cookie:
        assert not await store.change(visitor.id, records.Changes({"a": "2"}), now(), now() + 3600)
        assert await visitor.load() is None


@pytest.mark.parametrize("name", ON_SERVERS)
async def test_of_two_copies_the_one_that_changed_later_is_the_session(
    every: dict[str, stores.Store], name: str
) -> None:
    visitor, store = Visitor(every[name]), every[name]
    first = record(a="1")
    await visitor.begin(first)

    assert not await store.adopt(visitor.id, first)
    assert not await store.adopt(visitor.id, replace(first, changed_at=first.changed_at - 60, fields={"a": "0"}))
    assert first == await visitor.load()
    newer = replace(first, changed_at=round(first.changed_at + 0.001, 3), fields={"b": "2"}, principal="user-7")
    assert await store.adopt(visitor.id, newer)
    assert newer == await visitor.load()
    await store.forget(visitor.id)
    assert await visitor.load() is None
    assert await store.adopt(visitor.id, first)
    assert first == await visitor.load()


@pytest.mark.parametrize("name", ON_SERVERS[:2])
async def test_what_cannot_be_read_is_no_session_and_is_counted(
    every: dict[str, stores.Store], name: str, cluster: postgres_cluster.Cluster, servers: valkey_servers.Servers
) -> None:
    visitor, other = Visitor(every[name]), Visitor(every[name])
    for one in (visitor, other):
        await one.begin(record(a="1"))
    before = counters.reading().get("sessions.corrupted", 0)

    if name == "database":
        spoilt = "update tenfold.session set fields = '[7]' where id in ($1, $2)"
        await cluster.primary.sql(spoilt, visitor.id.digest, other.id.digest, database=postgres_cluster.DATABASE)
        await cluster.until_caught_up()
    else:
        where = cached.key(visitor.id.digest)
        await (await servers.primary_of(where)).ask("HSET", where, "@", "{")
        where = cached.key(other.id.digest)
        owner = await servers.primary_of(where)
        await owner.ask("DEL", where)
        await owner.ask("SET", where, "no hash")

    assert await visitor.load() is None
    assert await other.load() is None
    assert before + 2 == counters.reading()["sessions.corrupted"]


async def test_a_full_cache_forgets_entries_and_no_session(
    every: dict[str, stores.Store], servers: valkey_servers.Servers
) -> None:
    visitor = Visitor(every["cache"])
    await visitor.begin(record(a="1"))
    where = cached.key(visitor.id.digest)
    owner = await servers.primary_of(where)
    tag = await _tag_of(owner, where)
    before = (await owner.ask("CONFIG", "GET", "maxmemory"))[1]

    used = re.search(r"used_memory:(\d+)", await owner.ask("INFO", "memory"))
    assert used is not None
    await owner.ask("CONFIG", "SET", "maxmemory", str(int(used[1]) + 24 * 1024**2))
    try:
        for number in range(200):  # more than there is room for
            await owner.ask("SET", f"{{{tag}}}-{number}", "x" * 250_000, "EX", 1000)
        assert "evicted_keys:0\r" not in await owner.ask("INFO", "stats")
    finally:
        await owner.ask("CONFIG", "SET", "maxmemory", before)

    found = await visitor.load()
    assert found is not None
    assert {"a": "1"} == found.fields


async def _tag_of(owner: valkey_servers.Server, key: str) -> str:
    """Text that is in the slots of this server."""
    wanted = await owner.ask("CLUSTER", "SLOTS")
    mine = [(first, last) for first, last, primary, *_ in wanted if primary[0] == owner.host]
    for number in range(1000):
        slot = await owner.ask("CLUSTER", "KEYSLOT", f"t{number}")
        if any(first <= slot <= last for first, last in mine):
            return f"t{number}"
    raise AssertionError(key)


async def test_a_login_and_a_logout_in_the_cache_wait_for_a_replica(
    every: dict[str, stores.Store], servers: valkey_servers.Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assured, "REPLICA_SECONDS", 20.0)
    visitor, store = Visitor(every["cache"]), every["cache"]
    replica = await servers.replica_of(await servers.primary_of(cached.key(visitor.id.digest)))

    for act in (visitor.begin(record(principal="user-7")), store.end(visitor.id, now())):
        async with frozen(replica):
            acting = asyncio.ensure_future(act)
            done, _ = await asyncio.wait([acting], timeout=0.5)
            assert not done, "acknowledged by one server alone"
        await acting


@asynccontextmanager
async def frozen(server: valkey_servers.Server) -> AsyncIterator[None]:
    """This server stands still, and its connections stay open."""
    assert server.machine is not None
    inner = re.search(r"process_id:(\d+)", await server.ask("INFO", "server"))
    assert inner is not None
    found = server.machine.outside(int(inner[1]))
    assert found is not None
    os.kill(found.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(found.pid, signal.SIGCONT)


async def test_all_sessions_move_and_none_twice(
    every: dict[str, stores.Store], cluster: postgres_cluster.Cluster, servers: valkey_servers.Servers
) -> None:
    source, target = every["cache"], every["database"]
    await servers.flush()
    visitors = [Visitor(source) for _ in range(1200)]
    await asyncio.gather(*(one.store.create(one.id, record(a="1"), is_precious=False) for one in visitors))
    over, newer, late = visitors[:3]
    await target.end(over.id, now())
    await target.create(newer.id, replace(record(a="9"), changed_at=now() + 5), is_precious=True)
    await source.end(late.id, now())
    bound = bindings.Bindings(service=bindings.Service(name="shop"), database=cluster.bound, cache=servers.bound)

    assert 1197 == await moving.move(bound, "cache", "database")
    assert 0 == await moving.move(bound, "cache", "database")

    ended = await target.load(records.Ticket(over.id), now())
    kept = await target.load(records.Ticket(newer.id), now())
    assert ended is not None
    assert ended.is_over
    assert kept is not None
    assert {"a": "9"} == kept.fields
    assert await target.load(records.Ticket(late.id), now()) is None
    await servers.flush()
    assert await moving.move(bound, "database", "cache") >= 1198
    assert await source.load(visitors[-1].ticket, now()) is not None
    with pytest.raises(errors.MisuseError, match="from cache to database"):
        await moving.move(bound, "memory", "database")


@pytest.mark.parametrize(("source", "target"), [("cache", "database"), ("database", "cache")])
async def test_what_was_moved_is_forgotten_so_that_no_logout_is_undone_by_moving_back(
    every: dict[str, stores.Store],
    cluster: postgres_cluster.Cluster,
    servers: valkey_servers.Servers,
    source: str,
    target: str,
) -> None:
    visitors = [Visitor(every[source]) for _ in range(520)]  # more than one batch
    await asyncio.gather(*(one.store.create(one.id, record(a="1"), is_precious=False) for one in visitors))
    bound = bindings.Bindings(service=bindings.Service(name="shop"), database=cluster.bound, cache=servers.bound)
    await moving.move(bound, source, target)

    await moving.clear(bound, source)

    assert 0 == await moving.move(bound, source, target)
    leaving, staying = visitors[0], visitors[-1]
    await every[target].end(leaving.id, now())
    await moving.move(bound, target, source)
    assert await leaving.load() is None
    assert await staying.load() is not None
