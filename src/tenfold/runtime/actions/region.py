"""The data in more than one region: the others follow the home, and the home moves. See `runtime/crossing`."""

import json

from tenfold import engines, errors
from tenfold.engines import database
from tenfold.engines.patroni import admin as patroni
from tenfold.engines.patroni import regions
from tenfold.engines.postgres import lost
from tenfold.kit import files
from tenfold.planning import steps, telling
from tenfold.runtime import crossing, publish
from tenfold.runtime.actions.stage import Stage


async def follow(stage: Stage, step: steps.FollowHome) -> None:
    """Every database of the step streams from its region's leader, and that one from the home.

    None of the region's Patronis runs before its store says whom it follows: a former primary would elect itself.
    """
    primary = (await stage.observer.snapshot(stage.seats)).primary
    if primary is None:
        raise errors.EngineFailed(f"{step.region} cannot follow {step.home}: no database there is primary")
    await patroni.configure(stage.seat(primary.server, "patroni"))
    everybody = side(stage, step.region)
    joining = [seat for seat in everybody.members if seat.server.name in step.servers]
    running = [seat for seat in everybody.members if _runs(stage, seat.server.name)]
    if not running:
        await regions.remember_to_follow(joining[0], step.home)
        await _say_what_is_lost(stage, step)
    elif not await regions.is_following(running[0]):
        raise errors.EngineFailed(
            f"{step.region}: a Patroni runs there that does not follow {step.home}; nothing was changed, "
            f"stop it with: tenfold server kill {running[0].server.name}"
        )
    await stage.start(joining)
    await crossing.settle(crossing.Side(step.region, tuple(joining)))


async def move(stage: Stage, step: steps.MoveHome) -> None:
    """The primary is in the target region and takes writes; of a source that is not lost every database follows."""
    source, target = side(stage, step.source), side(stage, step.target)
    if step.is_lost:
        _ensure_dead(stage, source)
        _suspend(stage, step)
        epoch = await crossing.promote(target)
        stage.journal.say(
            "home_replaced",
            f"{step.target} is the home of the data, epoch {epoch}: {step.source} is lost",
            level="warning",
        )
        return
    await _start_again(stage, source, target)
    moved = await crossing.move(source, target, _program(stage))
    text = f"{step.target} is the home of the data, epoch {moved.epoch}: writes waited {moved.paused_seconds:.1f} s"
    stage.journal.say("home_moved", text)
    await crossing.settle(source)


def _suspend(stage: Stage, step: steps.MoveHome) -> None:
    """With `synchronous = "regions"`: before anybody writes in the new home, nobody waits for the lost one.

    Planning asks for it again as soon as another region follows.
    """
    for region in stage.seats.topology.regions:
        bound = publish.published(stage.seats, region)
        told = publish.told_in(bound)
        if step.source in told.witnesses:
            fewer = telling.without(told, step.source)
            publish.write(stage.seats, publish.databases_in(bound), fewer, region)
            if region == step.target and not fewer.witnesses:
                text = f"commits count in {region} alone until another region follows: {step.source} is lost"
                stage.journal.say("regions_suspended", text, subject=region, level="warning")


async def keep_nothing_for(stage: Stage, leaving: tuple[str, ...]) -> None:
    """The databases that stay keep no log for regions whose databases go: before these are forgotten, so that a change
    that is cut short comes back here."""
    known, wanted = stage.seats.known, stage.seats.topology.regions
    if not any(one.name in leaving and one.region not in wanted for one in known.running("patroni")):
        return
    for region in wanted:
        staying = side(stage, region)
        if staying.members:
            await crossing.ask_any(staying, patroni.configure)


def side(stage: Stage, region: str) -> crossing.Side:
    """A region's Patronis on servers with power, and those that are wanted there."""
    servers = stage.seats.known.of(region).running("patroni")
    records = stage.supervisor.store.records.servers
    there = [one.name for one in servers if one.name in records and records[one.name].power == "on"]
    return crossing.Side(region, tuple(stage.seat(name, "patroni") for name in there))


def _program(stage: Stage) -> crossing.Program:
    async def run(seat: engines.Seat, command: engines.Command) -> str:
        return await stage.supervisor.run_inside(seat, command)

    return run


async def _start_again(stage: Stage, source: crossing.Side, target: crossing.Side) -> None:
    """A source that went down in the middle of a move runs again, whether it had given the home up by then or not.

    Only beside a target that follows it, as its store says: then no two of them can have a primary.
    """
    if any(_runs(stage, seat.server.name) for seat in source.members):
        return
    if await crossing.ask_any(target, regions.is_following):
        await stage.start(source.members)
        await crossing.ensure_decided(source)


def _ensure_dead(stage: Stage, source: crossing.Side) -> None:
    """The proof that no database of the lost region takes writes: none of its servers has power."""
    records = stage.supervisor.store.records.servers
    servers = stage.seats.known.of(source.region).running("patroni")
    alive = [one.name for one in servers if one.name in records and records[one.name].is_alive]
    if alive:
        raise errors.EngineFailed(f"{', '.join(alive)}: still alive; nobody is promoted while they are")


async def _say_what_is_lost(stage: Stage, step: steps.FollowHome) -> None:
    """What the region committed as the home and its successor never got, before its copies are rewound."""
    former, home = side(stage, step.region), side(stage, step.home)
    if not any(lost.was_primary(seat) for seat in former.members if database.holds_data(seat)):
        return
    found = await crossing.ask_for_lost(former, home, _program(stage))
    path = stage.seats.where.state / f"lost-{step.region}.jsonl"
    lines = [json.dumps({"token": str(one.token), "at": one.committed_at.isoformat()}) for one in found]
    files.write_if_changed(path, "".join(f"{line}\n" for line in lines))
    text = f"{step.region} had committed {len(found)} transactions that {step.home} does not have: {path}"
    stage.journal.say("writes_lost", text, subject=step.region, level="error" if found else "info")


def _runs(stage: Stage, server: str) -> bool:
    record = stage.supervisor.store.server(server).processes.get("patroni")
    return record is not None and record.is_alive
