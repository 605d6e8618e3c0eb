"""Databases that restart with other memory or connections: a replica, or a primary where it is, under either manager.

The order of several is the plan's (`planning/resizing`). Before anything stops, PostgreSQL itself is asked whether it
would start with the new settings on that server.
"""

from tenfold import errors
from tenfold.engines.patroni import admin as patroni
from tenfold.engines.postgres import trial
from tenfold.kit import clock
from tenfold.observation import snapshot
from tenfold.planning import resizing, steps
from tenfold.runtime.actions import holding
from tenfold.runtime.actions.stage import Stage
from tenfold.topology import units

FOLLOW_SECONDS = 60.0
"""How long a replica may take to stream again, and to have replayed what the primary had when it came back."""


async def restart_replica(stage: Stage, step: steps.RestartReplica) -> None:
    """The replica runs with the topology's settings, streams, and has caught up."""
    seat = stage.seat(step.server, "patroni")
    await _ensure_it_would_start(stage, step.server)
    await patroni.resize(seat, step.max_connections)
    await _until_following(stage, step.server)  # a replica learns from the log how many connections its primary has
    if await _is_as_wanted(stage, step):
        return  # Patroni restarts one by itself whose primary has got more connections
    await patroni.until_restart_pending(seat)
    await patroni.restart(seat)
    await _until_following(stage, step.server)


async def restart_primary(stage: Stage, step: steps.RestartPrimary) -> None:
    """The primary runs with the topology's settings, where it is; what needed it meanwhile has waited."""
    plain = stage.seat(step.server, "postgres")
    await _ensure_it_would_start(stage, step.server)
    if await _is_patronis(stage, step.server):
        managed = stage.seat(step.server, "patroni")
        await patroni.resize(managed, step.max_connections)
        await patroni.until_restart_pending(managed)
        async with holding.held(stage, plain):
            await patroni.restart(managed)
        await _until_all_follow(stage)
    else:
        async with holding.held(stage, plain):
            await stage.restart(plain)


async def _ensure_it_would_start(stage: Stage, server: str) -> None:
    """Raises EngineFailed, with PostgreSQL's own words, when the machine cannot give what is asked for."""
    seat = stage.seat(server, "postgres")
    trial.prepare(seat)
    try:
        await stage.supervisor.run_inside(seat, trial.command(seat))
    except errors.EngineFailed as error:
        database = stage.seats.topology.database
        raise errors.EngineFailed(
            f'database.memory = "{units.size(database.memory_bytes)}", max_connections = {database.max_connections}: '
            f"PostgreSQL would not start with that, so nothing was stopped; ask for less. {error}"
        ) from error
    finally:
        trial.remove(seat)


async def _until_following(stage: Stage, server: str) -> None:
    """Returns when the replica has replayed everything that the primary has flushed since it streams."""
    wanted = 0

    async def has_caught_up() -> bool:
        nonlocal wanted
        node, primary = await _look(stage, server)
        if node is None or primary is None or not node.is_streaming:
            return False
        wanted = wanted or primary.lsn
        return node.lsn >= wanted and not node.is_paused

    if not await clock.until(has_caught_up, seconds=FOLLOW_SECONDS, pause_seconds=0.2):
        raise errors.EngineFailed(
            f"{server}: does not follow the primary after {FOLLOW_SECONDS:g} s; see: tenfold logs {server}"
        )


async def _until_all_follow(stage: Stage) -> None:
    """Returns when the replicas have found their primary, and commits wait for them if they shall; or soon after."""

    async def is_whole() -> bool:
        seen = await stage.observer.snapshot(stage.seats)
        standbys = [node for node in seen.databases if node.role == "standby" and node.is_reachable]
        return (
            all(node.is_streaming and not node.is_paused for node in standbys)
            and seen.is_synchronous >= was_synchronous
        )

    was_synchronous = bool(stage.seats.topology.database.synchronous)
    await clock.until(is_whole, seconds=FOLLOW_SECONDS, pause_seconds=0.2)


async def _look(stage: Stage, server: str) -> tuple[snapshot.DatabaseNode | None, snapshot.DatabaseNode | None]:
    seen = await stage.observer.snapshot(stage.seats)
    return seen.database(server), seen.primary


async def _is_as_wanted(stage: Stage, step: steps.RestartReplica) -> bool:
    node, _ = await _look(stage, step.server)
    if node is None or node.max_connections != step.max_connections:
        return False
    return abs(node.memory_bytes - step.memory_bytes) < resizing.BLOCK_BYTES


async def _is_patronis(stage: Stage, server: str) -> bool:
    node, _ = await _look(stage, server)
    return node is not None and node.manager == "patroni"
