"""The program: listens wherever one region meets another, follows changes of its files, and says what it carries.

Started by `python -m tenfold.wan FOLDER HOST PORT`. A network that cannot be read at the start ends it; one that
becomes so while it runs changes nothing but what it says of itself. An address that it cannot have it asks for again
and again.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tenfold.wan import network
from tenfold.wan.crossing import Crossing, End
from tenfold.wan.lane import Lane

LOOK_SECONDS = 0.1

BACKLOG = 1024

Place = tuple[str, int]
"""An address and port to listen on."""


@dataclass
class Program:
    """The program, from its first reading of the network to its end."""

    folder: Path
    host: str
    port: int
    joined: network.Network = field(default_factory=network.Network)
    digest: str = ""
    lanes: dict[tuple[str, str], Lane] = field(default_factory=dict)
    """By source and target."""
    servers: dict[Place, tuple[network.Road, asyncio.Server]] = field(default_factory=dict)
    crossings: set[Crossing] = field(default_factory=set)
    """The connections that are open."""
    troubles: dict[str, str] = field(default_factory=dict)
    _stamps: dict[str, tuple[int, ...]] = field(default_factory=dict)

    async def run(self) -> None:
        """Serve until cancelled. Raises BadNetworkError when there is no network to begin with, OSError when nobody
        could ask how it is."""
        self._read_network()
        try:
            async with await asyncio.start_server(self._say, self.host, self.port):
                while True:
                    await self._listen()
                    await asyncio.sleep(LOOK_SECONDS)
                    self._look()
        finally:
            for _, server in self.servers.values():
                server.close()
            for one in tuple(self.crossings):
                one.close()
            await asyncio.sleep(0)  # what was closed is gone with the next turn of the event loop

    def figures(self) -> network.Figures:
        """What it says of itself."""
        links = tuple(
            network.Carried(name=link.name, is_cut=any(one.is_cut for one in lanes), directions=_directions(lanes))
            for link in self.joined.links
            if (lanes := self._lanes_of(link.name))
        )
        return network.Figures(digest=self.digest, links=links, troubles=tuple(self.troubles.values()))

    def _look(self) -> None:
        """Take over files that have changed; one that cannot be read is a trouble until it can."""
        for name, take in ((network.FILE, self._read_network), (network.CUTS, self._read_cuts)):
            if self._has_changed(name):
                try:
                    take()
                    self.troubles.pop(name, None)
                except network.BadNetworkError as error:
                    self.troubles[name] = str(error)

    def _read_network(self) -> None:
        self._take_network(*network.read(self.folder / network.FILE))
        self._read_cuts()  # a new link may be among those that are cut

    def _read_cuts(self) -> None:
        self._take_cuts(network.read_cuts(self.folder / network.CUTS))

    def _has_changed(self, name: str) -> bool:
        try:
            seen = (self.folder / name).stat()
            stamp: tuple[int, ...] = (seen.st_ino, seen.st_mtime_ns, seen.st_size)
        except OSError:
            stamp = ()
        was, self._stamps[name] = self._stamps.get(name), stamp
        return was != stamp

    def _take_network(self, found: network.Network, digest: str) -> None:
        self.joined, self.digest = found, digest
        links = {link.name: link for link in found.links}
        for road in found.roads:
            for pair in ((road.source, road.target), (road.target, road.source)):
                lane = self.lanes.setdefault(pair, Lane(*pair))
                lane.become(links.get(road.link, network.Link(name=road.link)))

    def _take_cuts(self, names: frozenset[str]) -> None:
        for link in self.joined.links:
            for lane in self._lanes_of(link.name):
                if link.name in names:
                    lane.cut()
                elif lane.is_cut:
                    lane.heal()

    def _lanes_of(self, link: str) -> list[Lane]:
        pairs = {(road.source, road.target) for road in self.joined.roads if road.link == link}
        both = pairs | {(target, source) for source, target in pairs}
        return [self.lanes[pair] for pair in sorted(both)]

    async def _listen(self) -> None:
        """Listen on every address of the network, and on no other."""
        wanted = {(road.listen, port): road for road in self.joined.roads for port in road.ports}
        for place in [one for one, (road, _) in self.servers.items() if wanted.get(one) != road]:
            self.servers.pop(place)[1].close()
        for place in [one for one in wanted if one not in self.servers]:
            await self._listen_on(place, wanted[place])

    async def _listen_on(self, place: Place, road: network.Road) -> None:
        def end() -> End:
            lanes = (self.lanes[road.source, road.target], self.lanes[road.target, road.source])
            crossing = Crossing(lanes, (road.address, place[1]), self.crossings.discard)
            self.crossings.add(crossing)
            return End(crossing, is_asker=True)

        host, port = place
        try:
            server = await asyncio.get_running_loop().create_server(end, host, port, backlog=BACKLOG)
        except OSError as error:
            self.troubles[f"{host}:{port}"] = f"{host}:{port}: {error.strerror or error}"
            return
        self.troubles.pop(f"{host}:{port}", None)
        self.servers[place] = (road, server)

    async def _say(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(msgspec.json.encode(self.figures()))
        writer.close()


def _directions(lanes: list[Lane]) -> tuple[network.Direction, ...]:
    return tuple(lane.figures() for lane in lanes)
