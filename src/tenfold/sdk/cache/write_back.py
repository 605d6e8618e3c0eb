"""`tf.cache.write_back`: puts that are acknowledged when they are durable, and reach the database in batches.

Made by `cache`. A put goes into a stream in the cache's servers, or into a table of the database when there are no
servers or they do not keep it; `flushing` gives each of them to the app's function exactly once. Never inside an open
transaction: a put is durable whatever becomes of it.
"""

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from tenfold import errors
from tenfold.sdk import counters, db, valkey
from tenfold.sdk.cache import flushing, journal, lanes, values
from tenfold.sdk.db import transaction

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")

MOST_KEY_BYTES = 1024

Durable = Literal["disk", "replica"]


class WriteBack:
    """One kind of puts, with the function that flushes them."""

    def __init__(self, name: str, plan: flushing.Plan, durable: Durable, codec: values.Codec) -> None:
        self.name = name
        self._plan = plan
        self._durable = durable
        self._codec = codec
        self._database: db.Database | None = None
        self._lanes: list[lanes.Lane] = []
        self._flusher: flushing.Flusher | None = None

    async def put(self, key: str, value: Any) -> None:
        """Return once the put is durable; the flush comes later, in whichever process.

        It is durable when a cache server and its replica have it in memory and in their append-only files (with
        `durable="disk"`: on their disks, which takes up to a second), or in the database. Raises `NotEncodable`,
        `TooLarge`, `InsideTransaction`, and what the database raises when neither can take it: then it may or may not
        be flushed.
        """
        if self._flusher is None or self._database is None:
            raise errors.NotStarted(f"write_back {self.name!r}: put before the Tenfold was started; await tf.start()")
        if transaction.current() is not None:
            raise errors.InsideTransaction(
                f"write_back {self.name!r}: put found inside an open transaction, whose rollback would not undo it; "
                "put after the commit, or with tx.after_commit(...)"
            )
        one = journal.Written(uuid.uuid4(), key, self._written(key, value))
        await self._lanes[journal.lane_of(key)].put(one, journal.add(self.name, one))
        counters.add("cache.write_back_puts")
        self._flusher.noticed()

    async def drain(self, *, seconds: float = 30.0) -> bool:
        """Flush what was put so far, by whichever process. False when something is left after so many seconds."""
        if self._flusher is None:
            raise errors.NotStarted(f"write_back {self.name!r}: drained before the Tenfold was started")
        return await self._flusher.drain(seconds)

    def start(self, database: db.Database, servers: valkey.Client) -> None:
        """Begin to take puts, and to flush."""
        self._database = database
        is_disk = self._durable == "disk"
        streams = [journal.stream(self.name, lane) for lane in range(journal.LANES)]
        self._lanes = [lanes.Lane(servers, stream, self._keep, is_disk=is_disk) for stream in streams]
        self._flusher = flushing.Flusher(self.name, self._plan, self._codec, database, servers)
        self._flusher.start()

    async def stop(self) -> None:
        """Finish the puts that are under way, and leave the rest to other processes. Twice is once."""
        for lane in self._lanes:
            await lane.settled()
        flusher, self._flusher = self._flusher, None
        if flusher is not None:
            await flusher.stop()

    def _written(self, key: str, value: Any) -> bytes:
        if not key or len(key.encode()) > MOST_KEY_BYTES:
            raise errors.TooLarge(
                f"write_back {self.name!r}: a key of {len(key.encode())} bytes found, 1 to {MOST_KEY_BYTES} expected"
            )
        written = self._codec.encode(value)
        if len(written) > values.MOST_BYTES:
            raise errors.TooLarge(
                f"write_back {self.name!r}: {key[:80]!r}: a value of {len(written)} bytes found, at most "
                f"{values.MOST_BYTES} expected; put what it is named by"
            )
        return written

    async def _keep(self, puts: Sequence[journal.Written]) -> None:
        """What the servers do not keep, the database does."""
        assert self._database is not None
        await journal.keep(self._database, self.name, puts)
        counters.add("cache.write_back_in_database", len(puts))


class WriteBacks:
    """Every write-back of a service: declared at import, running from start to stop."""

    def __init__(self, database: db.Database, servers: valkey.Client) -> None:
        self._database = database
        self._servers = servers
        self._made: dict[str, WriteBack] = {}
        self._is_started = False

    def make(
        self,
        name: str,
        *,
        flush: Callable[..., Awaitable[None]],
        most: int = 500,
        seconds: float = 1.0,
        durable: Durable = "replica",
        type: Any = None,
    ) -> WriteBack:
        """Declare one. `flush(tx, puts)` gets up to `most` puts at least every `seconds`, each exactly once."""
        if not NAME.fullmatch(name):
            raise errors.MisuseError(
                f"write_back: the name {name!r} found, lower-case letters, digits and ._- expected, 63 at most"
            )
        if name in self._made:
            raise errors.MisuseError(f"write_back: {name!r} is declared twice; give each its own name")
        if most < 1 or seconds <= 0 or durable not in ("disk", "replica"):
            raise errors.MisuseError(
                f"write_back {name!r}: most={most}, seconds={seconds}, durable={durable!r} found; at least 1, more "
                'than 0, and "disk" or "replica" expected'
            )
        made = WriteBack(name, flushing.Plan(flush, most, seconds), durable, values.codec(type))
        self._made[name] = made
        if self._is_started:
            made.start(self._database, self._servers)
        return made

    def start(self) -> None:
        """Begin."""
        self._is_started = True
        for one in self._made.values():
            one.start(self._database, self._servers)

    async def stop(self) -> None:
        """Finish what is under way; what waits is flushed by others, or after the next start. Twice is once."""
        self._is_started = False
        await asyncio.gather(*(one.stop() for one in self._made.values()))
