"""What the tests of this process share, from the first that asks for a database to the end of the process's tests.

Made by `plugin`, one a process; everything it starts lives backstage. Under pytest-xdist each worker has one, and the
PostgreSQL is that of the whole run (`runtime/shared_database`).
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from tenfold import bindings
from tenfold.kit import files
from tenfold.runtime import lone_database, publish, shared_database
from tenfold.sdk.queue import queue
from tenfold.testing import backstage, databases, setting, stage, wire
from tenfold.topology import tiers

if TYPE_CHECKING:
    from tenfold.testing import serving

Template = Callable[[str], None]
"""What the user does to the template beyond its migrations; gets its address."""


@dataclass(frozen=True, slots=True)
class FreshDatabase:
    """The database of one test, as the fixture `tenfold_database` gives it."""

    url: str = field(repr=False)
    """For any PostgreSQL library; the same in every test of the process."""
    bound: bindings.Database = field(repr=False)
    """What the SDK is told: host, port, name, user and password of each node."""
    name: str


class Run:
    """`start`, then `database` for each test, and `close`. Raises BadInput for a topology that cannot be used."""

    def __init__(self, at: setting.Setting, template: Template) -> None:
        self.setting = at
        self.topology: tiers.Topology = at.project.topology()
        self.backstage = backstage.Backstage()
        self.losses = wire.Losses()
        self.door = wire.Wire(self.losses, at.door)
        migrations = at.project.migrations_folder(self.topology)
        self._recipe = databases.Recipe(at.database, migrations, self._prepare)
        folder = at.folder / f"stage-{at.worker or 'main'}"
        self.stage = stage.Stage(folder, self.topology, at.run, self.losses, self._recipe)
        self.served: serving.Served | None = None
        """The app, while a test has it served."""
        self._template = template
        self._shared: shared_database.SharedDatabase | None = None
        self._databases: databases.Databases | None = None
        self._secret = hashlib.sha256(at.run.encode()).hexdigest()

    def start(self) -> None:
        """Start PostgreSQL, or join the run's. Raises what `lone_database.start` raises."""
        self.setting.replace_url()
        self.backstage.call(self._start())

    @contextmanager
    def database(self, *, is_rehearsal: bool) -> Iterator[FreshDatabase]:
        """A fresh database for one test, on the run's PostgreSQL or (`is_rehearsal`) on the one that may be killed."""
        found = self.backstage.call(self._take(is_rehearsal=is_rehearsal))
        try:
            yield found
        finally:
            self.backstage.call(self._give_back(is_rehearsal=is_rehearsal))

    def publish_stage(self) -> FreshDatabase:
        """Tell the app which nodes there are on the stage now."""
        return self._publish(self.stage.nodes)

    def lead_to_stage(self) -> None:
        """Let `DATABASE_URL` lead to the stage's primary of now."""
        assert self.stage.primary is not None
        self.door.lead_to((self.stage.primary.node.host, self.stage.primary.node.port))

    def close(self) -> None:
        """End what was started; the last worker of the run ends PostgreSQL and deletes everything."""
        self.backstage.call(self._close())
        self.backstage.stop()

    async def _start(self) -> None:
        at = self.setting
        files.make_private(at.folder.parent)
        shared_database.remove_abandoned(at.folder.parent)
        files.make_private(at.folder)
        self._shared = await shared_database.join(at.folder, self.topology, app_password=at.run)
        await self.door.open()
        self._databases = databases.Databases(self._shared, self._recipe)

    async def _prepare(self, place: lone_database.Place, name: str) -> None:
        """Migrate the template: tenfold's tables, the SQL files, and then what the user does with `DATABASE_URL`."""
        await place.migrate(self._recipe.migrations, name)
        self.door.lead_to((place.node.host, place.node.port))
        try:
            await asyncio.to_thread(self._template, self.setting.app_url)
        finally:
            self.door.cut()  # a session that stays open would be in the way of the rename

    async def _take(self, *, is_rehearsal: bool) -> FreshDatabase:
        if is_rehearsal:
            await (await self.stage.begin()).take()
            self.lead_to_stage()
            return self.publish_stage()
        assert self._databases is not None
        await self._databases.take()
        self._databases.prepare_next()
        node = self._databases.place.node
        self.door.lead_to((node.host, node.port))
        return self._publish((node,))

    async def _give_back(self, *, is_rehearsal: bool) -> None:
        self.losses.waiting.clear()
        self.door.cut()
        if is_rehearsal:
            await self.stage.end()
        elif self._databases is not None:
            await self._databases.give_back()

    def _publish(self, nodes: tuple[bindings.DatabaseNode, ...]) -> FreshDatabase:
        at, service = self.setting, self.topology.service
        assert self._shared is not None
        bound = publish.database(self.topology, self._shared.seat.secrets, nodes)
        bound = msgspec.structs.replace(bound, name=at.database)
        told = bindings.Bindings(
            service=bindings.Service(
                name=service.name,
                app=service.app,
                factory=service.factory,
                directory=str(at.project.directory),
                secret=self._secret,
                request_seconds=service.request_seconds,
                max_requests=self.topology.web.max_requests,
            ),
            database=bound,
            cdn=publish.static_files(self.topology),
            sessions=bindings.Sessions(
                life_seconds=self.topology.sessions.life_seconds, is_eager=self.topology.sessions.eager
            ),
            queue=bindings.Queue(handled_by=queue.BY_TESTS),
        )
        files.write_if_changed(at.bindings, bindings.dump(told).decode())
        return FreshDatabase(at.url, bound, at.database)

    async def _close(self) -> None:
        await self.door.close()
        await self.stage.close()
        if self._databases is not None:
            await self._databases.close()
        if self._shared is not None:
            await self._shared.leave()
