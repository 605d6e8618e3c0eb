"""The program: reads the zone, checks the regions, answers, and follows changes of its files until it is stopped.

Started by `python -m tenfold.georoute` with the paths that `engines/powerdns` says. A zone that cannot be read at the
start ends it; one that becomes so while it runs changes nothing but what it says of itself.
"""

import asyncio
import sys
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tenfold import errors
from tenfold import zone as zones
from tenfold.controllers import georoute
from tenfold.georoute import answering, checking, places, serving

LOOK_SECONDS = 0.2

PURGE_SECONDS = 2.0

STATUS = b'{"method":"status"'
"""How a line of the runtime begins that wants to know how this program is."""

ORDER = b'{"method":"order"'
"""How a line begins that asks where a network is sent, and why."""

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything is."""

    zone: Path
    socket: Path
    """The unix socket where PowerDNS asks."""
    host: str
    port: int
    """Where the runtime looks in."""
    control: Path
    """PowerDNS's control socket: its memory is emptied when answers change."""


class _Ordered(msgspec.Struct):
    subnet: str = ""


@dataclass
class Program:
    """One name server's program."""

    where: Places
    trouble: str = ""
    """Why a file that has changed is not gone by."""
    _stamps: tuple[Stamp | None, ...] = ()
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.zone, self._map, self._stamps = self._read()
        self.desk = answering.Desk(self.zone)
        self.checks = checking.Checks(self.zone, self._refresh)
        self.desk.refresh(self._map, self.checks.healthy)

    async def run(self) -> None:
        """Serve until cancelled. Raises OSError when an address is in use."""
        loop = asyncio.get_running_loop()
        self.where.socket.unlink(missing_ok=True)
        looking = await loop.create_server(lambda: serving.Lines(self.answer), self.where.host, self.where.port)
        asking = await loop.create_unix_server(lambda: serving.Lines(self.answer), str(self.where.socket))
        print(f"answering for {self.zone.name}", file=sys.stderr, flush=True)
        async with looking, asking, asyncio.TaskGroup() as group:
            group.create_task(self.checks.run())
            group.create_task(self._follow())
            group.create_task(self._purge_when_changed())

    def answer(self, line: bytes) -> bytes:
        """The answer to a line of PowerDNS's or the runtime's."""
        if line.startswith(STATUS):
            return msgspec.json.encode({"result": self.status()}) + b"\n"
        if line.startswith(ORDER):
            return self._order(line)
        return self.desk.answer(line)

    def status(self) -> dict[str, object]:
        """What the runtime is told: by which zone it goes, and how the regions are, as seen from here."""
        now = asyncio.get_running_loop().time()
        return {
            "zone": zones.digest(self.zone),
            "is_judged": self.checks.is_judged,
            "trouble": self.trouble,
            "regions": [
                {
                    "name": name,
                    "is_up": one.is_up,
                    "is_judged": one.is_judged,
                    "seconds": round(now - one.changed_at, 1) if one.changed_at else None,
                    "trouble": "" if one.is_up and not one.streak else self.checks.troubles.get(name, ""),
                }
                for name, one in self.checks.health.items()
            ],
            "counts": dict(self.desk.counts),
        }

    def _order(self, line: bytes) -> bytes:
        try:
            subnet = msgspec.json.decode(line, type=_Ordered).subnet
        except msgspec.DecodeError:
            return answering.REFUSED
        order = self.desk.order(subnet)
        result = {
            "regions": [region.name for region in order.regions],
            "addresses": georoute.answers(self.zone, order, self.checks.healthy),
            "reason": order.reason,
        }
        return msgspec.json.encode({"result": result}) + b"\n"

    def _refresh(self) -> None:
        """Answers change: at once here, and PowerDNS forgets those that it keeps."""
        self.desk.refresh(self._map, self.checks.healthy)
        up, down = sorted(self.checks.healthy), sorted(set(self.checks.health) - self.checks.healthy)
        said = "; ".join(f"{name}: {self.checks.troubles.get(name, '')}" for name in down)
        print(f"healthy: {', '.join(up) or 'none'}{f'; down: {said}' if said else ''}", file=sys.stderr, flush=True)
        self._changed.set()

    async def _purge_when_changed(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._purge()

    async def _purge(self) -> None:
        """Best effort: what PowerDNS keeps, it keeps for a second."""
        try:
            async with asyncio.timeout(PURGE_SECONDS):
                reader, writer = await asyncio.open_unix_connection(str(self.where.control))
                try:
                    writer.write(b"PURGE\n")
                    await writer.drain()
                    await reader.read(64)
                finally:
                    writer.transport.abort()
        except OSError:
            return  # it is not there yet, or not any more, and so keeps nothing

    async def _follow(self) -> None:
        """Take over files that have changed; one that cannot be read is said, and the last one holds."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if _stamps(self.where.zone, self.zone.maxmind) == self._stamps:
                continue
            try:
                self.zone, self._map, self._stamps = await asyncio.to_thread(self._read)
                self.trouble = ""
            except errors.BadBindings as error:
                self._stamps = _stamps(self.where.zone, self.zone.maxmind)
                self.trouble = str(error)
                print(f"the last zone holds: {error}", file=sys.stderr, flush=True)
                continue
            self.checks.check(self.zone)
            self._refresh()

    def _read(self) -> tuple[zones.Zone, georoute.Map, tuple[Stamp | None, ...]]:
        zone = zones.load(self.where.zone)
        stamps = _stamps(self.where.zone, zone.maxmind)
        return (
            zone,
            georoute.Map(zone, places.load(Path(zone.maxmind)) if zone.maxmind else georoute.knows_nothing),
            stamps,
        )


def _stamps(zone: Path, maxmind: str) -> tuple[Stamp | None, ...]:
    return tuple(_stamp(path) for path in (zone, *([Path(maxmind)] if maxmind else [])))


def _stamp(path: Path) -> Stamp | None:
    """What changes when a file is replaced or written: inode, time, size."""
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_mtime_ns, seen.st_size
