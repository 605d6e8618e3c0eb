"""Name servers on their real engine, before front doors that are small HTTP servers and can be made to fail."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from support import seats
from tenfold import engines
from tenfold.engines import powerdns
from tenfold.engines.powerdns import questions
from tenfold.topology import layout, tiers

ENGINES = {"powerdns": powerdns.ENGINE, "georoute": powerdns.GEOROUTE}

NETWORK = 1

HOME_DOOR = f"127.{NETWORK}.0.1:8080"


class Door:
    """A region's front door, as far as name servers look at it."""

    def __init__(self) -> None:
        self.is_ready = True
        self.asked = 0
        self._server: asyncio.Server | None = None

    async def open(self, host: str, port: int) -> None:
        """Take connections; again after `close`."""
        self._server = await asyncio.start_server(self._answer, host, port, reuse_address=True)

    async def close(self) -> None:
        """Refuse them."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"GET /-/ready HTTP/1.1\r\nHost: shop.test\r\n")
            self.asked += 1
            status = b"200 OK" if self.is_ready else b"503 Service Unavailable"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # whoever asked has heard enough
        finally:
            writer.close()


class NameServer:
    """dns-1 of a service with two regions, seoul (home, where it stands) and virginia."""

    def __init__(self, site: seats.Site, doors: dict[str, Door]) -> None:
        self.site = site
        self.doors = doors

    @property
    def powerdns(self) -> engines.Seat:
        return self.site.seat("dns-1", "powerdns")

    @property
    def georoute(self) -> engines.Seat:
        return self.site.seat("dns-1", "georoute")

    @property
    def host(self) -> str:
        return self.powerdns.address

    async def ask(self, subnet: str = "", *, name: str = "shop.test", kind: str = "A") -> questions.Answer:
        return await questions.ask(self.host, layout.PORTS["powerdns"], name, subnet=subnet, kind=kind)


def topology(dns: dict[str, Any] | None = None, **regions: Any) -> tiers.Topology:
    """Two regions, each with a network of clients, in two places of the world."""
    seoul = {
        "primary": True,
        "networks": ("203.0.113.0/24", "2001:db8:1::/48"),
        "addresses": ("198.51.100.1", "198.51.100.2", "2001:db8::1"),
        "location": {"latitude": 37.57, "longitude": 126.98},
    }
    virginia = {
        "networks": ("192.0.2.0/24",),
        "addresses": ("198.51.100.9",),
        "location": {"latitude": 38.9, "longitude": -77.0},
    }
    return tiers.Topology.model_validate(
        {
            "service": {"name": "shop", "app": "shop.web:app", "listen": HOME_DOOR, "domain": "shop.test"},
            "dns": {"servers": 1, **(dns or {})},
            "regions": {
                "seoul": {**seoul, **regions.get("seoul", {})},
                "virginia": {**virginia, **regions.get("virginia", {})},
            },
        }
    )


@asynccontextmanager
async def running(folder: Path, wanted: tiers.Topology) -> AsyncIterator[NameServer]:
    """The name server, ready, and both doors open."""
    async with seats.site(folder, wanted, ENGINES, NETWORK) as site:
        far = layout.layout(wanted).of("virginia").balancers[0].address(NETWORK, seen_from=1)
        doors = {"seoul": Door(), "virginia": Door()}
        host, _, port = HOME_DOOR.rpartition(":")
        await doors["seoul"].open(host, int(port))
        await doors["virginia"].open(far, layout.HOME_PORT)
        server = NameServer(site, doors)
        try:
            for seat in (server.georoute, server.powerdns):
                await site.start(seat)
            yield server
        finally:
            for door in doors.values():
                await door.close()
