"""Name servers on the real PowerDNS: whom they send where, how fast they notice, and what they bear."""

import asyncio
import random
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import pytest

from support import name_servers
from support.name_servers import NameServer
from tenfold import errors
from tenfold.engines.powerdns import admin, render, settings
from tenfold.kit import clock, process
from tenfold.topology import layout
from tenfold.traffic import resolving

pytestmark = pytest.mark.anyio

SEOUL = ("198.51.100.1", "198.51.100.2")
VIRGINIA = ("198.51.100.9",)
PORT = layout.PORTS["powerdns"]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NameServer]:
    async with name_servers.running(tmp_path, name_servers.topology()) as made:
        yield made


async def becomes(server: NameServer, addresses: tuple[str, ...], subnet: str, seconds: float = 20.0) -> float:
    """Seconds until a client of this network is answered these addresses."""
    began = time.monotonic()

    async def look() -> bool:
        return (await server.ask(subnet)).addresses == addresses

    assert await clock.until(look, seconds=seconds, pause_seconds=0.02), await server.ask(subnet)
    return time.monotonic() - began


async def test_each_client_is_answered_its_region_whoever_asked_before(server: NameServer) -> None:
    """Three rounds: what PowerDNS keeps in memory for one client must not be given to another."""
    for _ in range(3):
        here, there = await server.ask("203.0.113.0/24"), await server.ask("192.0.2.7/32")
        nowhere, optout = await server.ask("100.64.0.0/24"), await server.ask("0.0.0.0/0")
        assert (SEOUL, 24, 5) == (here.addresses, here.scope, here.life_seconds)
        assert (VIRGINIA, 24) == (there.addresses, there.scope)
        assert (SEOUL, 1) == (nowhere.addresses, nowhere.scope)
        assert (SEOUL, 0) == (optout.addresses, optout.scope)
        assert SEOUL == (await server.ask()).addresses, "a resolver that tells no network is sent home"
        assert ("2001:db8::1",) == (await server.ask("2001:db8:1::/56", kind="AAAA")).addresses
        assert () == (await server.ask("192.0.2.0/24", kind="AAAA")).addresses
    assert (server.host,) == (await server.ask(name="ns1.shop.test")).addresses
    assert "network 192.0.2.0/24" == (await admin.order(server.host, "192.0.2.0/24")).reason


async def test_a_query_without_a_network_can_be_answered_the_name_servers_own_region_from_memory(
    tmp_path: Path,
) -> None:
    wanted = name_servers.topology({"without_subnet": "region"}, seoul={"primary": False}, virginia={"primary": True})
    async with name_servers.running(tmp_path, wanted) as server:
        for _ in range(20):
            assert SEOUL == (await server.ask()).addresses, "it stands in seoul"
            assert VIRGINIA == (await server.ask("192.0.2.0/24")).addresses, "that is somebody else's answer"
            assert VIRGINIA == (await server.ask("100.64.0.0/24")).addresses, "virginia is home"
        counted = await admin.counts(settings.control_socket(server.powerdns.run, "dns-1"))

    assert counted["packetcache-hit"] >= 10


async def test_answers_follow_the_health_of_regions_and_without_a_healthy_one_all_are_answered(
    server: NameServer,
) -> None:
    """Within two seconds on a quiet machine (benchmarks/name_server.py); here only that it happens at all."""
    assert SEOUL == (await server.ask("203.0.113.0/24")).addresses
    server.doors["seoul"].is_ready = False
    await becomes(server, VIRGINIA, "203.0.113.0/24")
    assert VIRGINIA == (await server.ask()).addresses
    await server.doors["virginia"].close()
    await becomes(server, (*SEOUL, *VIRGINIA), "203.0.113.0/24")
    assert {*SEOUL, *VIRGINIA} == set((await server.ask("192.0.2.0/24")).addresses)

    server.doors["seoul"].is_ready = True
    await becomes(server, SEOUL, "192.0.2.0/24")
    far = layout.layout(server.site.topology).of("virginia").balancers[0]
    await server.doors["virginia"].open(far.address(name_servers.NETWORK, seen_from=1), layout.HOME_PORT)
    await becomes(server, VIRGINIA, "192.0.2.0/24")
    assert all(one.is_up for one in (await admin.status(server.host)).regions)


async def test_garbage_floods_and_transfers_are_refused_and_counted_and_it_goes_on(server: NameServer) -> None:
    source = random.Random(7)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
        flood.connect((server.host, PORT))
        question = dns.message.make_query("shop.test", "ANY").to_wire()
        for number in range(300):
            flood.send(source.randbytes(source.randrange(1, 600)))
            flood.send(question[: number % len(question)])
            flood.send(question)
    with socket.create_connection((server.host, PORT), timeout=5) as endless:
        endless.sendall(struct.pack("!H", 65535) + source.randbytes(2000))
        transfer = dns.message.make_query("shop.test", "AXFR")
        reply = await dns.asyncquery.tcp(transfer, server.host, 5, PORT)
    assert dns.rcode.NOTAUTH == reply.rcode(), "PowerDNS's word for no"
    assert [] == reply.answer

    everything = await dns.asyncquery.udp(dns.message.make_query("shop.test", "ANY"), server.host, 5, PORT)
    assert everything.flags & dns.flags.TC, "who wants all of it has to come by TCP"
    assert [] == everything.answer
    by_tcp = await dns.asyncquery.tcp(dns.message.make_query("shop.test", "A"), server.host, 5, PORT)
    assert 2 == sum(len(one) for one in by_tcp.answer)
    assert "NXDOMAIN" == (await server.ask(name="www.shop.test")).code
    assert "REFUSED" == (await server.ask(name="example.test")).code
    assert SEOUL == (await server.ask("203.0.113.0/24")).addresses

    counted = await admin.counts(settings.control_socket(server.powerdns.run, "dns-1"))
    assert counted["corrupt-packets"] > 0
    assert counted["nxdomain-packets"] > 0
    assert counted["unauth-packets"] > 0
    assert (await admin.status(server.host)).counts["unknown"] > 0


async def test_garbage_for_the_program_beside_it_is_counted_and_it_goes_on(server: NameServer) -> None:
    reader, writer = await asyncio.open_unix_connection(str(settings.socket(server.georoute)))
    writer.write(b'nonsense\n{"method":"lookup","parameters":7}\n{"method":"setNotified"}\n')
    assert 3 * b'{"result":false}\n' == await reader.readexactly(51)
    writer.write(b"x" * 200_000)
    assert b"" == await asyncio.wait_for(reader.read(), 10), "a line without end is cut off"
    writer.close()

    assert 2 == (await admin.status(server.host)).counts["broken"]
    assert SEOUL == (await server.ask("203.0.113.0/24")).addresses


async def test_a_new_zone_is_taken_over_while_it_runs_and_a_broken_one_changes_nothing(server: NameServer) -> None:
    identity = server.site.running["dns-1", "georoute"]
    server.site.topology = name_servers.topology({"ttl": 9.0}, virginia={"addresses": ("198.51.100.77",)})
    server.site.render(server.georoute)
    await admin.take_over(server.georoute)
    await becomes(server, ("198.51.100.77",), "192.0.2.0/24")
    assert 9 == (await server.ask("192.0.2.0/24")).life_seconds

    (server.georoute.config / render.ZONE).write_text("{")

    async def is_said() -> str:
        return (await admin.status(server.host)).trouble

    assert "a zone of version 1 expected" in str(await clock.until(is_said, seconds=10))
    assert ("198.51.100.77",) == (await server.ask("192.0.2.0/24")).addresses
    server.site.topology = name_servers.topology()
    with pytest.raises(errors.EngineFailed, match="a zone of version 1 expected"):
        await admin.take_over(server.georoute, 0.2)
    assert identity.is_alive


async def test_powerdns_finds_the_program_beside_it_again_after_its_death(server: NameServer) -> None:
    identity = server.site.running["dns-1", "georoute"]
    process.send(identity, signal.SIGKILL)
    assert await process.gone(identity, 5)
    assert "SERVFAIL" == (await server.ask("203.0.113.0/24")).code
    await server.site.start(server.georoute)

    await becomes(server, SEOUL, "203.0.113.0/24")
    assert server.site.running["dns-1", "powerdns"].is_alive


async def test_a_resolver_keeps_answers_for_their_time_and_asks_the_next_name_server_when_one_is_dead(
    server: NameServer,
) -> None:
    dead = resolving.NameServer("dns-9", f"127.{name_servers.NETWORK}.9.9", PORT)
    alive = resolving.NameServer("dns-1", server.host, PORT)
    asked = resolving.Resolver("shop.test", (dead, alive), "192.0.2.0/24", {VIRGINIA[0]: "virginia"})
    found = [await asked.lookup() for _ in range(5)]

    assert {resolving.Found(VIRGINIA, 5, "dns-1")} == set(found)
    assert ("virginia", 1) == (asked.region(found[0].addresses[0]), asked.lookups)
    asked._until = 0.0
    await asked.lookup()
    assert 2 == asked.lookups
    with pytest.raises(errors.EngineFailed, match=r"no name server knows shop.test: .*127\.1\.9\.9"):
        await resolving.Resolver("shop.test", (dead,)).lookup()


async def test_two_servers_answer_alike_and_each_has_an_address_of_its_own(tmp_path: Path) -> None:
    listen = (f"127.{name_servers.NETWORK}.0.53:5353", f"127.{name_servers.NETWORK}.0.54:5353")
    wanted = name_servers.topology({"servers": 2, "listen": listen})
    async with name_servers.running(tmp_path, wanted) as server:
        for name in ("georoute", "powerdns"):
            await server.site.start(server.site.seat("dns-2", name))
        hosts = [one.rpartition(":")[0] for one in listen]
        found = [
            await resolving.Resolver("shop.test", (resolving.NameServer(host, host, 5353),), "192.0.2.0/24").lookup()
            for host in hosts
        ]
        glue = [(await server.ask(name=f"ns{number}.shop.test")).addresses for number in (1, 2)]
        await server.site.cut("dns-1")
        left = resolving.Resolver("shop.test", tuple(resolving.NameServer(host, host, 5353) for host in hosts))

        assert hosts[1] == (await left.lookup()).server

    assert [VIRGINIA, VIRGINIA] == [one.addresses for one in found]
    assert [(host,) for host in hosts] == glue
