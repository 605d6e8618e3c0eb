"""Asks the regions' doors whether they are ready, all the time, and says when a verdict changes.

Owned by `program`. It asks and counts; when a region is down or up again is `controllers/georoute`'s to judge.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterable

from tenfold import zone as zones
from tenfold.controllers import georoute

PERIOD_SECONDS = 0.4

PATIENCE_SECONDS = 1.0
"""How long a door may take to answer, which it does after two round trips, under TLS after three. Checks do not wait
for those before them: a link that swallows everything is noticed two periods later than one that breaks."""

READY = "/-/ready"

MOST_BYTES = 4096


class Checks:
    """The health of every region. `changed` is called when a verdict is another one than before."""

    def __init__(self, zone: zones.Zone, changed: Callable[[], None], rules: georoute.Rules | None = None) -> None:
        self._rules = rules or georoute.Rules()
        self._changed = changed
        self._zone = zone
        self.health = {region.name: georoute.Health() for region in zone.regions}
        self.troubles: dict[str, str] = {}
        """By region, what the last failed check found."""
        self._tls = _trusting()

    @property
    def healthy(self) -> frozenset[str]:
        """The regions that clients may be sent to."""
        return frozenset(name for name, one in self.health.items() if one.is_up)

    @property
    def is_judged(self) -> bool:
        """Whether something is known of every region."""
        return all(one.is_judged for one in self.health.values())

    def check(self, zone: zones.Zone) -> None:
        """These regions from now on; what is known of those that stay is kept, and new ones have to show themselves."""
        self._zone = zone
        new = georoute.Health(is_up=False, up_after=1)
        self.health = {one.name: self.health.get(one.name, new) for one in zone.regions}
        self.troubles = {name: text for name, text in self.troubles.items() if name in self.health}

    async def run(self) -> None:
        """Check until cancelled."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                for region in self._zone.regions:
                    group.create_task(self._look(region))
                await asyncio.sleep(PERIOD_SECONDS - loop.time() % PERIOD_SECONDS)

    async def _look(self, region: zones.Region) -> None:
        trouble = await self._ask(region.checks)
        before = self.health.get(region.name)
        if before is None:
            return  # it left while it was asked
        if trouble:
            self.troubles[region.name] = trouble
        now = asyncio.get_running_loop().time()
        self.health[region.name] = after = georoute.judge(before, not trouble, now, self._rules)
        if after.is_up != before.is_up:
            self._changed()

    async def _ask(self, doors: Iterable[zones.Check]) -> str:
        """Nothing when one of the doors is ready, else what the first one has."""
        found = await asyncio.gather(*(self._door(door) for door in doors))
        return "" if "" in found else next(iter(found), "it has no door to ask at")

    async def _door(self, door: zones.Check) -> str:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                status = await self._status(door)
        except TimeoutError:
            return f"{door.host}:{door.port} does not answer within {PATIENCE_SECONDS:g} s"
        except OSError as error:
            return f"{door.host}:{door.port}: {error.strerror or type(error).__name__}"
        return "" if status == b"200" else f"{door.host}:{door.port}{READY} says {status.decode(errors='replace')!r}"

    async def _status(self, door: zones.Check) -> bytes:
        """The status of the answer, three digits; something else is no HTTP."""
        tls = self._tls if door.is_tls else None
        name = self._zone.name if door.is_tls else None
        reader, writer = await asyncio.open_connection(
            door.host, door.port, ssl=tls, server_hostname=name, limit=MOST_BYTES
        )
        try:
            writer.write(f"GET {READY} HTTP/1.1\r\nHost: {self._zone.name}\r\nConnection: close\r\n\r\n".encode())
            begin = await reader.read(MOST_BYTES)
        finally:
            writer.transport.abort()  # nothing more is wanted of it, and closing politely may wait
        words = begin.split(b" ", 2)
        return words[1][:3] if len(words) > 1 and words[0].startswith(b"HTTP/1.") else begin[:3]


def _trusting() -> ssl.SSLContext:
    """Whose certificate it is does not matter to whether the door works; an expired one is the clients' to see."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
