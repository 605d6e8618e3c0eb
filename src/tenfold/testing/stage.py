"""A PostgreSQL that may be killed, with a standby when one is wanted: where tests of `simulate` play.

Owned by `run`, backstage; one a process, because others must not lose theirs. Started for the first test that asks for
it and kept for the next: after a failover the new primary is the one that stays.
"""

import shutil
from pathlib import Path

from tenfold import bindings, errors
from tenfold.engines.postgres import connection
from tenfold.kit import clock
from tenfold.runtime import lone_database
from tenfold.testing import databases, wire
from tenfold.topology import tiers

SETTLE_SECONDS = 30.0
"""How long a standby may take to catch up, or a setting to count."""

MOST_NUMBER = 200
"""Servers are numbered in turn: each has an address of its own."""


class Stage:
    """The primary, perhaps a standby, and a wire to each."""

    def __init__(
        self,
        folder: Path,
        topology: tiers.Topology,
        app_password: str,
        losses: wire.Losses,
        recipe: databases.Recipe,
    ) -> None:
        self._folder = folder
        self._topology = topology
        self._app_password = app_password
        self._losses = losses
        self._recipe = recipe
        self._number = 1
        self._wires: dict[str, wire.Wire] = {}
        self.primary: lone_database.LoneDatabase | None = None
        self.standby: lone_database.LoneDatabase | None = None
        self.databases: databases.Databases | None = None
        self._standby_is_shown = False

    async def begin(self) -> databases.Databases:
        """A primary that runs, for a new test; what the last test left is gone."""
        self._standby_is_shown = False
        if self.primary is None or not self.primary.is_alive:
            folder = self._next_folder()
            lone_database.give_password(folder, self._app_password)
            self.primary = await lone_database.start(folder, self._topology, durable=False)
            await self._connect(self.primary)
            self.databases = databases.Databases(self.primary, self._recipe)
        assert self.databases is not None
        return self.databases

    @property
    def nodes(self) -> tuple[bindings.DatabaseNode, ...]:
        """What the app is told: the primary, and the standby once a test has asked for one."""
        shown = (self.primary, self.standby if self._standby_is_shown else None)
        return tuple(self._node(one) for one in shown if one is not None)

    async def show_standby(self) -> None:
        """On return there is a standby, it has everything, and `nodes` names it."""
        assert self.primary is not None
        if self.standby is None or not self.standby.is_alive:
            self._number = self._number % MOST_NUMBER + 1
            self.standby = await lone_database.start_standby(self._next_folder(), self.primary, self._number)
            await self._connect(self.standby)
        await self._until_caught_up()
        self._standby_is_shown = True

    async def fail_over(self) -> None:
        """The primary loses its power and the standby becomes primary; no commit that was acknowledged is lost."""
        old, new = self.primary, self.standby
        assert old is not None
        assert new is not None
        await self._set(old, "synchronous_standby_names", "*")
        await self._until(old, "select count(*) from pg_stat_replication where sync_state = 'sync'")
        if self.databases is not None:
            await self.databases.close()
        await old.cut()
        self._wires[old.seat.server.name].lead_to(None)
        await lone_database.promote(new)
        self.primary, self.standby = new, None
        self.databases = databases.Databases(new, self._recipe)
        shutil.rmtree(old.folder, ignore_errors=True)

    async def lag(self, seconds: float | None) -> None:
        """The standby replays each commit so much later, or (None) stands still."""
        assert self.standby is not None
        if seconds is not None:
            await self._set(self.standby, "recovery_min_apply_delay", str(round(seconds * 1000)))
            return
        await self._ask(self.standby, "select pg_wal_replay_pause()")
        await self._until(self.standby, "select pg_get_wal_replay_pause_state() = 'paused'")

    async def end(self) -> None:
        """The test is over: nothing lags and its database is gone. What cannot be put right is taken down."""
        try:
            await self._catch_up()
            if self.databases is not None:
                await self.databases.give_back()
        except errors.EngineFailed:
            await self.close()

    async def close(self) -> None:
        """Everything ends at once. `begin` may follow."""
        for one in self._wires.values():
            await one.close()
        self._wires.clear()
        if self.databases is not None:
            await self.databases.close()
        for server in (self.standby, self.primary):
            if server is not None:
                await server.cut()
        self.primary = self.standby = self.databases = None

    async def _catch_up(self) -> None:
        """Undo `lag`."""
        if self.standby is not None and self.standby.is_alive:
            await self._set(self.standby, "recovery_min_apply_delay", "0")
            await self._ask(self.standby, "select pg_wal_replay_resume()")

    def _next_folder(self) -> Path:
        folder = self._folder / f"{self._number}"
        shutil.rmtree(folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    async def _connect(self, server: lone_database.LoneDatabase) -> None:
        made = wire.Wire(self._losses)
        made.lead_to((server.node.host, server.node.port))
        await made.open()
        if (old := self._wires.pop(server.seat.server.name, None)) is not None:
            await old.close()
        self._wires[server.seat.server.name] = made

    def _node(self, server: lone_database.LoneDatabase) -> bindings.DatabaseNode:
        host, port = self._wires[server.seat.server.name].address
        return bindings.DatabaseNode(name=server.seat.server.name, host=host, port=port)

    async def _until_caught_up(self) -> None:
        assert self.primary is not None
        assert self.standby is not None
        lsn = await self._ask(self.primary, "select pg_current_wal_flush_lsn()::text")
        await self._until(self.standby, f"select pg_last_wal_replay_lsn() >= '{lsn}'::pg_lsn")

    async def _set(self, server: lone_database.LoneDatabase, name: str, value: str) -> None:
        await self._ask(server, f"alter system set {name} = '{value}'")
        await self._ask(server, "select pg_reload_conf()")
        await self._until(server, f"select setting = '{value}' from pg_settings where name = '{name}'")

    async def _until(self, server: lone_database.LoneDatabase, question: str) -> None:
        async def look() -> bool:
            return bool(await self._ask(server, question))

        if not await clock.until(look, seconds=SETTLE_SECONDS, pause_seconds=0.01):
            raise errors.EngineFailed(f"{server.seat.server.name}: not true within {SETTLE_SECONDS:g} s: {question}")

    @staticmethod
    async def _ask(server: lone_database.LoneDatabase, statement: str) -> object:
        async with connection.connected(server.seat) as superuser:
            return await superuser.fetchval(statement)
