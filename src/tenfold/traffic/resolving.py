"""A client's resolver: asks the service's own name servers, and keeps an answer as long as it may be kept.

Used by `tenfold load --via-dns`, `tenfold trace` and `tenfold dns`. It asks as a client of one region would: the name
servers of that region first, with a network of that region where there is one. It never asks this machine's resolver.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from tenfold import errors
from tenfold.engines.powerdns import questions

SECONDS = 1.0
"""How long one name server may take before the next one is asked."""


@dataclass(frozen=True, slots=True)
class NameServer:
    """A name server, and where it answers."""

    name: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a name stands for now."""

    addresses: tuple[str, ...]
    life_seconds: int
    server: str
    """The name server that said so."""


@dataclass
class Resolver:
    """One for all clients of a place. `lookup` asks again when the last answer may not be kept any longer."""

    name: str
    """The service's domain."""
    servers: tuple[NameServer, ...]
    """In the order in which they are asked."""
    subnet: str = ""
    """The network that is told; empty: none."""
    regions: Mapping[str, str] = field(default_factory=dict)
    """By address, the region that it belongs to."""
    lookups: int = 0
    """How often a name server was asked, successfully."""
    _found: Found | None = None
    _until: float = 0.0
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def lookup(self) -> Found:
        """The answer that holds now. Raises EngineFailed when no name server gives one."""
        async with self._asking:
            if self._found is None or time.monotonic() >= self._until:
                self._found = await self._ask()
                self._until = time.monotonic() + self._found.life_seconds
            return self._found

    def region(self, address: str) -> str:
        """The region of an address; the address itself when nobody knows."""
        return self.regions.get(address, address)

    @property
    def current(self) -> tuple[str, ...]:
        """The addresses of the last answer."""
        return self._found.addresses if self._found else ()

    async def _ask(self) -> Found:
        trouble = "there is none"
        for server in self.servers:
            try:
                said = await questions.ask(server.host, server.port, self.name, subnet=self.subnet, seconds=SECONDS)
            except errors.EngineFailed as error:
                trouble = str(error)
                continue
            if said.addresses:
                self.lookups += 1
                return Found(said.addresses, said.life_seconds, server.name)
            trouble = f"{server.name} says {said.code}"
        raise errors.EngineFailed(f"no name server knows {self.name}: {trouble}")
