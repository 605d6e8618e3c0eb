"""What the app is told, and what is moved once it has been told: sessions and messages.

The bindings are what is remembered: a move ends by telling the app that there is nothing left where it was. Killed in
the middle, it is begun again, and finds the rest.
"""

from tenfold import errors
from tenfold.kit import clock
from tenfold.observation import snapshot
from tenfold.planning import effects, steps
from tenfold.runtime import backlog, following, publish
from tenfold.runtime.actions.stage import Stage
from tenfold.sdk.queue import draining
from tenfold.sdk.sessions import moving

READ_SECONDS = 5.0
"""How long a publication waits for the app to have read it; what moves things waits longer, and insists."""

DRAIN_SECONDS = 60.0

QUIET_SECONDS = 10.0
"""How long the database's queue is given to become empty before its messages count as stragglers."""


async def publish_bindings(stage: Stage, step: steps.PublishBindings) -> None:
    """The bindings file names these servers, and every process goes by it."""
    await _settle(stage)  # nobody may be two publications behind
    publish.write(stage.seats, step.databases, step.told, step.region)
    await _settle(stage)


async def move_sessions(stage: Stage, step: steps.MoveSessions) -> None:
    """Every session that was in the source alone is in the target, and the app looks in the source no more."""
    await following.ensure_followed(stage.seats)
    bound = publish.published(stage.seats)
    if bound is None:
        raise errors.EngineFailed(f"{stage.seats.where.bindings}: not found; nothing was moved")
    count = await moving.move(bound, step.source, step.target)
    text = f"{count} sessions were moved from the {step.source} to the {step.target}"
    stage.journal.say("sessions_moved", text)
    await moving.clear(bound, step.source)
    await _tell(stage, effects.moved(publish.told_in(bound), step))


async def drain_queue(stage: Stage, step: steps.DrainQueue) -> None:
    """The former transport holds no message any more, and the app listens to it no more."""
    await following.ensure_followed(stage.seats)
    bound = publish.published(stage.seats)
    if bound is None or bound.database is None:
        raise errors.EngineFailed(f"{stage.seats.where.bindings}: not found; nothing was moved")
    if step.source == "nats":
        done = await draining.drain(bound.database, bound.queue, bound.service.name, DRAIN_SECONDS)
        if done.left:
            raise errors.EngineFailed(
                f"{done.left} messages are still in the hands of workers after {DRAIN_SECONDS:g} s; they stay on the "
                "queue servers; try again when their handlers have ended"
            )
        stage.journal.say("queue_drained", f"{done.moved} messages were moved from the queue servers to the database")
    else:
        await _until_quiet(stage)
    await _tell(stage, effects.drained(publish.told_in(bound)))


async def _settle(stage: Stage) -> None:
    late = await following.followed(stage.seats, READ_SECONDS)
    if late:
        text = f"the app on {', '.join(late)} has not read its bindings after {READ_SECONDS:g} s"
        stage.journal.say("bindings_unread", text, level="warning")


async def _tell(stage: Stage, told: snapshot.Told) -> None:
    bound = publish.published(stage.seats)
    publish.write(stage.seats, publish.databases_in(bound), told)
    await _settle(stage)


async def _until_quiet(stage: Stage) -> None:
    """What waits in the database's queue is handled, for the most part. The rest is looked after on every rung."""
    primary = (await stage.observer.snapshot(stage.seats)).primary
    if primary is None:
        return

    async def is_quiet() -> bool:
        return (await backlog.look(stage.seats, primary.server)).waiting == 0

    await clock.until(is_quiet, seconds=QUIET_SECONDS, pause_seconds=0.1)
