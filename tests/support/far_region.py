"""Another region for tests of the SDK: one edge and one database of it are met through a real network between the two.

Used by tests/engines/test_purge_regions.py and benchmarks/purge.py. The network is the program that the runtime starts
(`tenfold.wan`), in a PID namespace, so that nothing survives the test.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tenfold.kit import clock, enclosure
from tenfold.topology import layout
from tenfold.wan import network

HOME, FAR = "home", "virginia"
LINK = f"{HOME}-{FAR}"
PORT = 5400


@dataclass
class Link:
    """What lies between the two regions."""

    folder: Path
    number: int
    """N of 127.N.0.0/16."""
    edge: str
    """The address of the edge in the other region."""
    database: str
    """The address of the database there."""

    @property
    def host(self) -> str:
        """Where the program says how it is."""
        return f"127.{self.number}.250.250"

    def seen(self, address: str) -> str:
        """Where a server of the other region is met from home."""
        return f"127.{self.number}.250.{1 + (self.edge, self.database).index(address)}"

    async def become(self, **link: float) -> None:
        """It is like this from now on: `delay_seconds`, and what else a link has."""
        roads = tuple(
            network.Road(link=LINK, source=HOME, target=FAR, listen=self.seen(address), address=address, ports=(port,))
            for address, port in ((self.edge, layout.PURGE_PORT), (self.database, layout.PORTS["postgres"]))
        )
        found = network.Network(links=(network.Link(name=LINK, **link),), roads=roads)  # type: ignore[arg-type]
        content = msgspec.json.encode(found)
        (self.folder / network.FILE).write_bytes(content)

        async def look() -> bool:
            figures = await self._figures()
            return figures is not None and figures.digest == network.digest(content) and not figures.troubles

        assert await clock.until(look, seconds=20, pause_seconds=0.02)

    async def cut(self, *, is_cut: bool = True) -> None:
        """Nothing comes through, in silence; or again what comes."""
        (self.folder / network.CUTS).write_bytes(msgspec.json.encode([LINK] if is_cut else []))

        async def look() -> bool:
            figures = await self._figures()
            return figures is not None and figures.links[0].is_cut == is_cut

        assert await clock.until(look, seconds=20, pause_seconds=0.02)

    async def _figures(self) -> network.Figures | None:
        try:
            reader, writer = await asyncio.open_connection(self.host, PORT)
        except OSError:
            return None
        try:
            return msgspec.json.decode(await reader.read(), type=network.Figures)
        finally:
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def joined(folder: Path, number: int, edge: str, database: str) -> AsyncIterator[Link]:
    """The network, without any delay."""
    folder.mkdir()  # noqa: ASYNC240 - in memory
    made = Link(folder, number, edge, database)
    (folder / network.FILE).write_bytes(msgspec.json.encode(network.Network()))
    machine = await enclosure.make(enclosure.new_marker(), folder / "server.log")
    try:
        argv = [sys.executable, "-m", "tenfold.wan", str(folder), made.host, str(PORT)]
        await machine.spawn("wan", argv, env={}, log=folder / "wan.log", directory=folder)
        await made.become()
        yield made
    finally:
        assert await machine.cut()
