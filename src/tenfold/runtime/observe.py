"""Takes the snapshot: asks every engine how it is, at once, each with a deadline, and keeps no opinion.

Called by the runtime before every plan and for `tenfold status`. Changes nothing.
"""

import asyncio
import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence

from tenfold import engines, errors
from tenfold.engines.haproxy import admin as haproxy
from tenfold.engines.haproxy import render as haproxy_render
from tenfold.engines.haproxy import settings as haproxy_settings
from tenfold.engines.nats import admin as nats
from tenfold.engines.postgres import admin as postgres
from tenfold.engines.postgres import command as postgres_command
from tenfold.engines.postgres import resting as resting_copy
from tenfold.engines.postgres import settings as postgres_settings
from tenfold.engines.valkey import admin as valkey
from tenfold.kit import process
from tenfold.observation import lag
from tenfold.observation import snapshot as snapshots
from tenfold.runtime import migrate, publish, records, registry, seats, supervise
from tenfold.topology import layout

PROBE_SECONDS = 2.0

MOST_LOOKS = 3

COMPARED = ("wan", "georoute", "powerdns", "varnish", "granian", "worker", "valkey", "nats")
"""Engines whose processes are replaced when they run with other settings than they should."""

ServerState = snapshots.ServerState
ProcessState = snapshots.ProcessState


class Observer:
    """Keeps one connection to each database node between observations; nothing else is remembered."""

    def __init__(self, supervisor: supervise.Supervisor) -> None:
        self._supervisor = supervisor
        self._watchers: dict[str, postgres.Watcher] = {}
        self._marks: tuple[lag.Mark, ...] = ()
        """Where the primary was, and when: lag is told by it."""
        self._looking = asyncio.Lock()
        """A watcher's connection answers one question at a time; commands come when they like."""

    async def snapshot(self, places: seats.Seats) -> snapshots.Snapshot:
        """Everything there is, now."""
        async with self._looking:
            for _ in range(MOST_LOOKS - 1):
                try:
                    return await self._look(places)
                except errors.BadInput:
                    continue  # a server was removed while we looked at it
            return await self._look(places)

    async def _look(self, places: seats.Seats) -> snapshots.Snapshot:
        process.Detached.reap()
        servers = tuple(self._supervisor.store.records.servers.values())
        seen = await asyncio.gather(*(self._server(places, record) for record in servers))
        databases = await asyncio.gather(*(self.database(places, one.spec.name) for one in servers))
        balancers = await asyncio.gather(*(self._balancer(places, one) for one in servers))
        nodes = self._with_lag(places, [one for one in databases if one is not None])
        caches = await asyncio.gather(*(self._cache(places, one) for one in servers))
        queues = await asyncio.gather(*(self._queue(places, one) for one in servers))
        home, away = _told(places)
        return snapshots.Snapshot(
            service=places.topology.service.name,
            network=self._supervisor.store.records.network,
            servers=tuple(seen),
            databases=nodes,
            balancers=tuple(one for one in balancers if one is not None),
            caches=tuple(one for one in caches if one is not None),
            queues=tuple(one for one in queues if one is not None),
            published=home.published,
            told=home.told,
            is_synchronous=await self._is_synchronous(places, nodes),
            is_migrated=await self._is_migrated(places, nodes),
            is_published=home.is_published,
            away=away,
            released=_releases(self._supervisor.store.records),
        )

    async def database(self, places: seats.Seats, server: str) -> snapshots.DatabaseNode | None:
        """The copy of the data on this server as it is now, or None when there is no data on it."""
        record = self._supervisor.store.records.servers.get(server)
        if record is None or not (places.where.server(server) / "data" / "postgres" / "global" / "pg_control").exists():
            return None
        watcher = self._watcher(places, record)
        facts = await watcher.look(PROBE_SECONDS) if record.is_alive else None
        resting = None if facts else await _resting(places, server)
        told = facts or resting
        return snapshots.DatabaseNode(
            server=server,
            shard=0,
            manager=_manager(record),
            last_manager=_last_manager(record),
            role=told.role if told else "",
            is_reachable=facts is not None,
            accepts_writes=facts.accepts_writes if facts else False,
            is_fenced=told.is_fenced if told else False,
            timeline=told.timeline if told else 0,
            lsn=told.lsn if told else 0,
            received_lsn=facts.received_lsn if facts else 0,
            is_streaming=facts.is_streaming if facts else False,
            is_paused=facts.is_paused if facts else False,
            is_clean=resting.is_clean if resting else False,
            connections=facts.connections if facts else 0,
            memory_bytes=facts.memory_bytes if facts else 0,
            max_connections=facts.max_connections if facts else 0,
            synchronous_standbys=facts.synchronous_standbys if facts else 0,
        )

    async def close(self) -> None:
        """Give the connections back."""
        for watcher in self._watchers.values():
            await watcher.close()
        self._watchers.clear()

    def _with_lag(
        self, places: seats.Seats, nodes: Sequence[snapshots.DatabaseNode]
    ) -> tuple[snapshots.DatabaseNode, ...]:
        primary, now = _primary(nodes), time.monotonic()
        self._marks = lag.marked(self._marks, primary, now)
        told = self._watcher(places, self._supervisor.store.server(primary.server)).replay_seconds if primary else {}
        return lag.measured(nodes, primary, told, self._marks, now)

    def _watcher(self, places: seats.Seats, record: records.ServerRecord) -> postgres.Watcher:
        address = record.spec.address(self._supervisor.store.records.network)
        if address not in self._watchers:
            self._watchers[address] = postgres.Watcher(address, places.secrets.superuser)
        return self._watchers[address]

    async def _server(self, places: seats.Seats, record: records.ServerRecord) -> snapshots.Server:
        lasting = [one for name, one in record.processes.items() if name != supervise.REHEARSAL]
        processes = await asyncio.gather(*(_process(places, record, one) for one in lasting))
        return snapshots.Server(
            name=record.spec.name,
            region=layout.region_of(record.spec, places.topology),
            tier=record.spec.tier,
            address=record.spec.address(self._supervisor.store.records.network),
            state=_server_state(record),
            processes=tuple(processes),
        )

    async def _balancer(self, places: seats.Seats, record: records.ServerRecord) -> snapshots.Balancer | None:
        haproxy_record = record.processes.get("haproxy")
        if haproxy_record is None or not haproxy_record.is_alive:
            return None
        socket = haproxy_settings.runtime_socket(places.seat(record.spec.name, "haproxy"))
        try:
            found = await haproxy.backends(socket)
            backends = tuple(one for one in found if one.group != haproxy_settings.EDGES)
            edges = tuple(dataclasses.replace(one, group="") for one in found if one.group == haproxy_settings.EDGES)
            return snapshots.Balancer(record.spec.name, backends, await haproxy.revision(socket), edges)
        except errors.EngineFailed:
            return None

    async def _cache(self, places: seats.Seats, record: records.ServerRecord) -> snapshots.CacheNode | None:
        if not _lives(record, "valkey"):
            return None
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await valkey.facts(places.seat(record.spec.name, "valkey"))
        except TimeoutError:
            return None

    async def _queue(self, places: seats.Seats, record: records.ServerRecord) -> snapshots.QueueNode | None:
        if not _lives(record, "nats"):
            return None
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await nats.facts(places.seat(record.spec.name, "nats"))
        except TimeoutError:
            return None

    async def _is_synchronous(self, places: seats.Seats, nodes: Iterable[snapshots.DatabaseNode]) -> bool:
        primary = _primary(nodes)
        if primary is None or primary.manager != "patroni":
            return False
        return await self._watcher(places, self._supervisor.store.server(primary.server)).is_synchronous()

    async def _is_migrated(self, places: seats.Seats, nodes: Iterable[snapshots.DatabaseNode]) -> bool:
        primary = _primary(nodes)
        if primary is None:
            return False
        try:
            return not await migrate.pending_on(places, primary.server)
        except errors.EngineFailed:
            return False


def revisions(places: seats.Seats) -> Mapping[tuple[str, str], str]:
    """By server and process, the revision that the topology asks for, of what can be replaced while it runs."""
    wanted = {}
    for server in places.wanted.servers:
        for one in server.processes:
            if one.engine in COMPARED:
                wanted[server.name, one.name] = supervise.revision(places.seat(server.name, one.name))
            if one.engine == "haproxy":
                wanted[server.name, one.name] = haproxy_render.revision(places.seat(server.name, one.name))
    return wanted


def _told(places: seats.Seats) -> tuple[snapshots.Away, tuple[snapshots.Away, ...]]:
    """What the app is told: at home, and in the other regions."""
    found = []
    for region in (home := places.topology.home, *(name for name in places.topology.regions if name != home)):
        bound = publish.published(places, region)
        published, told = publish.databases_in(bound), publish.told_in(bound)
        is_published = bound == publish.make(places, published, told, region)
        found.append(snapshots.Away(region, published, told, is_published))
    return found[0], tuple(found[1:])


def _releases(known: records.Records) -> snapshots.Releases:
    now = known.reached_releases
    current = known.releases.get(now.current)
    former = current.former if current and current.former in known.releases else ""
    return snapshots.Releases(now.current, former, now.canary, now.percent, tuple(known.releases))


async def _resting(places: seats.Seats, server: str) -> resting_copy.Resting | None:
    """What the files of a copy say that does not answer; None when they cannot be read."""
    seat = places.seat(server, "postgres")
    command = postgres_command.control_data(seat)
    try:
        finished = await process.run(command.argv, env=command.env, timeout_seconds=PROBE_SECONDS)
        return resting_copy.look(postgres_settings.data_directory(seat), finished.output)
    except (errors.EngineFailed, OSError):
        return None


def _primary(nodes: Iterable[snapshots.DatabaseNode]) -> snapshots.DatabaseNode | None:
    return snapshots.newest(one for one in nodes if one.role == "primary" and one.is_reachable)


def _lives(record: records.ServerRecord, name: str) -> bool:
    one = record.processes.get(name)
    return record.is_alive and one is not None and one.is_alive


def _manager(record: records.ServerRecord) -> snapshots.Manager:
    for name in ("patroni", "postgres"):
        process_record = record.processes.get(name)
        if process_record is not None and process_record.is_alive and record.is_alive:
            return "patroni" if name == "patroni" else "postgres"
    return ""


def _last_manager(record: records.ServerRecord) -> snapshots.Manager:
    """Whoever lets go of a database is forgotten: so the one that is remembered had it last."""
    if "patroni" in record.processes:
        return "patroni"
    return "postgres" if "postgres" in record.processes else ""


def _server_state(record: records.ServerRecord) -> ServerState:
    if record.power == "killed":
        return ServerState.KILLED
    return ServerState.RUNNING if record.is_alive else ServerState.STOPPED


async def _process(
    places: seats.Seats, server: records.ServerRecord, record: records.ProcessRecord
) -> snapshots.Process:
    state, health = await _health(places, server, record)
    is_up = state not in (ProcessState.STOPPED, ProcessState.FAILED)
    return snapshots.Process(
        name=record.name,
        engine=record.engine,
        state=state,
        pid=record.identity.pid if is_up and record.identity else 0,
        role=health.role,
        detail=health.detail,
        restarts=record.restarts,
        revision=record.revision,
        release=record.release,
    )


async def _health(
    places: seats.Seats, server: records.ServerRecord, record: records.ProcessRecord
) -> tuple[ProcessState, engines.Health]:
    if not server.is_alive or not record.is_alive:
        return (ProcessState.FAILED if record.is_expected else ProcessState.STOPPED), engines.Health(False)
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            health = await registry.engine(record.engine).probe(places.seat(server.spec.name, record.name))
    except TimeoutError:
        health = engines.Health(False, detail=f"no answer within {PROBE_SECONDS:g} s")
    if health.is_ready:
        return ProcessState.READY, health
    return (ProcessState.UNREADY if record.was_ready else ProcessState.STARTING), health
