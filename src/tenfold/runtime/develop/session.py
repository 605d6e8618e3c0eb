"""One run of `tenfold dev`, from the lock to Ctrl-C: a database, its migrations, the app, and again after each change.

Called by `cli/dev`. It owns all that it starts, and nothing of it outlives it, however it ends. The service that
`tenfold up` runs has other servers, data and records, and may run at the same time.
"""

import asyncio
import math
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tenfold import bindings, errors
from tenfold.kit import clock, files
from tenfold.runtime import environment, interpreters, lone_database, paths, publish
from tenfold.runtime.develop import changes, door, record, web
from tenfold.topology import load, tiers

REQUEST_SECONDS = 3600.0
"""A request may take this long: whoever stands at a breakpoint has time."""

ANSWER_SECONDS = 0.5
"""How long a request that the old code has may take until new code is started without it."""

TWICE_SECONDS = 0.3
"""Ctrl-C again within this time is the same one: it reaches a process group and, from some tools, its leader too."""

LOOK_SECONDS = 0.5
"""How often the database is looked at."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for on the command line."""

    where: paths.Paths
    listen: str
    """The front door; empty: that of the topology, or the next free port."""
    inherited: Mapping[str, str] = field(repr=False)
    """The caller's environment."""
    say: Say
    complain: Say
    colours: bool = False


async def run(wish: Wish) -> None:
    """Develop until Ctrl-C or SIGTERM. Raises BadInput or RuntimeFailure when it cannot begin, or go on."""
    stop = asyncio.Event()
    _on_signals(stop)
    topology = load.load(wish.where.topology)
    wish.where.make()
    async with AsyncExitStack() as stack:
        listening = door.bind(wish.listen or topology.service.listen, may_move=not wish.listen)
        stack.callback(listening.close)
        listen = door.address_of(listening)
        database = await stack.enter_async_context(_database(wish.where, topology))
        app = web.Web(wish.where.run, listen, _announcer(wish), colours=wish.colours)
        stack.push_async_callback(app.close)
        front = door.Door(lambda: _place(app))
        await stack.enter_async_context(front.serving(listening))
        stack.callback(app.hush)
        _greet(wish, topology, listen)
        session = _Session(wish, database, front, app, _scope(wish.where, topology))
        await _until(stop, _work(session), _watch_over(database))


@dataclass(slots=True)
class _Session:
    wish: Wish
    database: lone_database.LoneDatabase
    front: door.Door
    app: web.Web
    scope: changes.Scope
    asked: str = ""
    """The `service.python` that was found good."""

    async def refresh(self) -> None:
        """Bring everything to what the files say now: migrations first, then the app.

        What fails is said, and waits for the next change.
        """
        self.app.wait()
        await self.front.hold(ANSWER_SECONDS)
        where = self.wish.where
        try:
            topology = load.load(where.topology)
            self.scope = _scope(where, topology)
            for name in await self.database.migrate(self.scope.migrations):
                self.wish.say(f"migrated {name}")
            await self._ensure_interpreter(topology.service)
            await self.app.start(self._start(topology))
        except (errors.BadInput, errors.StepFailed, errors.EngineMissing) as error:
            await self.app.stop()
            self.app.fail(str(error))
            self.wish.complain(f"{error}\nwaiting for a change")
        finally:
            self.front.release()

    async def _ensure_interpreter(self, service: tiers.Service) -> None:
        """Asked once for each choice: it takes as long as half a start."""
        if service.python != self.asked:
            if warning := await interpreters.ensure(self.wish.where.project, service):
                self.wish.complain(warning)
            self.asked = service.python

    def _start(self, topology: tiers.Topology) -> web.Start:
        """Tell the app where it is, and say how it is started."""
        where, service = self.wish.where, topology.service
        bound = self.database.bound
        place = environment.Place(
            project=where.project,
            topology=topology,
            bindings_file=where.dev_bindings,
            bound=bound,
            hosts=[node.host for node in bound.shards[0].nodes],
            inherited=self.wish.inherited,
        )
        told = bindings.Service(
            name=service.name,
            app=service.app,
            factory=service.factory,
            directory=str(place.directory),
            secret=self.database.seat.secrets.signing,
            request_seconds=REQUEST_SECONDS,
            max_requests=topology.web.max_requests,
        )
        cdn = publish.static_files(topology)
        made = bindings.Bindings(service=told, database=bound, cdn=cdn, region=topology.home)
        files.write_if_changed(place.bindings_file, bindings.dump(made).decode())
        env = {
            **environment.of_app(place),
            bindings.SERVER_VARIABLE: "dev",
            bindings.APP_VARIABLE: service.app,
            bindings.FACTORY_VARIABLE: service.factory,
        }
        return web.Start(str(place.interpreter), env, place.directory)


async def _work(session: _Session) -> None:
    """Start, then start anew after each change."""
    await session.refresh()
    while True:
        watched = session.scope
        async for changed in changes.watch(watched):
            names = ", ".join(path.name for path in changed[:3])
            session.wish.say(f"changed: {names}{' ...' if len(changed) > 3 else ''}")
            await session.refresh()
            if session.scope != watched:
                break


async def _watch_over(database: lone_database.LoneDatabase) -> None:
    """Raises EngineFailed when the database has died."""

    async def has_ended() -> bool:
        return not database.is_alive

    await clock.until(has_ended, seconds=math.inf, pause_seconds=LOOK_SECONDS)
    raise errors.EngineFailed(f"the database of tenfold dev has ended; see {database.seat.log}, then start again")


async def _until(stop: asyncio.Event, *work: Coroutine[Any, Any, None]) -> None:
    """Work until it is time to stop; what the work raises is raised."""
    running = [asyncio.create_task(one) for one in (*work, _waited(stop))]
    try:
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _waited(stop: asyncio.Event) -> None:
    await stop.wait()


@asynccontextmanager
async def _database(where: paths.Paths, topology: tiers.Topology) -> AsyncIterator[lone_database.LoneDatabase]:
    """The database of this project's `tenfold dev`, kept between runs; while it runs, its record says whose it is."""
    files.make_private(where.dev)
    try:
        started = await lone_database.start(where.dev / "database", topology)
    except errors.AlreadyRunning as error:
        raise errors.AlreadyRunning(f"{where.project}: tenfold dev runs here already; end it with Ctrl-C") from error
    try:
        for left in where.run.glob("dev-*.sock"):
            left.unlink(missing_ok=True)
        record.write(where, [node.host for node in started.bound.shards[0].nodes])
        yield started
    finally:
        record.remove(where)
        await started.stop()


async def _place(app: web.Web) -> door.Place:
    """Where the app serves, as soon as it does."""
    phase = await app.settled()
    return (app.socket, "") if phase is web.Phase.READY else (None, app.message)


def _scope(where: paths.Paths, topology: tiers.Topology) -> changes.Scope:
    service = topology.service
    directory = (where.project / service.directory).resolve()
    single = [where.topology, *([where.project / service.env_file] if service.env_file else [])]
    return changes.Scope(
        directory=directory,
        migrations=(directory / topology.database.migrations).resolve(),
        files=tuple(path.resolve() for path in single),
    )


def _announcer(wish: Wish) -> Callable[[web.Web, float], None]:
    def announce(app: web.Web, seconds: float) -> None:
        if app.phase is web.Phase.READY:
            wish.say(f"ready in {seconds:.2f} s")
        else:
            wish.complain("waiting for a change" if app.has_said_why else f"{app.message}\nwaiting for a change")

    return announce


def _greet(wish: Wish, topology: tiers.Topology, listen: str) -> None:
    service = topology.service
    if listen != service.listen and not wish.listen:
        wish.say(f"{service.listen} is taken: using {listen} (choose with --listen)")
    wish.say(f"{service.name} on http://{listen}   reloads on change, data in .tenfold/dev, Ctrl-C ends it")


def _on_signals(stop: asyncio.Event) -> None:
    """The first Ctrl-C, or SIGTERM, ends politely; one more, by someone who does not want to wait, at once."""
    loop = asyncio.get_running_loop()
    impatient_from = math.inf

    def interrupt() -> None:
        nonlocal impatient_from
        if loop.time() >= impatient_from:
            os._exit(130)  # the app and the database die with us
        stop.set()
        impatient_from = min(impatient_from, loop.time() + TWICE_SECONDS)

    loop.add_signal_handler(signal.SIGINT, interrupt)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
