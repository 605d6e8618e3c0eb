"""The race that every cache loses: a reader loads, a writer commits and invalidates, the reader keeps the old value.

Many rounds of it at the same time, over several processes' caches, with everything delayed by chance (`chaos`). Each
value says of which version it is and when its load began, so that what is stale is told from what is merely read from a
replica by somebody who has written nothing.
"""

import asyncio
import itertools
import random
from collections import Counter, deque
from dataclasses import dataclass, field

from support.processes_with_floors import Process
from tenfold import position, request
from tenfold.sdk.db import transaction

KEYS = 48

TABLES = """
create table race (id int primary key, version int not null);
insert into race select i, 0 from generate_series(0, 999) as i;
"""

WRITE = "update race set version = version + 1 where id = $1 returning version"
READ = "select version from race where id = $1"


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A write whose commit has returned."""

    key: int
    version: int
    moment: int
    process: Process
    seen: position.Positions


@dataclass
class Race:
    """Rounds, and what they have found. `is_shared`: the processes share cache servers."""

    processes: list[Process]
    chance: random.Random
    is_shared: bool
    counts: Counter[str] = field(default_factory=Counter)
    stale: list[str] = field(default_factory=list)
    """What must not be, in words."""
    _moments: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _last: dict[tuple[int, int], Acknowledged] = field(default_factory=dict)
    """By key and process: the last write that its own commits have acknowledged."""
    _recent: "deque[Acknowledged]" = field(default_factory=lambda: deque(maxlen=64))

    async def run(self, rounds: int, workers: int) -> None:
        """So many rounds, by so many workers at once."""
        left = iter(range(rounds))

        async def work() -> None:
            for _ in left:
                await self.round()

        await asyncio.gather(*(work() for _ in range(workers)))

    async def round(self) -> None:
        """One write and its reads, or one read."""
        key = self.chance.randrange(KEYS)
        roll = self.chance.random()
        if roll < 0.3:
            await self._write(key)
        elif roll < 0.6 and self._recent:
            await self._read_as_its_writer(self.chance.choice(self._recent))
        else:
            await self._read_as_anybody(key)

    async def _write(self, key: int) -> None:
        process, serving = self.chance.choice(self.processes), request.Request(is_known=True)

        async def write(tx: transaction.Transaction) -> int:
            version = await tx.fetchval(WRITE, key)
            await tx.invalidate(tags=[f"race:{key}"])
            return int(version)

        with request.serving(serving):
            version = await process.db.run(write)  # again, when its connection is one of those that are cut
        written = Acknowledged(key, version, next(self._moments), process, serving.seen)
        self.counts["writes"] += 1
        self._recent.append(written)
        for number, other in enumerate(self.processes):
            known = self._last.get((key, number))
            is_here = other is process or self.is_shared
            if is_here and (known is None or known.version < version):
                self._last[key, number] = written
        if self.chance.random() < 0.5:
            await self._read_as_its_writer(written)

    async def _read_as_its_writer(self, written: Acknowledged) -> None:
        """Whoever carries the position of a write sees it, in whatever process."""
        process = self.chance.choice(self.processes)
        with request.serving(request.Request(is_known=True, seen=written.seen)):
            version, _ = await self._read(process, written.key)
        self.counts["reads after a write"] += 1
        if version < written.version:
            self.stale.append(f"key {written.key}: {version} served to a session that has come to {written.version}")

    async def _read_as_anybody(self, key: int) -> None:
        """Who has written nothing may be given what was loaded from a replica, but nothing that was made stale."""
        number = self.chance.randrange(len(self.processes))
        process = self.processes[number]
        known = self._last.get((key, number))
        if self.is_shared and known is not None and known.process is not process:
            process.cache.clear()  # what another process keeps itself it may use for some milliseconds more
        with request.serving(request.Request()):
            version, began = await self._read(process, key)
        self.counts["reads"] += 1
        if known is not None and version < known.version and began < known.moment:
            self.stale.append(
                f"key {key}: {version} served, whose load began before {known.version} had been acknowledged"
            )

    async def _read(self, process: Process, key: int) -> tuple[int, int]:
        async def load() -> tuple[int, int]:
            began = next(self._moments)
            self.counts["loads"] += 1
            return await process.db.fetchval(READ, key), began

        version, began = await process.cache.get_or_load(f"race:{key}", load, ttl=600, tags=[f"race:{key}"])
        return version, began
