"""The runtime of one service: holds its lock, its records and its passwords, and offers what the control API asks.

Made by `tenfold up` (and, for a moment, by `down` and `status` when no runtime runs). The data plane does not need it:
killed at any moment, everything keeps serving, and the next one adopts what runs.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from tenfold import errors
from tenfold.engines.granian import settings
from tenfold.engines.haproxy import admin as haproxy
from tenfold.kit import files
from tenfold.observation import conditions
from tenfold.observation import snapshot as snapshots
from tenfold.planning import plan as plans
from tenfold.planning import releases as planned
from tenfold.planning import steps
from tenfold.runtime import (
    actions,
    apply,
    autoscaling,
    backlog,
    certificates,
    deploy,
    edges,
    events,
    figures,
    guard,
    homes,
    interpreters,
    observe,
    passwords,
    paths,
    records,
    registry,
    releases,
    report,
    seats,
    supervise,
    traffic,
    wan,
)
from tenfold.runtime.seats import Seats
from tenfold.topology import following, layout, load, tiers

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a change leads to, or goes back to."""

    topology: str
    """The text of tenfold.toml."""
    releases: planned.Wanted


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
        self.shelf = releases.Shelf(where, store, journal)
        self.changing = asyncio.Lock()
        self.autoscaler = autoscaling.Autoscaler(self)
        self._is_scaling = False
        self._parsed: tuple[tuple[str, Json], tiers.Topology] | None = None

    # What is wanted

    @property
    def topology(self) -> tiers.Topology:
        """The topology that is applied, or being applied."""
        if not self.store.records.topology:
            raise errors.NotRunning(f"{self.where.state}: nothing was ever started here; start it with: tenfold up")
        known = (self.store.records.topology, dict(self.store.records.decided))
        if self._parsed is None or self._parsed[0] != known:  # asked for several times a second
            self._parsed = (known, load.parse(known[0], str(self.where.topology)).decided(known[1]))
        return self._parsed[1]

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
        return await self._plan(self.seats)

    def action(self, step: steps.Step) -> apply.Act:
        """What carries out this kind of step."""
        return actions.find(step, actions.Stage(self.supervisor, self.observer, self.seats, self.journal))

    # Autoscaling

    def may_scale(self, *, is_out: bool) -> bool:
        """Whether a number may be changed now: no other change is being applied, or waits to be finished."""
        is_settled = self.store.records.topology == self.store.records.applied
        return is_settled and (not self.changing.locked() or (self._is_scaling and is_out))

    def decide(self, counts: Mapping[str, int]) -> None:
        """Record these numbers of servers: from now on they are what is wanted."""
        self.store.records.decided = {**self.store.records.decided, **counts}
        self.store.save()

    async def scale(self) -> None:
        """Apply the recorded numbers, and those that are recorded meanwhile.

        When servers cannot be added, the former numbers are wanted again, and StepFailed is raised.
        """
        there = _counts(self.topology, self.store.records.servers)
        async with self.changing:
            self._is_scaling = True
            try:
                done: Json = {}
                while done != self.store.records.decided:
                    done = self.store.records.decided
                    await apply.converge(self)
            except errors.StepFailed:
                self.decide(there)
                await apply.converge(self)
                raise
            finally:
                self._is_scaling = False

    # The control API

    async def status(self) -> Json:
        """What `tenfold status --json` prints."""
        topology = self.topology
        snapshot, carried = await asyncio.gather(self.snapshot(), self.sampler.now(self.seats))
        body = report.status(snapshot, topology, self.journal, is_changing=self.changing.locked())
        body["change"] = figures.change(self.journal) if self.changing.locked() else None
        body["certificate"] = certificates.described(topology, self.where)
        troubles = [
            *certificates.troubles(topology, self.where, certificates.now()),
            *await self._queue_troubles(snapshot),
            *self.autoscaler.troubles(),
        ]
        body["scaling"] = self.autoscaler.status()
        body["wan"] = await wan.look(self.seats)
        return figures.added(body, snapshot, topology, carried, self.where.state, troubles)

    async def plan(self, text: str, *, keeps_release: bool = False) -> Json:
        """The plan to this topology, without doing anything. `keeps_release`: code that has changed does not count."""
        topology = self._begun(load.parse(text, str(self.where.topology)))
        certificates.ensure_usable(topology, self.where, certificates.now())
        deploy.ensure_canary_fits(self.shelf.wanted, topology)
        candidate = None if keeps_release else await self.shelf.candidate(topology)
        made = await self._plan(seats.Seats(self.where, self.store, self.secrets, topology, candidate))
        return report.plan(made, has_new_settings=bool(self.store.records.topology) and self._differs(topology))

    async def up(self, text: str) -> Json:
        """Start, or take over, and make it so; what an earlier runtime was applying when it died is finished by that.

        A start that fails stops again what it started; a service that was running goes back and keeps running, with
        the certificate that it serves when that of its files has become bad.
        """
        topology = load.parse(text, str(self.where.topology))
        await self._ensure_startable(topology)
        async with self._change():
            await self.supervisor.end_rehearsals()
            was_running = any(one.is_alive for one in self.store.records.servers.values())
            if not was_running:
                certificates.ensure_usable(topology, self.where, certificates.now())
                self._ensure_addresses_free(topology)
            try:
                goal = Goal(text, await self._releases_for(topology))
                return await self._reach(goal, self._reached if was_running else None, topology.deploy)
            except errors.StepFailed as failure:
                if was_running:
                    raise
                await self._stop()
                self.shelf.want(self.shelf.reached)
                await self.shelf.sweep(topology.deploy.keep)
                raise errors.StepFailed(f"{failure}\nWhat had been started is stopped again; data stays.") from failure

    async def apply(self, text: str, *, writes_file: bool = False, keeps_release: bool = False) -> Json:
        """Make it so, live. When a step fails, everything goes back to the topology before, and StepFailed says so.

        `writes_file`: tenfold.toml gets this text first, and its former text when everything goes back.
        `keeps_release`: code and variables that have changed wait for the next release.
        """
        topology = load.parse(text, str(self.where.topology))
        await self._ensure_startable(topology)
        certificates.ensure_usable(topology, self.where, certificates.now())
        is_new = not self.store.records.topology or topology.service.redirect != self.topology.service.redirect
        if topology.service.redirect and is_new:
            actions.ensure_free(topology.service.redirect, "service.redirect_http")
        async with self._change():
            goal = Goal(text, await self._releases_for(topology, keeps_release=keeps_release))
            return await self._reach(goal, self._reached, topology.deploy, writes_file=writes_file)

    async def deploy(self, asked: deploy.Request) -> Json:
        """Make another release serve, web server by web server; see `runtime/deploy`. The topology stays.

        When a step fails, what served before serves on, and StepFailed says so.
        """
        if not self.store.records.applied:
            raise errors.NotRunning(f"{self.where.state}: nothing was ever started here; start it with: tenfold up -d")
        async with self._change():
            topology = self.topology
            if asked.is_new:  # a way back must not depend on what the file has become
                topology = load.parse(asked.topology, str(self.where.topology))
                await self._ensure_startable(topology)
            wanted = await deploy.releases_for(asked, self.shelf, topology, self.topology)
            if wanted == self.shelf.wanted == self.shelf.reached:
                return {"steps": 0, **report.releases(wanted)}
            goal = Goal(self.store.records.topology, wanted)
            done = await self._reach(goal, self._reached, topology.deploy)
            return {**done, **report.releases(wanted)}

    async def release_status(self) -> Json:
        """What `tenfold deploy --status` prints: which releases serve, and how each of them does."""
        snapshot = await self.snapshot()
        sockets = actions.front_doors(actions.Stage(self.supervisor, self.observer, self.seats, self.journal))
        carried = [await haproxy.stats(socket) for socket in sockets]
        return report.release_status(snapshot, self.store.records.releases, carried)

    async def cdn(self) -> Json:
        """What `tenfold cdn` prints."""
        return await edges.look(self.seats)

    async def migrate(self) -> Json:
        """Run the migrations of the service's folder, as it is now, that have not run."""
        async with self.changing:
            stands = settings.as_it_stands(self.topology, self.where.project)
            places = seats.Seats(self.where, self.store, self.secrets, self.topology, stands)
            step = steps.Migrate(reason="asked for")
            await actions.find(step, actions.Stage(self.supervisor, self.observer, places, self.journal))(step)
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

    async def kill_region(self, name: str, heir: str = "") -> Json:
        """Cut the power of everything in a region; it stays off until `start_region`.

        When it was the home of the data, the region with most of it becomes the home, or the one that is named: that
        every server of the lost one is proven dead is what allows it.
        """
        homes.ensure_may_lose(self.topology, name)
        async with self._change():
            records = self.store.records.servers.values()
            servers = [one.spec.name for one in records if layout.region_of(one.spec, self.topology) == name]
            self.supervisor.expect_no_more(servers, "patroni")
            await asyncio.gather(*(self.supervisor.cut_server(server, "killed") for server in servers))
            if name != self.topology.home:
                return {"killed": name, "home": self.topology.home, "steps": 0}
            heir = heir or homes.heir(self.topology, await self.snapshot(), name)
            goal = Goal(homes.with_home(self.store.records.topology, self.topology, heir), self.shelf.wanted)
            homes.write_home(self.where.topology, self.topology, heir)
            done = await self._reach(goal, None, self.topology.deploy)
            return {"killed": name, "home": heir, **done}

    async def start_region(self, name: str) -> Json:
        """Give a region power again and start what ran there; its databases follow the home."""
        homes.ensure_known(self.topology, name)
        async with self._change():
            for record in self.store.records.servers.values():
                if layout.region_of(record.spec, self.topology) == name and record.power == "killed":
                    record.power = "off"
            self.store.save()
            return {"started": name, "steps": await apply.converge(self)}

    async def change_wan(self, asked: wan.Request) -> Json:
        """Cut or heal what lies between regions."""
        return await wan.change(self.seats, asked, self.journal)

    async def down(self) -> Json:
        """Stop everything, the front door first and the primary last. The data stays."""
        async with self.changing:
            return {"stopped": await self._stop()}

    # Details

    async def _queue_troubles(self, snapshot: snapshots.Snapshot) -> tuple[conditions.Condition, ...]:
        if snapshot.primary is None or not snapshot.is_migrated:
            return ()
        try:
            return tuple(backlog.troubles(await backlog.look_everywhere(self.seats, snapshot.primary.server)))
        except errors.EngineFailed:
            return ()

    async def _ensure_startable(self, topology: tiers.Topology) -> None:
        """Before anything happens: the engines are installed, and the app's interpreter can run it."""
        _ensure_installed(topology)
        if warning := await interpreters.ensure(self.where.project, topology.service):
            self.journal.say("interpreter", warning, level="warning")

    def _ensure_addresses_free(self, topology: tiers.Topology) -> None:
        for region in topology.regions:
            own = layout.as_in(topology, region, self.store.records.network)
            actions.ensure_service_is_free(own.service)

    @asynccontextmanager
    async def _change(self) -> AsyncIterator[None]:
        """One change at a time: a second one is refused. Only for autoscaling it waits: nobody asked for that one."""
        if self.changing.locked() and not self._is_scaling:
            raise errors.RuntimeFailure("another change is being applied; follow it with: tenfold events -f")
        async with self.changing:
            yield

    async def _plan(self, places: Seats) -> plans.Plan:
        snapshot = await self.observer.snapshot(places)
        return plans.make(places.topology, snapshot, observe.revisions(places), places.released)

    def _differs(self, topology: tiers.Topology) -> bool:
        """Whether it says something new; what the code is started with is a matter of releases."""
        of_release = {name: getattr(self.topology.service, name) for name in ("env", "env_file", "directory", "python")}
        service = topology.service.model_copy(update=of_release)
        return topology.model_copy(update={"service": service}) != self.topology

    async def _releases_for(self, topology: tiers.Topology, *, keeps_release: bool = False) -> planned.Wanted:
        """The releases that serve already, or a new one of the code as it is now."""
        deploy.ensure_canary_fits(self.shelf.wanted, topology)
        if keeps_release and self.shelf.wanted.current:
            self.shelf.find(self.shelf.wanted.current)
            return self.shelf.wanted
        return await self.shelf.as_files_say(topology) or planned.Wanted(await self.shelf.make(topology))

    @property
    def _reached(self) -> Goal:
        return Goal(self.store.records.applied, self.shelf.reached)

    async def _reach(self, goal: Goal, former: Goal | None, rules: tiers.Deploy, *, writes_file: bool = False) -> Json:
        """Carry out what leads to the goal, or back to the former one; by the rules, drop releases that are too old."""
        topology = load.parse(goal.topology, str(self.where.topology))
        certificates.install(topology, self.where, certificates.now())
        self.store.records.decided = self._counts_to_begin_with(topology)
        self._want(goal, writes_file)
        try:
            done = await apply.converge(self)
        except errors.StepFailed as failure:
            await self._go_back(former, failure, writes_file)
        self.store.records.applied = goal.topology
        self.shelf.settle()
        files.write_if_changed(self.where.applied, goal.topology)
        certificates.discard_others(topology, self.where)
        await self.shelf.sweep(rules.keep)
        return {"steps": done}

    def _begun(self, topology: tiers.Topology) -> tiers.Topology:
        return topology.decided(self._counts_to_begin_with(topology))

    def _counts_to_begin_with(self, topology: tiers.Topology) -> dict[str, int]:
        former = self.topology if self.store.records.topology else None
        return following.counts(topology, former, self.store.records.decided)

    def _want(self, goal: Goal, writes_file: bool) -> None:
        self.store.records.topology = goal.topology
        self.shelf.want(goal.releases)
        if writes_file:
            files.write_if_changed(self.where.topology, goal.topology, mode=0o644)

    async def _go_back(self, former: Goal | None, failure: errors.StepFailed, writes_file: bool) -> NoReturn:
        """Plan for what was there before and carry it out. Always raises: what failed, and whether it went back."""
        wanted = Goal(self.store.records.topology, self.shelf.wanted)
        if former is None or not former.topology or former == wanted:
            raise failure
        self.journal.say("going_back", f"{failure}\nGoing back to what was there before.", level="error")
        self._want(former, writes_file)
        try:
            done = await apply.converge(self)
        except errors.StepFailed as second:
            raise errors.StepFailed(
                f"{failure}\nGoing back failed as well: {second}\n"
                "Nothing more was done; the next `tenfold up` or `tenfold apply` continues from here."
            ) from failure
        await self.shelf.sweep(self.topology.deploy.keep)
        raise errors.StepFailed(f"{failure}\n{_undone(done, former, wanted)}") from failure

    async def _stop(self) -> list[str]:
        return await actions.stop_everything(self.supervisor, self.observer, self.seats)


def _undone(done: int, former: Goal, wanted: Goal) -> str:
    text = f"{f'Undone in {done} steps' if done else 'Nothing had to be undone'}: the service is as it was before."
    if former.releases == wanted.releases:
        return text
    return f"{text} Release {former.releases.current} serves on; put the code right, and try again."


def _counts(topology: tiers.Topology, servers: Mapping[str, records.ServerRecord]) -> dict[str, int]:
    """By tier that has a range, how many of its servers there are."""
    wanted = layout.layout(topology)
    found = {}
    for tier in topology.bounds:
        group = layout.DEFAULT_GROUP if tier == "web" else tier.removeprefix("web_groups.")
        names = [one.name for one in (wanted.running("worker") if tier == "workers" else wanted.web(group))]
        found[tier] = len([name for name in names if name in servers])
    return found


def _ensure_installed(topology: tiers.Topology) -> None:
    """Before anything happens: every engine that the topology needs is there."""
    registry.ensure_installed({one.engine for server in layout.layout(topology).servers for one in server.processes})
