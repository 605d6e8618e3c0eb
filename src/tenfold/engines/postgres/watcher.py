"""Watches one copy of the data over a connection that it keeps. Called by `runtime/observe`, for either manager.

A new connection for every look would cost more than the look. Never changes anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import asyncpg

from tenfold import position
from tenfold.engines.postgres import connection

_LOOK = """
select pg_is_in_recovery() as is_standby,
       current_setting('default_transaction_read_only') = 'off' as is_open,
       current_setting('synchronous_standby_names') <> '' as is_synchronous,
       case when pg_is_in_recovery()
            then coalesce(pg_last_wal_replay_lsn(), '0/0') else pg_current_wal_flush_lsn() end::text as lsn,
       case when pg_is_in_recovery()
            then greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn(), '0/0')
            else pg_current_wal_flush_lsn() end::text as received_lsn,
       case when pg_is_in_recovery()
            then coalesce((select received_tli from pg_stat_wal_receiver), (pg_control_checkpoint()).timeline_id)
            else ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::int end as timeline,
       exists (select from pg_stat_wal_receiver where status = 'streaming') as is_streaming,
       case when pg_is_in_recovery() then pg_is_wal_replay_paused() else false end as is_paused,
       (select count(*) from pg_stat_activity where backend_type = 'client backend') as connections,
       pg_size_bytes(current_setting('shared_buffers')) as memory_bytes,
       current_setting('max_connections')::int as max_connections,
       (select array_agg((application_name, extract(epoch from replay_lag)::float8, sync_state in ('sync', 'quorum')))
          from pg_stat_replication where state = 'streaming') as standbys
"""
"""A primary's timeline is in its WAL file's name: its control file names the old one for a while after a promotion."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What one copy says of itself."""

    role: Literal["primary", "standby"]
    accepts_writes: bool
    """A primary that is not fenced."""
    is_fenced: bool
    """New transactions are read-only, whatever its role is: a switch was prepared."""
    timeline: int
    lsn: int
    """Flushed (primary) or replayed (standby)."""
    received_lsn: int
    """Flushed, and by a standby perhaps not replayed yet: what it has when it is promoted."""
    is_streaming: bool
    """A standby that receives from its primary."""
    is_paused: bool
    """A standby that replays no more: it pauses when its primary has more connections than it was started with."""
    is_synchronous: bool
    """A primary whose commits wait for a standby."""
    connections: int
    """Sessions of clients, this one among them."""
    memory_bytes: int
    """The `shared_buffers` that it was started with."""
    max_connections: int
    """And its `max_connections`."""
    replay_seconds: Mapping[str, float | None]
    """By standby that streams from it, its lag as measured last; None: nothing was measured of late."""
    synchronous_standbys: int
    """Of these, the ones that a commit may wait for."""


class Watcher:
    """One server's copy, by address. `look` connects when there is no connection; `close` ends it. For one task."""

    def __init__(self, address: str, password: str) -> None:
        self.address = address
        self._password = password
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._last: Facts | None = None

    async def look(self, seconds: float) -> Facts | None:
        """What the copy says of itself now; None when it does not say so within `seconds`."""
        try:
            row = await self._ask(seconds)
        except connection.LOST:
            await self.close()
            self._last = None
            return None
        except BaseException:
            self._cut()
            raise
        standbys = row["standbys"] or []
        self._last = Facts(
            role="standby" if row["is_standby"] else "primary",
            accepts_writes=row["is_open"] and not row["is_standby"],
            is_fenced=not row["is_open"],
            timeline=row["timeline"],
            lsn=position.parse_lsn(row["lsn"]),
            received_lsn=position.parse_lsn(row["received_lsn"]),
            is_streaming=row["is_streaming"],
            is_paused=row["is_paused"],
            is_synchronous=row["is_synchronous"] and not row["is_standby"],
            connections=row["connections"],
            memory_bytes=row["memory_bytes"],
            max_connections=row["max_connections"],
            replay_seconds={name: seconds for name, seconds, _ in standbys},
            synchronous_standbys=sum(is_synchronous for _, _, is_synchronous in standbys),
        )
        return self._last

    async def is_synchronous(self, seconds: float = 2.0) -> bool:
        """Whether its commits wait for a standby: by the last look, or a new one when that failed."""
        facts = self._last or await self.look(seconds)
        return facts is not None and facts.is_synchronous

    @property
    def replay_seconds(self) -> Mapping[str, float | None]:
        """By standby that streams from it, its lag as PostgreSQL measured it last; by the last look."""
        return self._last.replay_seconds if self._last else {}

    async def close(self) -> None:
        """End the connection; the next look opens another."""
        if self._connection is not None:
            ending, self._connection = self._connection, None
            await connection.close(ending)

    async def _ask(self, seconds: float) -> asyncpg.Record:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connection.connect(self.address, self._password, timeout_seconds=seconds)
        row = await self._connection.fetchrow(_LOOK, timeout=seconds)
        assert row is not None
        return row

    def _cut(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
