"""The SDK's own eyes: one connection to each node that asks for its role and position again and again.

Owned by `primary.Shards`, one `Prober` a node. It only reports what it sees (`Shard.saw`, `Shard.lost`); that way a
failover needs nobody's help, the runtime's least of all.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Any

import asyncpg

from tenfold import position
from tenfold.sdk.db import classify, connect, nodes

log = logging.getLogger("tenfold.db")

ANSWER_SECONDS = 1.0
"""A node that does not answer for so long is as good as gone."""

CATCHING_UP_SECONDS = 0.002
"""Between two looks at a replica while a read waits for it to catch up."""
FAILING_OVER_SECONDS = 0.02
"""Between two looks while somebody waits for a primary."""
BUSY_SECONDS = 0.1
"""Between two looks while there is traffic."""
IDLE_SECONDS = 1.0
"""Between two looks while there is none."""

HISTORY_RETRY_SECONDS = 5.0
"""After the timeline history, or the epochs, could not be read (migrations make both), how long until the next try."""

FUNCTIONS_RETRY_SECONDS = 30.0
"""How often at most the database is asked again which functions only read."""

QUESTION = """
select is_standby, {epoch} as epoch,
       current_setting('default_transaction_read_only') = 'on' as is_fenced,
       case when is_standby
            then coalesce((select received_tli from pg_stat_wal_receiver),
                          (select timeline_id from pg_control_checkpoint()))
            else ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::int end as timeline,
       pg_wal_lsn_diff(case when is_standby then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end,
                       '0/0')::int8 as lsn
  from (select pg_is_in_recovery() as is_standby offset 0) as node
"""
"""One row: the role, whether new transactions may write, the timeline, the position. Never the insert LSN: it can lie
past anything that a replica will replay. The timeline not from the checkpoint on a primary: that lags a promotion."""

PLAIN, WITH_EPOCH = QUESTION.format(epoch="0"), QUESTION.format(epoch="(select max(number) from tenfold.epoch)")

HAS_EPOCHS = "select coalesce(has_table_privilege(to_regclass('tenfold.epoch'), 'select'), false)"


async def ask(connection: "asyncpg.Connection[Any]", shard: nodes.Shard) -> nodes.Sighting:
    """What the node on the other side is, and how far it has come: it was so before this returned.

    The epoch is the copy's own, of the same moment: a copy that does not show a promotion yet proves nothing about it.
    """
    asked_at = asyncio.get_running_loop().time()
    try:
        row = await connection.fetchrow(WITH_EPOCH if shard.has_epochs else PLAIN, timeout=ANSWER_SECONDS)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):  # a copy that has not replayed that far
        row = await connection.fetchrow(PLAIN, timeout=ANSWER_SECONDS)
    assert row is not None
    return nodes.Sighting(
        asked_at=asked_at,
        epoch=max(shard.epoch, row["epoch"] or 0),
        is_primary=not row["is_standby"],
        accepts_writes=not row["is_standby"] and not row["is_fenced"],
        timeline=row["timeline"] or 0,
        lsn=row["lsn"] or 0,
    )


class Prober:
    """Looks at one node until it is stopped. `poke` ends the pause between two looks."""

    def __init__(
        self,
        shard: nodes.Shard,
        node: nodes.Node,
        connector: connect.Connector,
        classifier: classify.Classifier,
    ) -> None:
        self._shard = shard
        self._node = node
        self._connector = connector
        self._classifier = classifier
        self._connection: asyncpg.Connection[Any] | None = None
        self._poked = asyncio.Event()
        self._failures = 0
        self._ask_history_at = 0.0
        self._ask_functions_at = 0.0
        self._ask_epochs_at = 0.0
        self.has_looked = False
        """Whether the first look is over, whatever it saw."""

    def poke(self) -> None:
        """Look now."""
        self._poked.set()

    async def run(self) -> None:
        """Look, report, pause, until cancelled."""
        try:
            while True:
                await self.look()
                await self._pause()
        finally:
            self._disconnect()

    async def look(self) -> bool:
        """One look. True when the node answered."""
        try:
            connection = await self._connected()
            await self._learn_epochs(connection)
            sighting = await ask(connection, self._shard)
        except (*connect.ANSWERS, connect.UnreachableError) as error:
            self._failed(error)
            return False
        self._failures = 0
        self._shard.saw(self._node, sighting)
        self._node.pool.cut_reads(before=sighting.asked_at)
        self._node.pool.trim(sighting.asked_at)
        await self._learn_history(connection, sighting)
        await self._learn_functions(connection)
        self.has_looked = True
        return True

    def _failed(self, error: Exception) -> None:
        """One answer too late may be a busy server: what is known of it stays true. Anything else, or twice, is not."""
        self._disconnect()
        self._failures += 1
        self.has_looked = True
        if isinstance(error, TimeoutError) and self._failures == 1:
            self._poked.set()
            return
        trouble = str(error) or type(error).__name__
        if not isinstance(error, connect.UnreachableError):
            trouble = f"{self._node.name}: {trouble}"
            self._poked.set()
        self._shard.lost(self._node, trouble, is_certain=self._failures > 1)

    async def _connected(self) -> "asyncpg.Connection[Any]":
        if self._connection is None or self._connection.is_closed():
            self._disconnect()
            self._connection = await self._connector.open(self._node.where, connect.CONNECT_SECONDS)
        return self._connection

    async def _learn_epochs(self, connection: "asyncpg.Connection[Any]") -> None:
        """Whether there is a table of epochs: a migration made it, or will. Raises what the connection raises."""
        now = asyncio.get_running_loop().time()
        if not self._shard.has_epochs and now >= self._ask_epochs_at:
            self._ask_epochs_at = now + HISTORY_RETRY_SECONDS
            with suppress(asyncpg.InsufficientPrivilegeError):
                self._shard.has_epochs = await connection.fetchval(HAS_EPOCHS, timeout=ANSWER_SECONDS)

    async def _learn_history(self, connection: "asyncpg.Connection[Any]", sighting: nodes.Sighting) -> None:
        """Once per timeline: where the older ones were left. Without it, reads in doubt go to the primary."""
        shard, now = self._shard, asyncio.get_running_loop().time()
        is_known = sighting.timeline <= 1 or shard.history_of == sighting.branch
        if not sighting.is_primary or is_known or now < self._ask_history_at:
            return
        self._ask_history_at = now + HISTORY_RETRY_SECONDS
        try:
            text = await connection.fetchval("select tenfold.timeline_history()", timeout=ANSWER_SECONDS)
            shard.history, shard.history_of = position.History.parse(text or ""), sighting.branch
        except (*connect.ANSWERS, ValueError, IndexError) as error:
            log.debug("%s: the timeline history cannot be read (%s)", self._node.name, error)

    async def _learn_functions(self, connection: "asyncpg.Connection[Any]") -> None:
        """Which functions only read, when a statement called one that nobody knew."""
        now = asyncio.get_running_loop().time()
        if not self._classifier.has_met_unknown or now < self._ask_functions_at:
            return
        self._ask_functions_at = now + FUNCTIONS_RETRY_SECONDS
        try:
            names = await connection.fetchval(classify.FUNCTIONS, timeout=ANSWER_SECONDS)
        except connect.ANSWERS as error:
            log.debug("%s: the list of functions cannot be read (%s)", self._node.name, error)
        else:
            self._classifier.learn_functions(names or ())

    async def _pause(self) -> None:
        await asyncio.sleep(0)  # whom this look did not satisfy waits again by then, and shortens the pause
        interval = self._interval(asyncio.get_running_loop().time())
        if interval <= FAILING_OVER_SECONDS:
            self._poked.clear()
            await asyncio.sleep(interval)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(interval):
                await self._poked.wait()
        self._poked.clear()

    def _interval(self, now: float) -> float:
        shard, seen = self._shard, self._node.sighting
        is_used = shard.uses > nodes.BACKGROUND_USES
        if is_used:
            if shard.busy_until < now:
                shard.poke()  # the others still sleep as if there were no traffic
            shard.busy_until = now + IDLE_SECONDS
        if is_used or now - shard.uses_since >= IDLE_SECONDS:
            shard.uses, shard.uses_since = 0, now
        if shard.freshness.waiting and seen is not None:
            return CATCHING_UP_SECONDS
        if shard.news.waiting:
            return FAILING_OVER_SECONDS
        is_busy = now < shard.busy_until or self._node.pool.reading
        return BUSY_SECONDS if is_busy else IDLE_SECONDS

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
