"""The floors of one process: what `parts.Floors` promises, made of the table and of who keeps it up to date.

Made by `cache`, one a `Tenfold`. Decides when the table may be trusted: as long as its channel is whole and the
database has been read since it became so, from the primary; or for a moment after any reading.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence

from tenfold import errors, position, request
from tenfold.sdk import counters
from tenfold.sdk.cache import channel, delivery, following, listening, table
from tenfold.sdk.db import connect, database, stamps, transaction
from tenfold.sdk.valkey import client

log = logging.getLogger("tenfold.cache")

LENT_SECONDS = 0.05
"""How long a reading of the database is trusted while the channel is broken: as long as news may take to arrive."""


class Floors(table.Table):
    """The table of one shard, kept up to date."""

    def __init__(self, tf_db: database.Database, servers: client.Client, shard: int = 0) -> None:
        super().__init__(shard)
        self._database = tf_db
        self._servers = servers
        self._stamps = stamps.Stamps(tf_db.shards, shard)
        self._following = following.Following(tf_db.shards, self, self)
        self._delivery = delivery.Delivery(tf_db.shards, self, self.turned)
        self._losses = 0
        """How often something may have been missed: a reading that began before the last time is no reason to trust."""
        self._channel: channel.Channel | None = None
        self._listening: asyncio.Task[None] | None = None
        self._redelivering: asyncio.Task[None] | None = None
        self._lending: asyncio.TimerHandle | None = None
        tf_db.shards.takers.invalidator = self._delivery

    @property
    def is_sure(self) -> bool:
        """Whether the table is trusted because its channel is whole, not only for a moment."""
        return self.is_trusted and self._lending is None

    async def start(self) -> None:
        """Begin to follow, from nothing. Neither the database nor the cache's servers need to answer."""
        self.forget()
        shard = self._database.shards.by_number.get(self.shard)
        if shard is not None:
            shard.turned = self.turned
        self.update()

    def update(self) -> None:
        """Take the channel that fits the bindings: the cache's servers, or the database where there are none."""
        made: channel.Channel
        if self._servers.is_there:
            made = channel.ValkeyChannel(self._servers, self)
        else:
            made = listening.PostgresChannel(self._database.shards, self.shard, self)
        if type(made) is type(self._channel):
            return
        if self._listening is not None:
            self._listening.cancel()
        self.lost()
        self._channel = self._delivery.channel = made
        self._listening = asyncio.get_running_loop().create_task(made.run(), name="tenfold-cache-channel")
        self._listening.add_done_callback(_report)

    async def stop(self) -> None:
        """End everything; what was not told yet is told by others. Twice is once."""
        await self._delivery.stop()
        tasks = [task for task in (self._listening, self._redelivering) if task is not None]
        self._listening = self._redelivering = self._channel = self._delivery.channel = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._following.stop()
        await self._stamps.stop()
        if self._lending is not None:
            self._lending.cancel()
        self.distrust()

    async def reach(self, wanted: position.Position | None, until: float) -> bool:
        """Learn the floors up to `wanted` (None: only regain trust). False when that did not work until `until`."""
        if self.is_trusted and (wanted is None or self.is_complete(wanted)):
            return True
        with request.recording().span("cache", "catch up") as span:
            behind = f"it must know what {wanted} made stale" if self.is_trusted else "its channel is not whole"
            span.decide(f"the floors were read from the database: {behind}")
            counters.add("cache.catch_ups")
            return await self._following.reach(wanted, until, is_primary=not self.is_trusted)

    async def stamp(self, serving: request.Request, until: float) -> position.Position | None:
        """Pin this request's reads to a node that has all it has `seen`, and say how far that node has come."""
        found = await self._stamps.stamp(serving, until, above=self.newest)
        if found is not None and self.timeline and (found.epoch, found.timeline) > (self.epoch, self.timeline):
            self.turned()
        return found

    async def invalidate(self, *, tags: Sequence[str] = (), keys: Sequence[str] = ()) -> None:
        """Make what is cached under these stale, in a transaction of its own; on return it is so here.

        Elsewhere it is when `tx.invalidate` says. Raises what `tf.db.run` raises.
        """
        if transaction.current() is not None:
            raise errors.InsideTransaction(
                "tf.cache.invalidate found inside an open transaction of the same task; write "
                "`await tx.invalidate(...)`, with its `tx`: stale with it, or not at all"
            )
        delivery.slots_of(tags, keys)

        async def record(tx: transaction.Transaction) -> None:
            await tx.invalidate(tags=tags, keys=keys)

        await self._database.run(record)

    def raise_to(self, floor: position.Position, slots: Iterable[int]) -> None:
        """What is cached under these slots is stale up to the floor."""
        if self.timeline and (floor.epoch, floor.timeline) > (self.epoch, self.timeline):
            self.turned()
        super().raise_to(floor, slots)

    def enter(self, epoch: int, timeline: int) -> bool:
        """Go on to a newer timeline, if it is one."""
        is_first = self.timeline == 0
        has_entered = super().enter(epoch, timeline)
        if has_entered and not is_first:
            self._losses += 1
            if self._channel is not None:
                self._channel.turn()
        return has_entered

    def hear(self, floor: position.Position, slots: Sequence[int]) -> None:
        """A floor was raised somewhere."""
        counters.add("cache.floors_heard")
        self.raise_to(floor, slots)

    def lost(self) -> None:
        """Something may have been missed."""
        if self.is_trusted:
            log.info("what becomes stale is not heard: nothing cached is used until it was read from the database")
        self._losses += 1
        self.distrust()

    def turned(self) -> None:
        """The database goes on on another timeline, or something was committed that nobody knows the floor of."""
        self.lost()
        if self._channel is not None:
            self._channel.turn()

    def begins(self) -> object:
        """A reading of the database begins."""
        is_whole = self._channel is not None and self._channel.is_whole
        return self._losses, is_whole

    def caught_up(self, mark: object, *, is_primary: bool) -> None:
        """The table is complete up to where a node was. With a channel that is whole that lasts, else for a moment."""
        is_best = is_primary or self._database.shards.shard(self.shard).primary is None
        if mark == (self._losses, True) and is_primary:
            self._take_back()
            self.trust()
        elif mark == (self._losses, False) and is_best:
            self._take_back()
            self.trust()
            self._lending = asyncio.get_running_loop().call_later(LENT_SECONDS, self._lent)

    def overdue(self) -> None:
        """Somebody has committed and not told of it."""
        if self._redelivering is None or self._redelivering.done():
            self._redelivering = asyncio.get_running_loop().create_task(
                self._redeliver(), name="tenfold-cache-redeliver"
            )

    async def pulse(self) -> None:
        """Read what is new from the database, from the primary while there is no trust."""
        now = asyncio.get_running_loop().time()
        await self._following.reach(None, now + following.ROUND_SECONDS, is_primary=not self.is_sure)
        await self._prune(now)

    async def pulse_on(self, connection: object) -> None:
        """The same, on this connection to the primary. Raises what a database raises."""
        if not await self._following.read(connection, is_primary=True):
            raise connect.UnreachableError("the node that was listened to is no longer the primary")
        await self._prune(asyncio.get_running_loop().time())

    async def _prune(self, now: float) -> None:
        try:
            await self._delivery.prune(now)
        except (errors.TenfoldError, *connect.ANSWERS) as error:
            log.debug("old invalidations were not deleted: %s", error)

    def _take_back(self) -> None:
        if self._lending is not None:
            self._lending.cancel()
            self._lending = None

    def _lent(self) -> None:
        self._lending = None
        self.distrust()

    async def _redeliver(self) -> None:
        try:
            await self._delivery.redeliver()
        except (errors.TenfoldError, *connect.ANSWERS) as error:
            log.debug("invalidations that nobody told of were not delivered: %s", error)


def _report(task: "asyncio.Task[None]") -> None:
    """A channel that ends by itself is a flaw of ours: say so, loudly, with its traceback."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("%s ended: this process no longer hears what becomes stale", task.get_name(), exc_info=error)
