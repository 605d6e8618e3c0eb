"""The database without Patroni: made, copied, moved to another server.

The orders are those of `engines/postgres/admin`. The planned switch is tenfold's own decision only here, on the rungs
that have no Patroni.
"""

import asyncio
import dataclasses

from tenfold import engines, errors
from tenfold.engines.postgres import admin, command, settings
from tenfold.kit import clock, files
from tenfold.observation import snapshot
from tenfold.planning import steps
from tenfold.runtime import migrate
from tenfold.runtime.actions import holding
from tenfold.runtime.actions.stage import Stage

CATCH_UP_SECONDS = 30.0


async def initialise(stage: Stage, step: steps.InitialiseDatabase) -> None:
    """An empty cluster runs, with its roles and the service's database.

    Raises EngineFailed when the service had data before: an empty database in its place would be a loss, not a start.
    """
    seat = stage.seat(step.server, "postgres")
    if not admin.holds_data(seat):
        _ensure_first(stage, seat)
        stage.supervisor.render(seat)
        admin.begin_copy(seat)
        await stage.supervisor.run_inside(seat, command.initialise(seat))
        admin.finish_copy(seat)
    await stage.supervisor.start_process(seat)
    await admin.create_roles_and_database(seat)
    stage.supervisor.store.records.has_data = True
    stage.supervisor.store.save()


async def copy(stage: Stage, step: steps.CopyDatabase) -> None:
    """A standby on the target streams from the source and has caught up."""
    source, target = stage.seat(step.source, "postgres"), stage.seat(step.target, "postgres")
    await _make_room(stage, source, target)
    if not admin.holds_data(target):
        await admin.create_slot(source, target.server.name)
        stage.supervisor.render(target)
        admin.begin_copy(target)
        await stage.supervisor.run_inside(target, command.base_backup(target, source))
        admin.finish_standby(target, source)
    await stage.supervisor.start_process(await _with_connections_enough(stage, target))

    async def is_streaming() -> bool:
        return await admin.is_replicating_to(source, (target.server.name,))

    if not await clock.until(is_streaming, seconds=CATCH_UP_SECONDS, pause_seconds=0.1):
        raise errors.EngineFailed(
            f"{step.target}: does not stream from {step.source} after {CATCH_UP_SECONDS:g} s; "
            f"see: tenfold logs {step.target}"
        )


async def switch(stage: Stage, step: steps.SwitchDatabase) -> None:
    """The target is the primary, the source is stopped, and the target has all that the source ever acknowledged.

    Until the source is stopped, any failure lets it write again. From then on only finishing is right, and planning
    again after a crash comes back here.
    """
    source, target = stage.seat(step.source, "postgres"), stage.seat(step.target, "postgres")
    if _runs(stage, source):
        await holding.hold_writes(stage, source)
        await stage.supervisor.stop_process(step.source, "postgres")
    await _ensure_complete(stage, source, target)
    await admin.promote(target)


async def unfence(stage: Stage, step: steps.UnfenceDatabase) -> None:
    """The primary accepts writes."""
    await admin.unfence(stage.seat(step.server, "postgres"))


async def discard(stage: Stage, step: steps.DiscardData) -> None:
    """The servers hold no copy of the data any more."""
    for server in step.servers:
        await stage.supervisor.stop_process(server, "postgres")
        await asyncio.to_thread(files.remove_tree, settings.data_directory(stage.seat(server, "postgres")))
        stage.supervisor.forget(server, "postgres")


async def migrate_schema(stage: Stage, step: steps.Migrate) -> None:
    """The schema is as the service's folder says, on the primary."""
    node = (await stage.observer.snapshot(stage.seats)).primary
    if node is None:
        raise errors.EngineFailed("the schema cannot be migrated: no database server is primary; see: tenfold status")
    for name in await migrate.run_on(stage.seats, node.server):
        stage.journal.say("migrated", f"migration {name} has run")


async def _ensure_complete(stage: Stage, source: engines.Seat, target: engines.Seat) -> None:
    """The proof before the promotion: the source was stopped cleanly, and the target has its last record."""
    output = await stage.supervisor.run_inside(source, command.control_data(source))
    ended = admin.parse_control_data(output)
    if not ended.was_shut_down:
        await stage.supervisor.start_process(source)
        await admin.unfence(source)
        raise errors.EngineFailed(
            f"{source.server.name}: {ended.state!r} found, a clean shutdown expected; it was started again"
        )

    async def has_all() -> bool:
        return await admin.has_replayed(target, ended.checkpoint)

    if not await clock.until(has_all, seconds=CATCH_UP_SECONDS, pause_seconds=0.01):
        await stage.supervisor.start_process(source)
        await admin.unfence(source)
        raise errors.EngineFailed(
            f"{target.server.name}: has not replayed the end of {source.server.name}'s log after "
            f"{CATCH_UP_SECONDS:g} s; {source.server.name} is primary again"
        )


async def _with_connections_enough(stage: Stage, standby: engines.Seat) -> engines.Seat:
    """The seat of a standby that starts, with no fewer connections than its primary had when it wrote what is replayed
    next: with fewer PostgreSQL does not start (its manual, "Hot Standby"). Patroni does the same for its own."""
    output = await stage.supervisor.run_inside(standby, command.control_data(standby))
    database = standby.topology.database
    most = max(database.max_connections, admin.parse_control_data(output).max_connections)
    database = database.model_copy(update={"max_connections": most})
    return dataclasses.replace(standby, topology=standby.topology.model_copy(update={"database": database}))


async def _make_room(stage: Stage, source: engines.Seat, target: engines.Seat) -> None:
    """What is in the way of a standby goes: one that has paused ends, to be started again, and what does not follow the
    source is deleted: a primary that a switch left behind, or a replica of Patroni's.

    Nothing is deleted but what is proven to be older than the source, or is no primary.
    """
    there = await stage.observer.database(stage.seats, target.server.name)
    if there is None:
        return
    if there.role == "primary":
        await _ensure_older(stage, there, source, target)
    follows = admin.is_standby_of(target, source)
    if there.is_paused or not follows:
        for manager in ("patroni", "postgres"):
            await stage.supervisor.stop_process(target.server.name, manager)
    if not follows:
        await asyncio.to_thread(files.remove_tree, settings.data_directory(target))


async def _ensure_older(stage: Stage, there: snapshot.DatabaseNode, source: engines.Seat, target: engines.Seat) -> None:
    """A former primary was left behind by a switch: the source was promoted after it, onto a newer timeline."""
    primary = await stage.observer.database(stage.seats, source.server.name)
    if primary is None or primary.role != "primary" or not 0 < there.timeline < primary.timeline:
        raise errors.EngineFailed(
            f"{target.server.name}: a database found that is not known to be older than the one on "
            f"{source.server.name}; nothing was deleted, look at both with: tenfold psql -s SERVER"
        )


def _runs(stage: Stage, seat: engines.Seat) -> bool:
    record = stage.supervisor.store.server(seat.server.name).processes.get("postgres")
    return record is not None and record.is_alive


def _ensure_first(stage: Stage, seat: engines.Seat) -> None:
    if stage.supervisor.store.records.has_data:
        raise errors.EngineFailed(
            f"{seat.data}: no database found, though this service had one; put its folder back, "
            "or begin anew with: tenfold down --delete-data"
        )
