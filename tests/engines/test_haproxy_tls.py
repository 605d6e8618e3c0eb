"""The front door under TLS: HTTP/2, the redirect, Secure cookies, certificates renewed and doors changed under load."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from signal import SIGUSR1

import httpx
import pytest

from support import frontdoor, http2
from support.certificates import Authority, Pair
from support.frontdoor import House
from tenfold import engines, errors
from tenfold.engines import haproxy
from tenfold.engines.haproxy import admin, console, render, settings
from tenfold.kit import certificate as kit
from tenfold.kit import clock, files, process
from tenfold.runtime import events, paths, renewal
from tenfold.topology import tiers

pytestmark = pytest.mark.anyio

HOST, PORT = frontdoor.LISTEN
URL = f"https://{HOST}:{PORT}"
PLAIN_URL = f"http://{HOST}:8081"
TLS = tiers.Tls(certificate="shop.pem", key="shop.key")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with frontdoor.house(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def trust(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.pem.decode())


def seat(house: House, number: int = 0, *, tls: bool = True, balancers: int = 1, sticky: bool = False) -> engines.Seat:
    """The n-th front door's seat."""
    service = tiers.Service(name="shop", app="shop:app", listen=f"{HOST}:{PORT}")
    if tls:
        service = service.model_copy(update={"tls": TLS, "redirect_http": f"{HOST}:8081"})
    balancer = tiers.Balancer(servers=balancers, sticky=sticky)
    made = frontdoor.seat(house.folder, frontdoor.topology(service=service, balancer=balancer), number)
    return replace(made, bindings=paths.Paths(house.folder / "tenfold.toml").bindings)


def keep(where: engines.Seat, pair: Pair) -> kit.Certificate:
    """Put a certificate where the front door reads it."""
    found = kit.read(pair.certificate, pair.key)
    assert where.certificate is not None
    where.certificate.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(where.certificate, found.pem)
    return found


def issue(authority: Authority) -> Pair:
    return authority.issue((HOST,))


@asynccontextmanager
async def browser(authority: Authority) -> AsyncIterator[httpx.AsyncClient]:
    """It asks for HTTP/2 by its own context, which nobody else may use: it changes it."""
    own = ssl.create_default_context(cadata=authority.pem.decode())
    async with httpx.AsyncClient(verify=own, http2=True, base_url=URL, timeout=12) as client:
        yield client


async def shown(trust: ssl.SSLContext) -> str:
    """The fingerprint of the certificate that a new connection is shown."""
    connection = await frontdoor.Connection.open(trust=trust)
    found = connection.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    await connection.close()
    return kit.fingerprint(found)


async def test_a_browser_speaks_http_2_and_another_client_http_1_1(
    house: House, authority: Authority, trust: ssl.SSLContext
) -> None:
    where = seat(house)
    keep(where, issue(authority))
    await house.web(where)
    await house.door(where)

    async with browser(authority) as client:
        answers = await asyncio.gather(*(client.post(f"/?id={number}", content=b"x" * 50_000) for number in range(20)))
    connection = await frontdoor.Connection.open(trust=trust)
    plain = await connection.request(headers={"X-Forwarded-Proto": "http", "Forwarded": "proto=http"})
    await connection.close()

    assert {("HTTP/2", 200, 50_000)} == {(one.http_version, one.status_code, one.json()["size"]) for one in answers}
    for seen in ([(name.lower(), value) for name, value in answers[0].json()["headers"]], plain.seen):
        assert [("x-forwarded-proto", "https")] == [one for one in seen if "proto" in one[0] or "forwarded" == one[0]]


async def test_plain_http_is_sent_over_with_its_host_its_path_and_its_method(
    house: House, authority: Authority
) -> None:
    where = seat(house)
    keep(where, issue(authority))
    await house.door(where)

    async with httpx.AsyncClient(base_url=PLAIN_URL) as client:
        posted = await client.post("/orders?number=1&x=%20", content=b"body", headers={"Host": "shop.test:8081"})
        other = await client.get("/", headers={"Host": "[::1]"})
    connection = await frontdoor.Connection.open(at=(HOST, 8081))
    nameless = await connection.send(b"GET / HTTP/1.0\r\n\r\n")
    await connection.close()

    assert 308 == posted.status_code
    assert f"https://shop.test:{PORT}/orders?number=1&x=%20" == posted.headers["location"]
    assert "no-store" == posted.headers["cache-control"]
    assert f"https://[::1]:{PORT}/" == other.headers["location"]
    assert f"{URL}/" == nameless.headers["location"]


@pytest.mark.parametrize("tls", [True, False])
async def test_the_sticky_cookie_is_secure_exactly_under_tls(
    house: House, authority: Authority, trust: ssl.SSLContext, tls: bool
) -> None:
    where = seat(house, tls=tls, sticky=True)
    if tls:
        keep(where, issue(authority))
    await house.web(where)
    await house.door(where)

    connection = await frontdoor.Connection.open(trust=trust if tls else None)
    answer = await connection.request()
    await connection.close()

    assert tls == ("secure" in answer.headers["set-cookie"].lower())


async def test_a_renewed_certificate_is_served_at_once_and_no_connection_ends(
    house: House, authority: Authority, trust: ssl.SSLContext
) -> None:
    first, second = (seat(house, number, balancers=2) for number in (0, 1))
    old = keep(first, issue(authority))
    await house.web(first)
    doors = [await house.door(first), await house.door(second)]
    workers = [process.children(one.pid) for one in doors]
    kept_alive = await frontdoor.Connection.open(trust=trust)
    await kept_alive.request()

    async with browser(authority) as client, frontdoor.load(150, keep_alive=10, trust=trust, writes=True) as load:
        before = await client.get("/")
        await asyncio.sleep(0.3)
        for _ in range(3):
            new = keep(first, issue(authority))
            for where in (first, second):
                assert where.certificate is not None
                await admin.take_certificate(
                    settings.runtime_socket(where), where.certificate, new.pem, new.fingerprint
                )
            seen = {await shown(trust) for _ in range(10)}
            assert {new.fingerprint} == seen
            await asyncio.sleep(0.2)
        after = await client.get("/")
    last = await kept_alive.request()
    await kept_alive.close()

    assert [] == load.failures
    assert old.fingerprint not in seen
    assert (200, 200, 200) == (before.status_code, after.status_code, last.status)
    assert workers == [process.children(one.pid) for one in doors], "a door was reloaded"


async def test_a_certificate_that_haproxy_refuses_changes_nothing_and_no_key_is_told(
    house: House, authority: Authority, trust: ssl.SSLContext
) -> None:
    where = seat(house)
    old, other = keep(where, issue(authority)), issue(authority)
    await house.door(where)
    socket, file = settings.runtime_socket(where), where.certificate
    assert file is not None
    mixed = old.pem.partition(b"-----BEGIN PRIVATE KEY")[0] + other.key

    with pytest.raises(errors.EngineFailed, match="not taken over") as refused:
        await admin.take_certificate(socket, file, mixed, "00")

    assert old.fingerprint == await admin.certificate(socket, file) == await shown(trust)
    assert "PRIVATE" not in str(refused.value)
    assert other.key.decode().splitlines()[1] not in str(refused.value)


async def test_what_a_dead_runtime_left_half_done_does_not_stand_in_the_way(
    house: House, authority: Authority, trust: ssl.SSLContext
) -> None:
    """A folder with blanks, too: HAProxy's command line splits at them."""
    spacious = replace(house, folder=house.folder / "a folder; with \\ blanks")
    spacious.folder.mkdir()
    where = seat(spacious)
    keep(where, issue(authority))
    await spacious.door(where)
    socket, file = settings.runtime_socket(where), where.certificate
    assert file is not None
    await console.ask(socket, f"set ssl cert {console.quoted(file)}", payload=issue(authority).combined.decode())
    new = keep(where, issue(authority))

    await admin.take_certificate(socket, file, new.pem, new.fingerprint)

    assert new.fingerprint == await shown(trust)
    assert "*" not in await console.ask(socket, "show ssl cert")


async def test_what_a_runtime_that_died_between_two_doors_left_is_made_up_for_by_the_next(
    house: House, authority: Authority, trust: ssl.SSLContext
) -> None:
    first, second = (seat(house, number, balancers=2) for number in (0, 1))
    keep(first, issue(authority))
    for where in (first, second):
        await house.door(where)
    sockets = tuple(settings.runtime_socket(where) for where in (first, second))
    renewed = issue(authority)
    renewed.write(house.folder)
    new = keep(first, renewed)
    assert first.certificate is not None
    await admin.take_certificate(sockets[0], first.certificate, new.pem, new.fingerprint)

    next_runtime = renewal.Renewal(paths.Paths(house.folder / "tenfold.toml"), events.Journal(None))
    await next_runtime.look(first.topology, sockets, authority.now)

    assert [new.fingerprint] * 2 == [await admin.certificate(one, first.certificate) for one in sockets]


async def test_a_renewal_that_haproxy_refuses_is_told_and_the_copy_stays(house: House, authority: Authority) -> None:
    """Else the door would not open again after a restart. The settings are made stricter than the check is."""
    where = seat(house)
    old = keep(where, issue(authority))
    frontdoor.write(where)
    text = (where.config / render.CONFIGURATION).read_text()
    strict = text.replace("tune.bufsize 32768", "tune.bufsize 16384")
    files.write_atomically(where.config / render.CONFIGURATION, strict)
    door = await frontdoor.spawn(haproxy.ENGINE.command(where).argv, where.log)
    house.stack.push_async_callback(door.kill)
    assert await clock.until(lambda: _is_ready(where), seconds=5)
    long = issue(authority)
    Pair(long.certificate + authority.pem * 30, long.key).write(house.folder)
    journal = events.Journal(None)
    watched = renewal.Renewal(paths.Paths(house.folder / "tenfold.toml"), journal)

    for seconds in range(6):
        at = authority.now + datetime.timedelta(seconds=seconds)
        await watched.look(where.topology, (settings.runtime_socket(where),), at)

    assert ["certificate_refused"] == [one.kind for one in journal.recent]
    assert where.certificate is not None
    assert old.pem == where.certificate.read_bytes()
    assert old.fingerprint == await admin.certificate(settings.runtime_socket(where), where.certificate)


async def test_reloads_and_a_stopping_door_fail_no_request_under_tls(
    house: House, authority: Authority, trust: ssl.SSLContext
) -> None:
    first, second = (seat(house, number, balancers=2) for number in (0, 1))
    keep(first, issue(authority))
    await house.web(first)
    await house.door(second)
    leaving = await house.door(first)

    async with frontdoor.load(200, trust=trust) as load, http2.requests(HOST, PORT, authority.pem) as streams:
        await asyncio.sleep(0.5)
        for where in (second, first, second):
            await admin.reload(settings.master_socket(where))
            await asyncio.sleep(0.3)
        through_first = (await admin.stats(settings.runtime_socket(first))).public.requests
        leaving.signal(SIGUSR1)
        assert 0 == await leaving.ended(haproxy.ENGINE.command(first).grace_seconds)
        await asyncio.sleep(0.3)

    assert [] == load.failures
    assert through_first > 20, "the address was not shared"
    assert {"200"} == set(streams.answers)
    assert streams.connections > 1, "no door asked to leave"


async def test_tls_is_switched_on_and_off_while_requests_of_the_old_protocol_end_by_themselves(
    house: House, authority: Authority, trust: ssl.SSLContext
) -> None:
    plain, secure = seat(house, tls=False), seat(house)
    keep(secure, issue(authority))
    await house.web(plain)
    await house.door(plain)

    for now, then, old, new in ((plain, secure, None, trust), (secure, plain, trust, None)):
        idle = await frontdoor.Connection.open(trust=old)
        await idle.request()
        async with asyncio.TaskGroup() as group:
            busy = await frontdoor.Connection.open(trust=old)
            slow = group.create_task(busy.request("/slow?seconds=1", "POST"))
            await asyncio.sleep(0.3)
            frontdoor.write(then)
            assert (await admin.configure(then)).is_reloaded, now
            fresh = await frontdoor.Connection.open(trust=new)
            answer = await fresh.request()
            await fresh.close()
        last = await idle.request()
        await idle.close()
        await busy.close()

        assert (200, 200, 200) == (slow.result().status, answer.status, last.status)
        assert "close" == last.headers["connection"]


async def test_a_websocket_passes_under_tls(house: House, authority: Authority, trust: ssl.SSLContext) -> None:
    from websockets.asyncio.client import connect  # only here

    where = seat(house)
    keep(where, issue(authority))
    await house.web(where, "web-1")
    await house.door(frontdoor.with_web(where, "web-1"))

    async with connect(f"wss://{HOST}:{PORT}/echo", ssl=trust, proxy=None) as socket:
        await socket.send("hello")
        said = await socket.recv()

    assert "web-1: hello" == said


async def _is_ready(where: engines.Seat) -> bool:
    return (await haproxy.ENGINE.probe(where)).is_ready
