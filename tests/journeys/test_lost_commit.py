"""The answer to a COMMIT is lost: connections cut at every byte around it, with failovers in between.

A pair with synchronous replication behind proxies that cut. Each round writes one effect under a name of its own, in
one of the ways the SDK offers; at the end every effect is there exactly as often as the caller was told. The same
rounds without the token find doubles, so the check can fail.
"""

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import pytest

from support import postgres_cluster, proxy, write_database
from tenfold import errors, request
from tenfold.kit import clock
from tenfold.sdk.db import primary, run, settle, transaction

pytestmark = pytest.mark.anyio

NETWORK = 62
PORT = 5433
"""The proxies', beside PostgreSQL's own on the same addresses."""

PATIENT = transaction.Options(timeout=30)

SITES = ("commit", "commit", "commit", "commit", "statement", "begin")
"""Which message is cut; what matters most is cut most often."""

WATCHED = {"commit": b"report_position", "begin": b"insert into tenfold.commit"}
"""The bytes by which a proxy knows the message; a statement is known by the effect's name in it."""

WAYS = ("run", "key", "duplicates", "statement", "transaction")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    with write_database.running(tmp_path_factory.mktemp("lost"), NETWORK, replicas=1) as made:
        asyncio.run(made.replicate_synchronously())
        yield made


@dataclass
class World:
    """The pair, its proxies by server name, the SDK's pools through them, and what was promised about every effect."""

    cluster: postgres_cluster.Cluster
    doors: dict[str, proxy.Proxy]
    shards: primary.Shards
    promised: dict[str, set[int]] = field(default_factory=dict)
    """By effect, how often it may be there."""
    unknown: list[str] = field(default_factory=list)
    cuts: int = 0
    failovers: int = 0

    @property
    def door(self) -> proxy.Proxy:
        return self.doors[self.cluster.primary.name]

    async def effects(self) -> Counter[str]:
        """What is really there."""
        connection = await asyncpg.connect(
            host=self.cluster.primary.host, port=5432, user="postgres", database="shop", timeout=5
        )
        rows = await connection.fetch("select name from effect")
        await connection.close()
        return Counter(row["name"] for row in rows)

    async def fail_over(self) -> postgres_cluster.Server:
        """Cut the primary's power and promote the replica, which then goes on alone. Returns the dead one."""
        old = self.cluster.primary
        await self.cluster.fail_over(self.cluster.replicas[0], repoint=False)
        await self.cluster.primary.configure(synchronous_standby_names="")
        self.failovers += 1
        return old


@asynccontextmanager
async def world(cluster: postgres_cluster.Cluster) -> AsyncIterator[World]:
    await cluster.primary.script("truncate effect; truncate tenfold.commit")
    async with AsyncExitStack() as stack:
        doors = {
            one.name: await stack.enter_async_context(proxy.proxy(one.host, PORT, (one.host, one.port)))
            for one in cluster.servers
        }
        bound = write_database.through(cluster.bound, {name: (door.host, PORT) for name, door in doors.items()})
        yield World(cluster, doors, await stack.enter_async_context(write_database.connected(bound)))


async def effect(tx: transaction.Transaction, name: str) -> str:
    await tx.execute("insert into effect (name) values ($1)", name)
    return name


async def by_run(world: World, name: str) -> None:
    assert name == await run.run(world.shards, effect, (name,), options=PATIENT)
    world.promised[name] = {1}


async def by_statement(world: World, name: str) -> None:
    await run.execute_once(world.shards, "execute", "insert into effect (name) values ($1)", (name,), options=PATIENT)
    world.promised[name] = {1}


async def by_transaction(world: World, name: str) -> None:
    try:
        async with transaction.Transaction(world.shards, PATIENT) as tx:
            await effect(tx, name)
    except errors.NotCommitted:
        world.promised[name] = {0}
    else:
        world.promised[name] = {1}


async def with_key(world: World, name: str) -> None:
    """A request and its repeat, the way a balancer makes one."""
    for _ in range(2):
        assert name == await keyed(world, name)
    world.promised[name] = {1}


async def by_duplicates(world: World, name: str) -> None:
    """The same request three times at once."""
    assert [name] * 3 == await asyncio.gather(*(keyed(world, name) for _ in range(3)))
    world.promised[name] = {1}


async def keyed(world: World, name: str) -> str:
    key = request.IdempotencyKey(scope="POST /orders ada", key=name, fingerprint=name.encode())
    with request.serving(request.Request(idempotency=key)):
        found: str = await run.run(world.shards, effect, (name,), options=PATIENT)
    return found


WRITE: dict[str, Callable[[World, str], Awaitable[None]]] = {
    "run": by_run,
    "key": with_key,
    "duplicates": by_duplicates,
    "statement": by_statement,
    "transaction": by_transaction,
}


async def lengths(world: World, way: str) -> dict[str, tuple[int, int]]:
    """How many bytes each message and the answer to it have, so that every one of them can be the last."""
    found = {}
    for site in ("begin", "statement", "commit"):
        name = f"measure-{way}-{site}"
        world.door.arm(WATCHED.get(site, name.encode()))
        await WRITE[way](world, name)
        link = world.door.last_cut
        assert link is not None
        found[site] = (min(link.to_server - link.marked[0], 400), min(link.to_client - link.marked[1], 400))
    return found


def arm(world: World, site: str, name: str, lengths: tuple[int, int], chance: random.Random) -> None:
    """Cut one byte of the message, or of the answer, chosen evenly over both."""
    at = chance.randrange(sum(lengths) + 2)
    watched = WATCHED.get(site, name.encode())
    if at <= lengths[0]:
        world.door.arm(watched, to_server=at)
    else:
        world.door.arm(watched, to_client=at - lengths[0] - 1)


async def one_round(world: World, way: str, name: str, *, has_failover: bool) -> None:
    """Write once; the cut is armed. With a failover: the power goes in the moment of the cut."""
    door = world.door
    writing = asyncio.ensure_future(WRITE[way](world, name))
    if has_failover:

        async def is_cut() -> bool:
            return writing.done() or (door.last_cut is not None and door.last_cut.is_cut)

        await clock.until(is_cut, seconds=10, pause_seconds=0.0005)
        old = await world.fail_over()
    try:
        await writing
    except errors.OutcomeUnknown:
        world.unknown.append(name)
        world.promised[name] = {0, 1}
    world.cuts += door.last_cut is not None and door.last_cut.is_cut
    door.disarm()
    if has_failover:
        await world.cluster.rejoin(old)
        await world.cluster.replicate_synchronously()


async def lose_answers(world: World, rounds: int, failover_every: int, chance: random.Random) -> None:
    """The whole run; ends with the comparison of what was promised and what is there."""
    measured = {way: await lengths(world, way) for way in WAYS}
    for number in range(1, rounds + 1):
        way, site = chance.choice(WAYS), chance.choice(SITES)
        name = f"{way}-{site}-{number}-"
        arm(world, site, name, measured[way][site], chance)
        await one_round(world, way, name, has_failover=number % failover_every == 0)
    there = await world.effects()
    wrong = {name: (there[name], may) for name, may in world.promised.items() if there[name] not in may}
    assert {} == wrong
    assert set(there) <= set(world.promised)
    assert [] == world.unknown, "a primary was there before every deadline: each outcome could be known"


async def test_every_effect_happens_exactly_once(cluster: postgres_cluster.Cluster, chance: random.Random) -> None:
    async with world(cluster) as made:
        await lose_answers(made, rounds=60, failover_every=12, chance=chance)

        assert 5 == made.failovers
        assert made.cuts >= 30


@pytest.mark.torture
@pytest.mark.timeout(1800)
async def test_every_effect_happens_exactly_once_in_2000_rounds(
    cluster: postgres_cluster.Cluster, chance: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    async with world(cluster) as made:
        await lose_answers(made, rounds=2000, failover_every=50, chance=chance)

        assert made.cuts >= 1000
        with capsys.disabled():
            print(
                f"\nlost commits: 2000 rounds, {made.cuts} cuts, {made.failovers} failovers, "
                f"{len(made.unknown)} unknown, 0 wrong, {time.monotonic() - began:.0f} s"
            )


async def test_every_byte_of_the_commit_can_be_the_last(cluster: postgres_cluster.Cluster) -> None:
    async with world(cluster) as made:
        to_server, to_client = (await lengths(made, "run"))["commit"]
        for at in range(0, to_server + 1, 7):
            made.door.arm(WATCHED["commit"], to_server=at)
            await one_round(made, "run", f"to-server-{at}-", has_failover=False)
        for at in range(0, to_client + 1, 3):
            made.door.arm(WATCHED["commit"], to_client=at)
            await one_round(made, "run", f"to-client-{at}-", has_failover=False)

        assert {1} == set((await made.effects()).values())
        assert [] == made.unknown


async def test_without_the_token_there_are_doubles(cluster: postgres_cluster.Cluster, chance: random.Random) -> None:
    async with world(cluster) as made:
        for number in range(40):
            name = f"naive-{number}-"
            made.door.arm(b"COMMIT;", to_client=chance.randrange(30))
            await retried_without_a_token(made, name)
            made.door.disarm()

        there = await made.effects()
        assert 40 == len(there)
        assert any(count > 1 for count in there.values()), "the check must be able to fail"


async def test_a_guess_in_place_of_the_check_makes_doubles(
    cluster: postgres_cluster.Cluster, chance: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def guess(*_: object) -> settle.Settled:
        return settle.Settled(is_committed=False, at=None)

    monkeypatch.setattr(settle, "settle", guess)
    async with world(cluster) as made:
        _, answer = (await lengths(made, "run"))["commit"]
        for number in range(10):
            made.door.arm(WATCHED["commit"], to_client=chance.randrange(answer))
            await one_round(made, "run", f"guess-{number}-", has_failover=False)

        assert max((await made.effects()).values()) > 1


async def test_an_outcome_that_nobody_can_prove_in_time_is_unknown(cluster: postgres_cluster.Cluster) -> None:
    async with world(cluster) as made:
        made.door.arm(WATCHED["commit"], to_client=0)
        writing = asyncio.ensure_future(
            run.run(made.shards, effect, ("lost",), options=transaction.Options(timeout=1.5))
        )

        async def is_cut() -> bool:
            return made.door.last_cut is not None and made.door.last_cut.is_cut

        assert await clock.until(is_cut, seconds=5, pause_seconds=0.0005)
        for door in made.doors.values():
            door.close()
        with pytest.raises(errors.OutcomeUnknown, match="look for token") as caught:
            await writing

        is_there = bool((await made.effects())["lost"])
        found = await cluster.primary.sql(
            "select count(*) from tenfold.commit where token = $1 and not is_void",
            uuid.UUID(caught.value.token),
            database="shop",
        )
        assert is_there == bool(found), "the token tells what happened, to whoever looks later"


async def retried_without_a_token(world: World, name: str) -> None:
    """What one writes without tenfold: once more, as long as no answer came."""
    while True:
        lease = await world.shards.primary(0, asyncio.get_running_loop().time() + 10)
        try:
            async with lease.connection.transaction():
                await lease.connection.execute("insert into effect (name) values ($1)", name)
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError):
            lease.discard()
        else:
            await lease.release()
            return
