"""The runtime of one service: holds its lock, its records and its passwords, and offers what the control API asks.

Made by `tenfold up` (and, for a moment, by `down` and `status` when no runtime runs). The data plane does not need it:
killed at any moment, everything keeps serving, and the next one adopts what runs.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

from tenfold import errors
from tenfold.kit import address, files
from tenfold.observation import snapshot as snapshots
from tenfold.planning import plan as plans
from tenfold.planning import steps
from tenfold.runtime import (
    actions,
    apply,
    certificates,
    events,
    figures,
    guard,
    observe,
    passwords,
    paths,
    records,
    registry,
    report,
    seats,
    supervise,
    traffic,
)
from tenfold.topology import layout, load, tiers

Json = dict[str, Any]


class Runtime:
    """One service. `changing` is held while a plan runs: one change at a time."""

    def __init__(self, where: paths.Paths, store: records.Store, journal: events.Journal) -> None:
        self.where = where
        self.store = store
        self.journal = journal
        self.secrets = passwords.load_or_make(where.secrets)
        self.supervisor = supervise.Supervisor(where, store, journal)
        self.observer = observe.Observer(self.supervisor)
        self.sampler = traffic.Sampler()
        self.changing = asyncio.Lock()
        self._is_going_back = False
        """Going back undoes what was done: code that has changed meanwhile stays where it is not running yet."""

    # What is wanted

    @property
    def topology(self) -> tiers.Topology:
        """The topology that is applied, or being applied."""
        if not self.store.records.topology:
            raise errors.NotRunning(f"{self.where.state}: nothing was ever started here; start it with: tenfold up")
        return load.parse(self.store.records.topology, str(self.where.topology))

    @property
    def seats(self) -> seats.Seats:
        """Where every process sits under that topology."""
        return seats.Seats(self.where, self.store, self.secrets, self.topology)

    # What is there, and the road from one to the other

    async def snapshot(self) -> snapshots.Snapshot:
        """Everything there is, now."""
        return await self.observer.snapshot(self.seats)

    async def make_plan(self) -> plans.Plan:
        """The plan from what is there to what is wanted."""
        places = self.seats
        wanted = observe.revisions(places, keeps_code=self._is_going_back)
        return plans.make(places.topology, await self.observer.snapshot(places), wanted)

    def action(self, step: steps.Step) -> apply.Act:
        """What carries out this kind of step."""
        return actions.find(step, actions.Stage(self.supervisor, self.observer, self.seats, self.journal))

    # The control API

    async def status(self) -> Json:
        """What `tenfold status --json` prints."""
        topology = self.topology
        certificate = certificates.describe(topology, self.where, certificates.now())
        snapshot, carried = await asyncio.gather(self.snapshot(), self.sampler.now(self.seats))
        body = report.status(snapshot, topology, self.journal, is_changing=self.changing.locked())
        body["change"] = figures.change(self.journal) if self.changing.locked() else None
        return {**figures.added(body, snapshot, topology, carried, self.where.state), "certificate": certificate}

    async def plan(self, text: str) -> Json:
        """The plan to this topology, without doing anything."""
        topology = load.parse(text, str(self.where.topology))
        certificates.ensure_usable(topology, self.where, certificates.now())
        places = seats.Seats(self.where, self.store, self.secrets, topology)
        plan = plans.make(topology, await self.observer.snapshot(places), observe.revisions(places))
        return report.plan(plan)

    async def up(self, text: str) -> Json:
        """Start, or take over, and make it so; what an earlier runtime was applying when it died is finished by that.

        A start that fails stops again what it started; a service that was running goes back and keeps running, with
        the certificate that it serves when that of its files has become bad.
        """
        topology = load.parse(text, str(self.where.topology))
        _ensure_installed(topology)
        await self.supervisor.end_rehearsals()
        was_running = any(one.is_alive for one in self.store.records.servers.values())
        if not was_running:
            certificates.ensure_usable(topology, self.where, certificates.now())
            _ensure_addresses_free(topology.service)
        try:
            return await self._change(text, former=self.store.records.applied if was_running else "")
        except errors.StepFailed as failure:
            if was_running:
                raise
            await self.down()
            raise errors.StepFailed(f"{failure}\nWhat had been started is stopped again; data stays.") from failure

    async def apply(self, text: str, *, writes_file: bool = False) -> Json:
        """Make it so, live. When a step fails, everything goes back to the topology before, and StepFailed says so.

        `writes_file`: tenfold.toml gets this text first, and its former text when everything goes back.
        """
        topology = load.parse(text, str(self.where.topology))
        _ensure_installed(topology)
        certificates.ensure_usable(topology, self.where, certificates.now())
        is_new = not self.store.records.topology or topology.service.redirect != self.topology.service.redirect
        if topology.service.redirect and is_new:
            actions.ensure_free(topology.service.redirect, "service.redirect_http")
        return await self._change(text, former=self.store.records.applied, writes_file=writes_file)

    async def _change(self, text: str, *, former: str, writes_file: bool = False) -> Json:
        if self.changing.locked():
            raise errors.RuntimeFailure("another change is being applied; follow it with: tenfold events -f")
        async with self.changing:
            topology = load.parse(text, str(self.where.topology))
            certificates.install(topology, self.where, certificates.now())
            self._want(text, writes_file)
            try:
                done = await apply.converge(self)
            except errors.StepFailed as failure:
                await self._go_back(former, failure, writes_file)
            self.store.records.applied = text
            self.store.save()
            files.write_if_changed(self.where.applied, text)
            certificates.discard_others(topology, self.where)
            return {"steps": done}

    async def migrate(self) -> Json:
        """Run the migrations that have not run."""
        async with self.changing:
            step = steps.Migrate(reason="asked for")
            await self.action(step)(step)
            return {"migrated": True}

    async def kill_server(self, name: str) -> Json:
        """Cut a server's power; it stays off until `start_server`. A dead primary's leader key is released."""
        record = self.store.server(name)
        await self.supervisor.cut_server(name, "killed")
        await guard.release_leader(self.supervisor, self.seats, record)
        return {"killed": name}

    async def start_server(self, name: str) -> Json:
        """Give a server power again and start what ran on it."""
        record = self.store.server(name)
        if record.power == "killed":
            record.power = "off"
            self.store.save()
        async with self.changing:
            done = await apply.converge(self)
        return {"started": name, "steps": done}

    async def down(self) -> Json:
        """Stop everything, the front door first and the primary last. The data stays."""
        async with self.changing:
            stopped = await actions.stop_everything(self.supervisor, self.observer, self.seats)
        return {"stopped": stopped}

    # Details

    def _want(self, text: str, writes_file: bool) -> None:
        self.store.records.topology = text
        self.store.save()
        if writes_file:
            files.write_if_changed(self.where.topology, text, mode=0o644)

    async def _go_back(self, former: str, failure: errors.StepFailed, writes_file: bool) -> NoReturn:
        """Plan for the former topology and carry it out. Always raises: what failed, and whether it went back."""
        if not former or former == self.store.records.topology:
            raise failure
        self.journal.say("going_back", f"{failure}\nGoing back to what was there before.", level="error")
        self._want(former, writes_file)
        self._is_going_back = True
        try:
            done = await apply.converge(self)
        except errors.StepFailed as second:
            raise errors.StepFailed(
                f"{failure}\nGoing back failed as well: {second}\n"
                "Nothing more was done; the next `tenfold up` or `tenfold apply` continues from here."
            ) from failure
        finally:
            self._is_going_back = False
        raise errors.StepFailed(f"{failure}\nUndone in {done} steps: the service is as it was before.") from failure


@asynccontextmanager
async def opened(where: paths.Paths, *, wait_seconds: float = 0.0) -> AsyncIterator[Runtime]:
    """The runtime of this service, with its lock held. Raises AlreadyRunning when another one holds it.

    The lock is the kernel's (flock): a runtime that died holds none, so there are no stale ones.
    """
    where.make()
    handle = os.open(where.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        await _lock(handle, where, wait_seconds)
        store = records.Store.open(where.records)
        if store.records.network == 0:
            store.records.network = address.claim(where.state, address.claims_folder())
            store.save()
        runtime = Runtime(where, store, events.Journal(where.events))
        try:
            yield runtime
        finally:
            await runtime.observer.close()
    finally:
        os.close(handle)


@asynccontextmanager
async def looked_at(where: paths.Paths) -> AsyncIterator[Runtime]:
    """A runtime that only looks, without the lock: it is in nobody's way, and whoever holds the lock not in its."""
    runtime = Runtime(where, records.Store.open(where.records), events.Journal(where.events))
    try:
        yield runtime
    finally:
        await runtime.observer.close()


def _ensure_installed(topology: tiers.Topology) -> None:
    """Before anything happens: every engine that the topology needs is there."""
    registry.ensure_installed({one.engine for server in layout.layout(topology).servers for one in server.processes})


def _ensure_addresses_free(service: tiers.Service) -> None:
    actions.ensure_free(service.listen)
    if service.redirect:
        actions.ensure_free(service.redirect, "service.redirect_http")


async def _lock(handle: int, where: paths.Paths, wait_seconds: float) -> None:
    deadline = asyncio.get_running_loop().time() + wait_seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(0.05)
                continue
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
            raise errors.AlreadyRunning(
                f"{where.state}: a runtime runs already (pid {holder or 'unknown'}); "
                "look with `tenfold status`, stop it with `tenfold down`"
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        return
