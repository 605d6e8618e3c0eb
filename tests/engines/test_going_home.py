"""A GET that turns out to write, far from home: one forwarded request instead of one round trip for each statement.

Two granians serve the same app as two regions, over one PostgreSQL; before the one at home stands a real HAProxy.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from support import frontdoor, postgres_cluster, proxy, write_database
from support.frontdoor import House
from tenfold import bindings
from tenfold.kit import clock, files
from tenfold.topology import layout

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

NETWORK = 14
APPS = Path(__file__).parents[1] / "apps"
SECRET = "ab" * 32
REGIONS = {"seoul": {"primary": True}, "virginia": {}}
REQUEST_SECONDS = 3.0
NAMES = "select name from effect where starts_with(name, $1) order by name"


@dataclass
class Site:
    """Both regions."""

    house: House
    cluster: postgres_cluster.Cluster
    far: httpx.AsyncClient
    near: httpx.AsyncClient
    door: proxy.Proxy
    """Between the far web server and the home's balancer."""

    async def effects(self, name: str) -> list[str]:
        """Who has written this, each time."""
        at = self.cluster.primary
        connection = await asyncpg.connect(
            host=at.host, port=at.port, user="postgres", database=postgres_cluster.DATABASE
        )
        try:
            return [row[0] for row in await connection.fetch(NAMES, name)]
        finally:
            await connection.close()

    async def tell_far(self, *doors: bindings.HomeDoor) -> None:
        """From now on the far web server knows these doors of the home's; without any, that it is at home itself."""
        told = told_to("far", self.cluster, doors)
        files.write_atomically(self.house.folder / "far.json", bindings.dump(told))

        async def is_known() -> bool:
            return bool((await self.load())["bindings"] == bindings.digest(told))

        assert await clock.until(is_known, seconds=20)

    async def load(self) -> dict[str, Any]:
        key = {"tenfold-key": bindings.private_key(SECRET)}
        found: dict[str, Any] = (await self.far.get("/-/load", headers=key)).json()
        return found

    async def sent_home(self) -> int:
        """How many requests the far web server has sent."""
        return int((await self.load())["counts"].get("regions.sent_home", 0))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    with write_database.running(tmp_path_factory.mktemp("home"), NETWORK) as made:
        yield made


@pytest.fixture
async def site(tmp_path: Path, cluster: postgres_cluster.Cluster) -> AsyncIterator[Site]:
    service = {"name": "shop", "app": "going_home:app", "listen": f"127.{NETWORK}.0.10:8080"}
    wanted = frontdoor.topology(service=service, regions=REGIONS, web={"servers": 1}, balancer={"servers": 1})
    async with frontdoor.house(tmp_path) as house:
        seat = replace(frontdoor.seat(house.folder, wanted), network=NETWORK)
        (web,) = seat.layout.of("seoul").web()
        near, far = web.address(NETWORK), f"127.{NETWORK}.0.99"
        async with proxy.proxy(f"127.{NETWORK}.0.98", layout.HOME_PORT, (seat.address, layout.HOME_PORT)) as door:
            way = bindings.HomeDoor(name="balancer-1", host=door.host, port=door.port)
            await asyncio.gather(
                web_server(house, cluster, "home", near, ()), web_server(house, cluster, "far", far, (way,))
            )
            await house.door(seat)
            async with (
                httpx.AsyncClient(base_url=f"http://{far}:8000", timeout=20) as at_far,
                httpx.AsyncClient(base_url=f"http://{near}:8000", timeout=20) as at_home,
            ):
                yield Site(house, cluster, at_far, at_home, door)


def told_to(region: str, cluster: postgres_cluster.Cluster, doors: tuple[bindings.HomeDoor, ...]) -> bindings.Bindings:
    return bindings.Bindings(
        service=bindings.Service(
            name="shop",
            app="going_home:app",
            directory=str(APPS),
            secret=SECRET,
            request_seconds=REQUEST_SECONDS,
            trusted_proxies=("127.0.0.0/8",),
        ),
        database=cluster.bound,
        region=region,
        home="home" if doors else region,
        home_doors=doors,
    )


async def web_server(
    house: House, cluster: postgres_cluster.Cluster, region: str, address: str, doors: tuple[bindings.HomeDoor, ...]
) -> None:
    told = told_to(region, cluster, doors)
    file = house.folder / f"{region}.json"
    files.write_atomically(file, bindings.dump(told))
    variables = [f"{bindings.VARIABLE}={file}", f"{bindings.APP_VARIABLE}=going_home:app", f"APP_REGION={region}"]
    argv = ["env", *variables, sys.executable, "-m", "granian", "tenfold.sdk.hosting:application", "--factory"]
    argv += ["--interface", "asgi", "--host", address, "--port", "8000", "--working-dir", str(APPS)]
    log = house.folder / f"{region}.log"
    house.webs[region] = await frontdoor.spawn(argv, log)
    house.stack.push_async_callback(house.webs[region].kill)
    async with httpx.AsyncClient() as client:

        async def is_ready() -> bool:
            try:
                return (await client.get(f"http://{address}:8000/-/ready")).status_code == 200
            except httpx.HTTPError:
                return False

        assert await clock.until(is_ready, seconds=40), log.read_text()


async def test_a_get_that_writes_is_worked_on_at_home_as_one_request(site: Site) -> None:
    assert '"far"' == (await site.far.get("/read")).text
    answer = await site.far.get("/many/first")
    assert (200, '"home"') == (answer.status_code, answer.text)
    assert ("yes", "1", "first") == (answer.headers["x-app"], answer.headers["x-timed"], answer.cookies["basket"])
    assert 1 == len(answer.headers.get_list("date")) == len(answer.headers.get_list("server"))
    assert answer.headers["x-tenfold-position"], "the next read shows what was written"
    assert [f"first {number} by home" for number in range(10)] == await site.effects("first")
    assert 1 == await site.sent_home()
    for path in ("sync", "swallowed", "beside", "held", "session"):
        assert (path, '"home"') == (path, (await site.far.get(f"/{path}/{path}")).text)
    for name in ("sync", "swallowed", "beside", "held"):
        assert [f"{name} by home"] == await site.effects(name)
    assert '"rolled back by home"' == (await site.far.get("/run/run")).text
    head = await site.far.head("/echo/head")
    assert 405 == head.status_code
    assert 7 == await site.sent_home()
    assert 1 == len(site.door.links), "its connection is kept for the next request"
    assert 500 == (await site.far.get("/broken/broken")).status_code
    assert ["broken by home"] == await site.effects("broken")


async def test_bodies_pass_both_ways_and_what_cannot_be_asked_again_stays(site: Site) -> None:
    streamed = await site.far.get("/stream/long")
    assert b"x" * 400_000 == streamed.content
    assert ["long by home"] == await site.effects("long")
    small = await site.far.request("GET", "/echo/small?q=a%20b&r=%C3%A9", content=b"y" * 200_000)
    assert "home 200000 q=a b r=é" == small.text
    sent = await site.sent_home()
    large = await site.far.request("GET", "/echo/large", content=b"z" * 1_100_000)
    assert "far 1100000 " == large.text
    assert "far 3 " == (await site.far.post("/echo/post", content=b"abc")).text
    assert "begun far" == (await site.far.get("/streaming/begun")).text
    assert '"far"' == (await site.far.get("/after/behind")).text
    marked = await site.far.get("/many/marked", headers={"Tenfold-Sent-Home": "1"})
    assert '"far"' == marked.text, "what came from another region is sent nowhere"
    assert sent == await site.sent_home()
    assert ["large by far"] == await site.effects("large")
    assert ["begun by far"] == await site.effects("begun")


async def test_a_home_that_cannot_be_reached_or_does_not_answer_is_said_so(site: Site) -> None:
    late = await site.far.get("/slow/late")
    assert 504 == late.status_code
    assert "retry-after" not in late.headers
    assert ["late by home"] == await site.effects("late")

    site.door.arm(b"/many/torn", to_client=0)
    torn = await site.far.get("/many/torn")
    assert 502 == torn.status_code
    assert "retry-after" not in torn.headers

    await site.tell_far(bindings.HomeDoor(name="balancer-1", host=site.door.host, port=9))
    away = await site.far.get("/many/away")
    assert (503, "1") == (away.status_code, away.headers["retry-after"])
    assert [] == await site.effects("away")
    assert '"far"' == (await site.far.get("/read")).text, "reads go on"

    await site.tell_far()
    assert '"far"' == (await site.far.get("/many/moved")).text, "the home has moved here"
