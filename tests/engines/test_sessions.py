"""Visitors and their sessions, by real requests on real stores: what is kept, what it costs, what is never undone."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from support import postgres_cluster, session_sites, valkey_servers, write_database
from tenfold import bindings
from tenfold.sdk import counters
from tenfold.sdk.sessions import cached, database, records

pytestmark = pytest.mark.anyio

NETWORK = 7
ALL = ("database", "cache", "token", "memory")
ON_SERVERS = ("database", "cache", "memory")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    with write_database.running(tmp_path_factory.mktemp("pg"), NETWORK, replicas=1) as made:
        asyncio.run(made.primary.configure(log_statement="all"))
        asyncio.run(made.replicas[0].configure(log_statement="all"))
        yield made


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[valkey_servers.Servers]:
    with valkey_servers.running(tmp_path_factory.mktemp("cache"), NETWORK, primaries=3, subnet=12) as made:
        yield made


@pytest.fixture
async def web(cluster: postgres_cluster.Cluster, servers: valkey_servers.Servers) -> AsyncIterator[session_sites.Web]:
    async with session_sites.webs(cluster.bound, servers.bound, "memory") as (one,):
        yield one


class Counter:
    """Commands about sessions that the servers have seen."""

    def __init__(self, cluster: postgres_cluster.Cluster, servers: valkey_servers.Servers) -> None:
        self._cluster, self._servers = cluster, servers

    async def __aenter__(self) -> "Counter":
        self._before = await self._read()
        return self

    async def __aexit__(self, *_: object) -> None:
        after = await self._read()
        self.database, self.cache = (now - then for now, then in zip(after, self._before, strict=True))

    async def _read(self) -> tuple[int, int]:
        logs = [(one.folder / "postgres.log").read_text() for one in self._cluster.servers]
        statements = sum(
            len(re.findall(r"execute [^:]*: [^;]*?tenfold\.(?:session|revocation)\b", log)) for log in logs
        )
        commands = 0
        for one in self._servers.servers:
            if (await one.ask("ROLE"))[0] == "master":
                stats = await one.ask("INFO", "commandstats")
                commands += sum(
                    int(n) for n in re.findall(r"cmdstat_(?:hgetall|eval|evalsha|mget|set):calls=(\d+)", stats)
                )
        return statements, commands


async def read(visitor: httpx.AsyncClient) -> dict[str, object]:
    answer = await visitor.get("/read")
    assert 200 == answer.status_code, answer.text
    return dict(answer.json()["fields"], principal=answer.json()["principal"])


@pytest.mark.parametrize("store", ALL)
async def test_a_cart_a_login_and_a_logout(web: session_sites.Web, store: str) -> None:
    web.use(bindings.Sessions(store=store))
    visitor = web.visitor()

    for item in (1, 2, 3):
        await visitor.post("/append", params={"item": item})
    anonymous = session_sites.stolen(visitor)
    await visitor.post("/login", params={"as": "user-7"})
    known = session_sites.stolen(visitor)
    await visitor.post("/put", params={"theme": "dark"})

    assert {"cart": [1, 2, 3], "theme": "dark", "principal": "user-7"} == await read(visitor)
    assert session_sites.session_cookie(visitor) != anonymous["shop-session"]
    assert {"principal": None} == await read(web.visitor(anonymous)), "the id from before the login is invalid"
    farewell = await visitor.post("/logout")
    assert "shop-session=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax; Secure" in farewell.headers.get_list("set-cookie")
    assert session_sites.session_cookie(visitor) is None
    for replayed in (known, anonymous):
        assert {"principal": None} == await read(web.visitor(replayed)), "replay after the logout"


@pytest.mark.parametrize("store", ALL)
async def test_what_a_request_costs(
    web: session_sites.Web, store: str, cluster: postgres_cluster.Cluster, servers: valkey_servers.Servers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(database, "PRUNE_EVERY", 1e9)
    web.use(bindings.Sessions(store=store))
    visitor = web.visitor()
    own = 0 if store == "memory" else 1
    await visitor.post("/put", params={"a": "1"})
    await visitor.post("/append", params={"item": 1})  # the servers now know the scripts
    await visitor.get("/read")  # and that the cookie is not revoked

    async def cost(path: str, count: int = 10) -> tuple[int, int]:
        async with Counter(cluster, servers) as counted:
            for _ in range(count):
                answer = await visitor.get(path)
                assert answer.status_code < 300
                if path in ("/plain", "/read"):
                    assert [] == answer.headers.get_list("set-cookie")
        return counted.database, counted.cache

    in_database = own * 10 if store == "database" else 0
    in_cache = own * 10 if store in ("cache", "token") else 0
    assert (0, 0) == await cost("/plain"), "untouched"
    assert (in_database, in_cache) == await cost("/read"), "read"
    written = await cost("/append?item=1")
    assert (in_database * 2, in_cache * (1 if store == "token" else 2)) == written, "read and changed"
    new = web.visitor()
    async with Counter(cluster, servers) as counted:
        assert [] == (await new.get("/read")).headers.get_list("set-cookie")
    assert (0, 0) == (counted.database, counted.cache), "a visitor without a cookie"


@pytest.mark.parametrize("store", ON_SERVERS)
async def test_ten_requests_at_once_lose_no_field(web: session_sites.Web, store: str) -> None:
    web.use(bindings.Sessions(store=store))
    visitor = web.visitor()
    await visitor.post("/put", params={"old": "x"})

    slow = [asyncio.create_task(visitor.post("/slow", params={f"f{number}": str(number)})) for number in range(10)]
    for _ in slow:
        await web.arrived.acquire()
    web.gate.set()
    await asyncio.gather(*slow)

    assert {"old": "x", "principal": None, **{f"f{number}": str(number) for number in range(10)}} == await read(visitor)


@pytest.mark.parametrize("store", ALL)
async def test_a_request_under_way_does_not_undo_a_logout(web: session_sites.Web, store: str) -> None:
    web.use(bindings.Sessions(store=store))
    visitor = web.visitor()
    await visitor.post("/login", params={"as": "user-7"})
    kept = session_sites.stolen(visitor)
    slow = asyncio.create_task(web.visitor(kept).post("/slow", params={"late": "1"}))
    await web.arrived.acquire()

    await visitor.post("/logout")
    web.gate.set()
    answer = await slow

    assert 204 == answer.status_code
    if store != "token":
        assert [] == [one for one in answer.headers.get_list("set-cookie") if "session" in one]
    for cookies in (kept, answer.cookies):
        assert {"principal": None} == await read(web.visitor(httpx.Cookies(cookies)))


@pytest.mark.parametrize("store", ON_SERVERS)
async def test_a_login_under_way_survives_a_logout_and_brings_nothing_back(web: session_sites.Web, store: str) -> None:
    web.use(bindings.Sessions(store=store))
    visitor = web.visitor()
    await visitor.post("/put", params={"secret": "x"})
    other = web.visitor(session_sites.stolen(visitor))
    slow = asyncio.create_task(other.post("/slow", params={"login": "user-7"}))
    await web.arrived.acquire()

    await visitor.post("/logout")
    web.gate.set()
    await slow

    assert {"principal": "user-7"} == await read(other)


@pytest.mark.parametrize("store", ALL)
async def test_ids_that_a_client_made_up_are_never_taken(web: session_sites.Web, store: str) -> None:
    web.use(bindings.Sessions(store=store))
    honest = web.visitor()
    await honest.post("/put", params={"mine": "1"})
    good = session_sites.session_cookie(honest) or ""
    bad = [records.new_id().text, "x", "", "." + "A" * 200, good[:-2] + ("AA" if good[-2:] != "AA" else "BB"), "é" * 43,
           "." + good, good * 50, good + "="]  # fmt: skip

    for made_up in bad:
        headers = {"cookie": f"shop-session={made_up}".encode("latin-1")}
        stranger = web.visitor()
        assert {} == (await stranger.get("/read", headers=headers)).json()["fields"], made_up
        await stranger.post("/put", params={"theirs": "1"}, headers=headers)
        assert made_up != session_sites.session_cookie(stranger)
        assert {"theirs": "1", "principal": None} == await read(stranger)

    assert {"mine": "1", "principal": None} == await read(honest)


@pytest.mark.parametrize("store", ALL)
async def test_what_is_kept_of_a_request_that_fails(web: session_sites.Web, store: str) -> None:
    """Nothing at 500 and above, everything below."""
    web.use(bindings.Sessions(store=store))
    visitor = web.visitor()
    await visitor.post("/put", params={"a": "1"})

    for status, name in ((404, "b"), (500, "c"), (503, "d")):
        await visitor.post("/put", params={"status": str(status), name: "1"})
    await visitor.post("/put", params={"status": "not a number", "e": "1"})  # the handler raises

    assert {"a": "1", "b": "1", "status": "404", "principal": None} == await read(visitor)


async def test_a_session_is_kept_while_the_app_has_a_transaction_open(web: session_sites.Web) -> None:
    web.use(bindings.Sessions(store="database"))
    visitor = web.visitor()

    for _ in range(2):
        assert 204 == (await visitor.post("/inside")).status_code

    assert {"inside": "1", "principal": None} == await read(visitor)


@pytest.mark.parametrize("store", ALL)
async def test_a_session_that_is_too_large_is_not_kept(
    web: session_sites.Web, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    web.use(bindings.Sessions(store=store))
    visitor = web.visitor()
    await visitor.post("/put", params={"a": "1"})
    large = "x" * (1_000 if store == "token" else 22_000)

    for name in ("b", "c", "d"):
        answer = await visitor.post("/put", params={name: large, "small": "1"})

    assert 500 == answer.status_code
    assert {"a", "small"} <= set(await read(visitor))
    assert "d" not in await read(visitor)


@pytest.mark.parametrize("store", ALL)
async def test_forms(web: session_sites.Web, store: str) -> None:
    web.use(bindings.Sessions(store=store))
    visitor, stranger = web.visitor(), web.visitor()
    token = (await visitor.get("/form")).json()
    again = (await visitor.get("/form")).json()
    foreign = (await stranger.get("/form")).json()

    assert token != again
    for good in (token, again):
        assert {"x": "1", "csrf_token": good} == (
            await visitor.post("/form", data={"x": "1", "csrf_token": good})
        ).json()
        assert 200 == (await visitor.post("/form", headers={"X-CSRF-Token": good})).status_code
    for bad in (foreign, "", "x", "é", token[:-3] + "AAA"):
        answer = await visitor.post("/form", data={"csrf_token": bad})
        assert 403 == answer.status_code, bad
        assert "Bad CSRF token" == answer.json()["title"]
    assert 403 == (await web.visitor().post("/form", data={"csrf_token": token})).status_code
    await visitor.post("/put", params={"a": "1"})
    assert 200 == (await visitor.post("/form", data={"csrf_token": token})).status_code, "first field, same id"
    await visitor.post("/login", params={"as": "user-7"})
    assert 403 == (await visitor.post("/form", data={"csrf_token": token})).status_code, "another id after the login"


async def test_a_logout_is_seen_by_every_copy_before_it_is_answered(
    web: session_sites.Web, cluster: postgres_cluster.Cluster
) -> None:
    """Somebody who replays the cookie brings no position, and is sent to a replica."""
    web.use(bindings.Sessions(store="database"))
    await cluster.replicas[0].delay_replay(300)
    try:
        visitor = web.visitor()
        await visitor.post("/login", params={"as": "user-7"})
        cookies = session_sites.stolen(visitor)
        assert {"principal": "user-7"} == await read(web.visitor(cookies)), "the primary is asked for what a copy lacks"
        await cluster.until_caught_up()  # from here on the copy shows somebody who is logged in

        await visitor.post("/logout")

        assert {"principal": None} == await read(web.visitor(cookies))
    finally:
        await cluster.replicas[0].delay_replay(0)
        await cluster.until_caught_up()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("database", "cache"),
        ("cache", "database"),
        ("database", "token"),
        ("token", "database"),
        ("cache", "token"),
        ("token", "cache"),
        ("memory", "database"),
        ("database", "memory"),
    ],
)
async def test_nobody_is_logged_out_while_sessions_move(
    cluster: postgres_cluster.Cluster, servers: valkey_servers.Servers, before: str, after: str
) -> None:
    """Two web servers, of which one hears of the change later; every visitor asks for several things at once."""
    async with session_sites.webs(
        cluster.bound, servers.bound, before, 1 if "memory" in (before, after) else 2
    ) as many:
        visitors = [many[-1].visitor() for _ in range(6)]
        for number, one in enumerate(visitors):
            await one.post("/login", params={"as": f"user-{number}"})
            await one.post("/put", params={"a": "1"})
        leaving = session_sites.stolen(visitors[5])

        for web in many:
            web.use(bindings.Sessions(store=before, former=(after,)))
        many[0].use(bindings.Sessions(store=after, former=(before,)))
        for number, one in enumerate(visitors[:4]):
            both = [web.visitor(one.cookies) for web in many for _ in range(3)]
            found = await asyncio.gather(*(read(each) for each in both))
            assert [{"a": "1", "principal": f"user-{number}"}] * len(both) == found
            await many[-1].visitor(one.cookies).post("/put", params={"b": "2"})
        await many[0].visitor(visitors[5].cookies).post("/logout")
        for web in many:
            web.use(bindings.Sessions(store=after, former=(before,)))

        for number, one in enumerate(visitors[:5]):
            mine = many[0].visitor(one.cookies)
            assert f"user-{number}" == (await read(mine))["principal"]
            await mine.post("/put", params={"c": "3"})
            assert {"a": "1", "c": "3"}.items() <= (await read(mine)).items()
        assert {"principal": None} == await read(many[0].visitor(leaving))
        for web in many:
            web.use(bindings.Sessions(store=before, former=(after,)))
        for number, one in enumerate(visitors[:5]):
            back = many[0].visitor(one.cookies)
            assert {"c": "3", "principal": f"user-{number}"}.items() <= (await read(back)).items()
        assert {"principal": None} == await read(many[0].visitor(leaving))


@pytest.mark.parametrize(("before", "after"), [("database", "cache"), ("cache", "database")])
async def test_what_a_request_changes_that_was_under_way_while_its_session_moved_is_kept(
    cluster: postgres_cluster.Cluster, servers: valkey_servers.Servers, before: str, after: str
) -> None:
    """It began before anybody spoke of another store, and ends when the old one is told to nobody any more."""
    async with session_sites.webs(cluster.bound, servers.bound, before) as (web,):
        visitor = web.visitor()
        await visitor.post("/login", params={"as": "user-7"})
        await visitor.post("/put", params={"a": "1"})
        kept = httpx.Cookies(visitor.cookies)
        slow = asyncio.create_task(web.visitor(kept).post("/slow", params={"late": "1"}))
        await web.arrived.acquire()

        web.use(bindings.Sessions(store=before, former=(after,)))
        web.use(bindings.Sessions(store=after, former=(before,)))
        assert "user-7" == (await read(visitor))["principal"]
        web.use(bindings.Sessions(store=after))
        web.gate.set()
        await slow

        assert {"a": "1", "late": "1", "principal": "user-7"} == await read(web.visitor(kept))


async def test_a_client_without_cookies_reads_what_it_wrote_at_any_web_server(
    cluster: postgres_cluster.Cluster, servers: valkey_servers.Servers
) -> None:
    replica = cluster.replicas[0]
    for cache in (servers.bound, bindings.Cache()):
        async with session_sites.webs(cluster.bound, cache, "database", 2) as (one, other):
            await replica.pause_replay()
            try:
                await one.visitor().post("/note", params={"as": "robot", "text": "unseen"})
                stranger = (await other.visitor().get("/note", params={"as": ""})).json()
                assert "unseen" not in stranger, "the copy stands still, so others do not see it yet"
                for number in range(5):
                    await one.visitor().post("/note", params={"as": "robot", "text": f"note {number}"})
                    found = (await other.visitor().get("/note", params={"as": "robot"})).json()
                    assert f"note {number}" == found[-1]
            finally:
                await replica.resume_replay()
                await cluster.until_caught_up()
                await cluster.primary.script("delete from effect")
                await cluster.until_caught_up()


async def test_a_session_is_renewed_at_most_every_tenth_of_its_life(
    web: session_sites.Web, cluster: postgres_cluster.Cluster, servers: valkey_servers.Servers
) -> None:
    web.use(bindings.Sessions(store="database", life_seconds=1000))
    visitor = web.visitor()
    await visitor.post("/put", params={"a": "1"})
    age = "update tenfold.session set expires_at = expires_at - interval '{} seconds' where fields ? 'a'"
    await cluster.primary.script(age.format(90))

    async with Counter(cluster, servers) as counted:
        young = await visitor.get("/read")
    assert (1, []) == (counted.database, young.headers.get_list("set-cookie"))
    await cluster.primary.script(age.format(20))
    await cluster.until_caught_up()
    async with Counter(cluster, servers) as counted:
        old = await visitor.get("/read")
    assert 2 == counted.database
    assert any("shop-session=" in one and "Max-Age=1000" in one for one in old.headers.get_list("set-cookie"))


async def test_eager_sessions_are_there_before_the_app_and_its_store_may_be_gone(
    cluster: postgres_cluster.Cluster, servers: valkey_servers.Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "PATIENCE_SECONDS", 1.0)
    gone = bindings.Cache(nodes=(bindings.CacheNode(name="cache-1", host=f"127.{NETWORK}.99.1"),))
    async with session_sites.webs(cluster.bound, servers.bound, "cache", is_eager=True) as (web,):
        visitor = web.visitor()
        await visitor.post("/put", params={"a": "1"})
        assert {"a": "1", "principal": None} == await read(visitor)

        web.tf.valkey.update(gone)
        before = counters.reading().get("sessions.unavailable", 0)
        answers = [await visitor.get(path) for path in ("/plain", "/read")]

    assert [204, 503] == [one.status_code for one in answers]
    assert "Try again" == answers[1].json()["title"]
    assert counters.reading()["sessions.unavailable"] > before


async def test_no_server_of_the_cache_that_dies_logs_anybody_in_or_out(
    cluster: postgres_cluster.Cluster, servers: valkey_servers.Servers
) -> None:
    """A primary dies between a login and the next request, and between a logout and its replay."""
    async with session_sites.webs(cluster.bound, servers.bound, "cache") as (web,):
        visitors = [web.visitor() for _ in range(12)]
        for number, one in enumerate(visitors):
            await one.post("/login", params={"as": f"user-{number}"})
        gone = [session_sites.stolen(one) for one in visitors[6:]]
        for one in visitors[6:]:
            await one.post("/logout")
        found = records.parse_id(session_sites.session_cookie(visitors[0]) or "")
        assert found is not None
        victim = await servers.primary_of(cached.key(found.digest))

        await victim.kill()
        try:
            answers = await asyncio.gather(*(read(one) for one in visitors[:6]))
            assert [{"principal": f"user-{number}"} for number in range(6)] == answers
            for cookies in gone:
                assert {"principal": None} == await read(web.visitor(cookies))
            assert 204 == (await visitors[0].post("/login", params={"as": "user-99"})).status_code
        finally:
            await servers.restart(victim)
            await servers.until_whole()
