"""The home moves to another region: planned, with everything, or after a loss, with what there is.

Called by `runtime/actions/region`. It decides nothing: who calls has found out that the home shall move, or has proof
that no server of the lost region runs (or a person's word that what is lost is lost).

    hold     the source's primary holds its writes; those in flight have ended     undone by `_take_back`
    demote   the source follows the target; its primary was stopped cleanly        undone by `_take_back`
    -------- the target is proven to have everything: from here on only finishing is right
    promote  the target's leader is the primary, holds its writes, and has begun the next epoch
    open     it takes writes

Every function may be called twice, and again after it was cut short anywhere: it looks first at what is there.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tenfold import engines, errors
from tenfold.engines.patroni import admin as patroni
from tenfold.engines.patroni import regions
from tenfold.engines.postgres import admin as postgres
from tenfold.engines.postgres import command, epochs, lost, watcher
from tenfold.kit import clock

DRAIN_SECONDS = 2.0
"""How long a write transaction that is open when the move begins may take to end."""

NEAR_SECONDS = 30.0
"""How long the target may take to come near the source before anything is held."""

COMPLETE_SECONDS = 10.0
"""How long writes wait for the target to have the source's last record. Then they go on where they were."""

PROMOTE_SECONDS = 30.0

SETTLE_SECONDS = 120.0
"""How long a follower may take until it streams: it may have to be rewound."""

LOOK_SECONDS = 2.0

Result = TypeVar("Result")

Program = Callable[[engines.Seat, engines.Command], Awaitable[str]]
"""Runs a one-shot program on the seat's server to a good end, and gives its output."""


@dataclass(frozen=True, slots=True)
class Side:
    """A region and the seats of its Patronis."""

    region: str
    members: tuple[engines.Seat, ...]


@dataclass(frozen=True, slots=True)
class Moved:
    """What a move was like."""

    epoch: int
    paused_seconds: float
    """How long writes waited; 0 when an earlier call, which was cut short, began to hold them."""
    ended: int
    """Sessions that had to be ended because their transactions went on."""


async def move(source: Side, target: Side, run: Program) -> Moved:
    """The target has the primary and all that the source ever acknowledged; the source follows it.

    Until the target is promoted, any failure lets the source write again, and is raised. Cut short after that, it
    takes another call to finish.
    """
    paused_at, ended = 0.0, 0
    if await _primary(target) is None and not await ask_any(target, regions.is_following):
        await _await_primary(target)  # it leads already and elects: to give the source the lead back would make two
    elif await _primary(target) is None:
        if not await ask_any(source, regions.is_following):
            leader = await _leader(source)
            await ensure_near(leader, target)
            await postgres.checkpoint(leader)
            paused_at = time.monotonic()
            ended = await _hold_and_demote(leader, source, target, run)
        else:
            await _or_take_back(source, _ensure_complete(source, None, target, run))
    epoch = await promote(target)
    return Moved(epoch, time.monotonic() - paused_at if paused_at else 0.0, ended)


async def ensure_decided(side: Side) -> None:
    """The region's Patronis, started a moment ago, follow another one, or have a primary."""

    async def is_decided() -> bool:
        try:
            return await ask_any(side, regions.is_following) or await _primary(side) is not None
        except errors.EngineFailed:
            return False

    if not await clock.until(is_decided, seconds=PROMOTE_SECONDS, pause_seconds=0.1):
        raise errors.EngineFailed(f"{side.region}: no database became the primary within {PROMOTE_SECONDS:g} s")


async def promote(target: Side) -> int:
    """The target's leader is a primary that takes writes, of a new epoch; returns which. Cut short: call it again.

    Only when no server of another region is a primary or can become one: nothing here checks that.
    """
    primary = await _primary(target)
    ending = None
    if primary is None:
        leader = await _leader(target)
        await postgres.fence(leader)
        ending = await epochs.ending(leader)
        await regions.lead(leader)
        primary = await _await_primary(target)
    if await epochs.home(primary) != target.region:
        await postgres.fence(primary)
        await epochs.begin(primary, target.region, await epochs.number(primary) + 1, ending)
    await patroni.set_synchronous(primary, bool(primary.topology.database.synchronous))
    await postgres.unfence(primary)
    return await epochs.number(primary)


async def settle(follower: Side) -> None:
    """Every database of the region streams, by way of its leader, from the home. No fence is left behind."""

    async def is_settled() -> bool:
        facts = [await _look(seat) for seat in follower.members]
        return all(one is not None and one.role == "standby" and one.is_streaming for one in facts)

    if not await clock.until(is_settled, seconds=SETTLE_SECONDS, pause_seconds=0.2):
        raise errors.EngineFailed(
            f"{follower.region}: its databases do not follow the home after {SETTLE_SECONDS:g} s; "
            f"see: tenfold logs {follower.members[0].server.name}"
        )
    for seat in follower.members:
        await postgres.unfence(seat)


async def ask_for_lost(former: Side, home: Side, run: Program) -> list[lost.Commit]:
    """What the former home has committed and the new one does not have, by its files: before its Patronis start.

    Its servers have power; nothing of PostgreSQL runs on them. Later the same is answered from what was asked before.
    """
    primary = await _primary(home)
    if primary is None:
        raise errors.EngineFailed(f"{home.region}: no database there takes writes; what was lost cannot be told yet")
    held = await epochs.held(primary)
    found: dict[object, lost.Commit] = {}
    for seat in former.members:
        if lost.was_primary(seat):
            output = await run(seat, lost.question(seat, held))
            if not lost.has_answered(seat):
                raise errors.EngineFailed(f"{seat.server.name}: what it has committed cannot be told: {output[-500:]}")
        found |= {one.token: one for one in await lost.missing(primary, lost.answer(seat))}
    return sorted(found.values(), key=lambda one: one.committed_at)


async def ask_any(side: Side, ask: Callable[[engines.Seat], Awaitable[Result]]) -> Result:
    """What the first of the region's Patronis says that answers."""
    reasons = []
    for seat in side.members:
        try:
            return await ask(seat)
        except errors.EngineFailed as error:
            reasons.append(str(error))
    raise errors.EngineFailed(f"{side.region}: none of its Patronis answered ({'; '.join(reasons)})")


async def _hold_and_demote(leader: engines.Seat, source: Side, target: Side, run: Program) -> int:
    """Writes wait, the source follows the target, and the target has everything. On any failure all is as before."""

    async def give_up() -> int:
        await postgres.fence(leader)
        ended = await postgres.drain(leader, DRAIN_SECONDS)
        await ensure_near(leader, target, COMPLETE_SECONDS)
        await regions.follow(leader, target.region)
        await _ensure_complete(source, leader, target, run)
        return ended

    return await _or_take_back(source, give_up())


async def _or_take_back(source: Side, work: Awaitable[Result]) -> Result:
    try:
        return await work
    except BaseException:
        await asyncio.shield(_take_back(source))
        raise


async def _take_back(source: Side) -> None:
    """The source has its primary again, which takes writes."""
    await ask_any(source, regions.lead)
    await postgres.unfence(await _await_primary(source))


async def ensure_near(leader: engines.Seat, target: Side, seconds: float = NEAR_SECONDS) -> None:
    """The target's leader streams and has replayed what the source's primary has written by now."""
    seen = await _look(leader)

    async def is_near() -> bool:
        there = await _look_at_leader(target)
        return seen is not None and there is not None and there.is_streaming and there.lsn >= seen.lsn

    if not await clock.until(is_near, seconds=seconds, pause_seconds=0.02):
        raise errors.EngineFailed(
            f"{target.region}: does not follow {leader.server.name} closely enough after {seconds:g} s; "
            "nothing was moved, see: tenfold status"
        )


async def _ensure_complete(source: Side, leader: engines.Seat | None, target: Side, run: Program) -> None:
    """The proof before the promotion: the source's primary was stopped, and the target has its last record.

    `leader` was the primary; without one (an earlier call knew it) every server of the source must say so.
    """
    proving = source.members if leader is None else (leader,)

    async def is_complete() -> bool:
        there = await _look_at_leader(target)
        if there is None:
            return False
        ends = [await _end(seat, run) for seat in proving]
        return all(end is not None and there.lsn >= end for end in ends)

    if not await clock.until(is_complete, seconds=COMPLETE_SECONDS, pause_seconds=0.05):
        raise errors.EngineFailed(
            f"{target.region}: is not proven to have the end of {source.region}'s log after {COMPLETE_SECONDS:g} s; "
            f"{source.region} has its primary again"
        )


async def _end(seat: engines.Seat, run: Program) -> int | None:
    """How far the log of a copy goes that takes no writes any more; None while that cannot be told."""
    facts = await _look(seat)
    if facts is not None:
        return facts.lsn if facts.role == "standby" and facts.lsn else None
    try:
        ended = postgres.parse_control_data(await run(seat, command.control_data(seat)))
    except errors.EngineFailed:
        return None
    return ended.checkpoint + 1 if ended.was_shut_down else None


async def _leader(side: Side) -> engines.Seat:
    """The seat of the database that leads in the region, as a primary or a standby leader."""
    name = await ask_any(side, regions.leader)
    found = next((seat for seat in side.members if seat.server.name == name), None)
    if found is None:
        raise errors.EngineFailed(f"{side.region}: no database leads there now; see: tenfold status")
    return found


async def _primary(side: Side) -> engines.Seat | None:
    """The seat of the region's primary; None: it has none."""
    for seat in side.members:
        facts = await _look(seat)
        if facts is not None and facts.role == "primary":
            return seat
    return None


async def _await_primary(side: Side) -> engines.Seat:
    async def look() -> engines.Seat | None:
        return await _primary(side)

    found = await clock.until(look, seconds=PROMOTE_SECONDS, pause_seconds=0.05)
    if found is None:
        raise errors.EngineFailed(
            f"{side.region}: no database was promoted within {PROMOTE_SECONDS:g} s; "
            f"see: tenfold logs {side.members[0].server.name}"
        )
    return found


async def _look(seat: engines.Seat) -> watcher.Facts | None:
    eyes = postgres.Watcher(seat.address, seat.secrets.superuser)
    try:
        return await eyes.look(LOOK_SECONDS)
    finally:
        await eyes.close()


async def _look_at_leader(side: Side) -> watcher.Facts | None:
    """What the database that leads in the region says; None while none does, or none answers."""
    try:
        return await _look(await _leader(side))
    except errors.EngineFailed:
        return None
