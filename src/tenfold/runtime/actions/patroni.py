"""The database under Patroni: taken over while it runs, copied, switched over, and given back.

The orders are those of `engines/patroni/admin`. Who is primary after a death is Patroni's decision, never ours.
"""

import asyncio

from tenfold import engines, errors
from tenfold.engines.patroni import admin
from tenfold.engines.postgres import admin as postgres
from tenfold.kit import clock
from tenfold.planning import steps
from tenfold.runtime.actions import holding
from tenfold.runtime.actions.stage import Stage

LEAD_SECONDS = 60.0
"""How long Patroni may take over a database that runs already: nothing is copied, so it is a matter of seconds."""

STREAM_SECONDS = 60.0


async def take_over(stage: Stage, step: steps.TakeOverDatabase) -> None:
    """Patroni leads the cluster with the same postmaster that ran before."""
    seat = stage.seat(step.server, "patroni")
    if not _runs(stage, step.server):
        admin.prepare_take_over(seat)
    await admin.resume(seat)
    try:
        await stage.supervisor.start_process(seat, is_stopped_on_failure=False, within_seconds=LEAD_SECONDS)
        await _await_leader(seat)
    except errors.EngineFailed:
        await _abandon(stage, seat)
        raise
    stage.supervisor.forget(step.server, "postgres")


async def join(stage: Stage, step: steps.JoinReplicas) -> None:
    """Every server of the step holds a copy that streams from the primary, and can take over when it dies.

    A release that was cut short may have left Patroni paused: with replicas to choose from it decides again.
    """
    seats = [stage.seat(server, "patroni") for server in step.servers]
    await admin.resume(seats[0])
    await stage.start(seats)
    for seat in await _await_streaming(seats):
        raise errors.EngineFailed(
            f"{seat.server.name}: does not stream from the primary after {STREAM_SECONDS:g} s; "
            f"see: tenfold logs {seat.server.name}"
        )


async def switch_over(stage: Stage, step: steps.SwitchOver) -> None:
    """The target is the primary, the source follows it; no transaction was cut that ended within its time."""
    source = stage.seat(step.source, "patroni")
    if await admin.leader(source) == step.target:
        return
    async with holding.held(stage, stage.seat(step.source, "postgres")):
        await admin.switch_over(source, step.source, step.target)
    await _await_streaming([source])


async def change_synchronous(stage: Stage, step: steps.ChangeSynchronous) -> None:
    """Commits wait for a replica, or no longer."""
    await admin.set_synchronous(await _leader(stage), step.is_synchronous)


async def remove(stage: Stage, step: steps.RemoveReplicas) -> None:
    """The servers of the step hold no copy that anybody counts on: stopped, their slots dropped."""
    leader = await _leader(stage)
    if leader.server.name in step.servers:
        raise errors.EngineFailed(f"{leader.server.name}: is the primary by now; a replica was to be removed")
    async with asyncio.TaskGroup() as group:
        for server in step.servers:
            group.create_task(stage.supervisor.stop_process(server, "patroni"))
    await admin.forget_members(leader, step.servers)
    for server in step.servers:
        stage.supervisor.forget(server, "patroni")


async def release(stage: Stage, step: steps.ReleaseDatabase) -> None:
    """PostgreSQL runs on without Patroni, with the same postmaster, and is ours to mind again."""
    await _release(stage, stage.seat(step.server, "patroni"))


async def _await_streaming(seats: list[engines.Seat]) -> list[engines.Seat]:
    """Returns when all of them stream from the primary, or after `STREAM_SECONDS`, with those that do not."""

    async def late() -> list[engines.Seat]:
        return [seat for seat in seats if not await _is_streaming(seat)]

    async def all_stream() -> bool:
        return not await late()

    await clock.until(all_stream, seconds=STREAM_SECONDS, pause_seconds=0.2)
    return await late()


async def _is_streaming(seat: engines.Seat) -> bool:
    try:
        return await admin.is_streaming(seat)
    except errors.EngineFailed:
        return False


async def _await_leader(seat: engines.Seat) -> None:
    async def is_leader() -> bool:
        try:
            return await admin.is_leader(seat)
        except errors.EngineFailed:
            return False

    if not await clock.until(is_leader, seconds=LEAD_SECONDS, pause_seconds=0.2):
        raise errors.EngineFailed(
            f"{seat.server.name}: Patroni did not take the database over within {LEAD_SECONDS:g} s; "
            f"it was ended and the database runs on; see: tenfold logs {seat.server.name}"
        )


async def _abandon(stage: Stage, seat: engines.Seat) -> None:
    """A take-over that failed: Patroni dies at once, so that it cannot stop the PostgreSQL that it did not start."""
    await stage.supervisor.kill_process(seat.server.name, "patroni")
    stage.supervisor.forget(seat.server.name, "patroni")
    plain = stage.seat(seat.server.name, "postgres")
    stage.supervisor.render(plain)
    await admin.finish_release(seat)
    await postgres.reload(plain)


async def _release(stage: Stage, seat: engines.Seat) -> None:
    server = seat.server.name
    plain = stage.seat(server, "postgres")
    if _runs(stage, server):
        await admin.prepare_release(seat)
    stage.supervisor.render(plain)
    if not stage.supervisor.adopt(plain):
        raise errors.EngineFailed(f"{server}: PostgreSQL does not run under Patroni; nothing was released")
    await stage.supervisor.stop_process(server, "patroni")
    await admin.finish_release(seat)
    await postgres.drop_slots(plain)
    await postgres.reload(plain)
    stage.supervisor.forget(server, "patroni")


async def _leader(stage: Stage) -> engines.Seat:
    """The seat of the member that leads."""
    node = (await stage.observer.snapshot(stage.seats)).primary
    if node is None:
        raise errors.EngineFailed("no database server is primary now; see: tenfold status")
    return stage.seat(node.server, "patroni")


def _runs(stage: Stage, server: str) -> bool:
    record = stage.supervisor.store.server(server).processes.get("patroni")
    return record is not None and record.is_alive
