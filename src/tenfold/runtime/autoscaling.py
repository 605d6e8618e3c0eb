"""The loop of autoscaling: a sample of each tier that has a range, a decision, and a changed number that is applied.

Owned by the runtime; started and ended with it. One iteration is `once`. It changes nothing but the number that is
wanted: the way there is the one of every change (`Runtime.scale`). A runtime that comes back goes on from the recorded
number and knows nothing else: it adds servers as soon as it has seen enough, and takes none away for a whole window.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from tenfold import errors
from tenfold.controllers import autoscale
from tenfold.engines.haproxy import admin as haproxy
from tenfold.observation import conditions
from tenfold.runtime import backlog, events, seats, signals, traffic
from tenfold.runtime.actions import balancer
from tenfold.topology import layout, tiers

PERIOD_SECONDS = 1.0

HASTY_SECONDS = 0.5
"""The next sample comes sooner when more is asked for than there is: it takes two to believe that."""

IDLE_SECONDS = 2.0
"""How often a service is looked at that has no ranges."""

KIND = "scaling"
"""The kind of the event that a decision is."""

USELESS = "scaling_does_not_help"

PAUSE_SECONDS = 30.0
"""After servers could not be added, how long nothing is decided for their tier."""


class Scaled(Protocol):
    """What the loop needs of the runtime."""

    journal: events.Journal
    sampler: traffic.Sampler

    @property
    def topology(self) -> tiers.Topology: ...
    @property
    def seats(self) -> seats.Seats: ...
    def may_scale(self, *, is_out: bool) -> bool:
        """Whether a number may be changed now: no other change is being applied, or waits to be finished."""
        ...

    def decide(self, counts: Mapping[str, int]) -> None:
        """Record these numbers: from now on they are what is wanted."""
        ...

    async def scale(self) -> None:
        """Apply the recorded numbers, and those that are recorded meanwhile. Raises StepFailed when it went back."""
        ...


@dataclass(slots=True)
class _Tier:
    """What is remembered of one tier."""

    state: autoscale.State = field(default_factory=autoscale.State)
    last: autoscale.Decision | None = None
    reason: str = ""
    """The newest decision's, with its numbers."""
    decided_at: float = 0.0
    paused_until: float = 0.0
    said: str = ""
    """The trouble that was told last."""


class Autoscaler:
    """The autoscaling of one service."""

    def __init__(self, world: Scaled) -> None:
        self._world = world
        self._tiers: dict[str, _Tier] = {}
        self._signals = signals.Signals()
        self._queues = backlog.Watch()
        self._acting: asyncio.Task[None] | None = None
        self._told_full: dict[str, bool] | None = None
        """What balancers were told last, of each group."""

    async def watch(self) -> None:
        """Iterate until cancelled. An iteration that fails is reported and does not end the loop."""
        try:
            while True:
                pause = IDLE_SECONDS
                try:
                    pause = await self._turn()
                except errors.NotRunning:
                    pass  # nothing was ever started here
                except (errors.TenfoldError, OSError) as error:
                    self._world.journal.say("autoscaling_failed", str(error), level="error")
                await asyncio.sleep(pause)
        finally:
            if self._acting is not None:
                self._acting.cancel()
                with suppress(asyncio.CancelledError):
                    await self._acting
            await self._queues.close()

    async def once(self, now: float) -> dict[str, int]:
        """One iteration: by tier, the number that it has decided on, where that is another one than before."""
        world = self._world
        topology, places = world.topology, world.seats
        self._tiers = {tier: self._tiers.get(tier) or self._recalled(tier) for tier in topology.bounds}
        if not self._tiers:
            return {}
        waiting, _ = await asyncio.gather(self._queues.look(places), world.sampler.sample(places))
        said = world.sampler.said
        changed = {}
        for tier, known in self._tiers.items():
            count = topology.scaled[tier].count
            sample = self._signals.sample(tier, places, said, waiting)
            targets = signals.targets(tier, topology)
            state, decision = autoscale.decide(known.state, sample, targets, count, max(now, said.at))
            if decision.count != count and not self._may_change(known, now, is_out=decision.count > count):
                decision = replace(decision, count=count)
                state = replace(state, trial=known.state.trial)
            known.state, known.last = state, decision
            self._tell(tier, known, count, decision)
            if decision.count != count:
                changed[tier] = decision.count
        return changed

    @property
    def full(self) -> dict[str, bool]:
        """By group of web servers that has a range, whether no more servers will come than serve it now."""
        groups = (layout.DEFAULT_GROUP, *self._world.topology.web_groups)
        tiers_of = {group: layout.tier_of(group) for group in groups}
        return {group: self._is_full(tier) for group, tier in tiers_of.items() if tier in self._world.topology.bounds}

    def status(self) -> list[dict[str, Any]]:
        """What `tenfold status --json` says of each tier that has a range."""
        topology = self._world.topology
        return [
            {
                "tier": tier,
                "servers": topology.scaled[tier].count,
                "min": bounds.min,
                "max": bounds.max,
                "wanted": known.last.wanted if (known := self._tiers.get(tier)) and known.last else 0,
                "load": known.last.load if known and known.last else "",
                "reason": (known or self._recalled(tier)).reason,
                "decided_at": (known or self._recalled(tier)).decided_at,
                "ignored": known.state.ignored if known else 0,
            }
            for tier, bounds in topology.bounds.items()
        ]

    def troubles(self) -> list[conditions.Condition]:
        """What a person should know: more is asked for than may be, or more does not help."""
        found = []
        for tier, known in self._tiers.items():
            bounds = self._world.topology.bounds.get(tier)
            if known.last is None or bounds is None:
                continue
            if known.last.trouble:
                found.append(conditions.Condition(USELESS, "warning", f"{tier}: {known.last.trouble}"))
            elif known.last.wanted > bounds.max:
                text = f"{tier} needs {known.last.wanted} servers and may have {bounds.max}: {known.last.load}"
                found.append(conditions.Condition("scaling_at_most", "warning", text))
        return found

    # Details

    async def _turn(self) -> float:
        """One iteration and what follows from it. Returns how long to wait for the next."""
        began = time.monotonic()
        changed = await self.once(began)
        await self._tell_doors()
        if changed:
            self._act(changed)
        if not self._tiers:
            return IDLE_SECONDS
        counts = {tier: section.count for tier, section in self._world.topology.scaled.items()}
        is_hasty = any(autoscale.wants_a_look(known.state, counts.get(tier, 0)) for tier, known in self._tiers.items())
        return max(0.05, (HASTY_SECONDS if is_hasty else PERIOD_SECONDS) - (time.monotonic() - began))

    def _is_full(self, tier: str) -> bool:
        """As many as may be, or more do not help; and all of them are there."""
        known, count = self._tiers.get(tier), self._world.topology.scaled[tier].count
        if known is None or known.last is None or not known.state.moments:
            return False
        is_most = known.last.count >= self._world.topology.bounds[tier].max or bool(known.last.trouble)
        return is_most and known.last.count == count <= known.state.moments[-1].sample.serving

    async def _tell_doors(self) -> None:
        """Balancers let requests wait for servers that come, and refuse early once none will. Said again each time
        while it is so: one that has been reloaded has forgotten it."""
        full = self.full
        if not any(full.values()) and full == self._told_full:
            return
        self._told_full = {}
        for socket in balancer.living(self._world.seats):
            with suppress(errors.EngineFailed):  # it is told the next time
                await haproxy.refuse_early(socket, full)
        self._told_full = full

    def _act(self, changed: Mapping[str, int]) -> None:
        """Apply it while samples go on. What is added while servers start is taken along by the same change."""
        self._world.decide(changed)
        if self._acting is None or self._acting.done():
            self._acting = asyncio.create_task(self._scale(tuple(changed)), name="tenfold-scale")

    async def _scale(self, changed: tuple[str, ...]) -> None:
        began = time.monotonic()
        try:
            await self._world.scale()
        except (errors.TenfoldError, OSError) as error:
            for known in self._tiers.values():
                known.paused_until = time.monotonic() + PAUSE_SECONDS
            text = f"{error}\nTried again in {PAUSE_SECONDS:g} s at the earliest, if it is needed then."
            self._world.journal.say("scaling_failed", text, level="error")
            return
        scaled = self._world.topology.scaled
        there = ", ".join(f"{tier} has {scaled[tier].count} servers" for tier in changed if tier in scaled)
        self._world.journal.say("scaled", there, seconds=time.monotonic() - began)

    def _may_change(self, known: _Tier, now: float, *, is_out: bool) -> bool:
        return now >= known.paused_until and self._world.may_scale(is_out=is_out)

    def _tell(self, tier: str, known: _Tier, count: int, decision: autoscale.Decision) -> None:
        """Every decision is an event with its reason; so is a trouble, once."""
        if decision.count != count:
            known.reason = f"{tier} {count} -> {decision.count}: {decision.reason}"
            known.decided_at = time.time()
            self._world.journal.say(KIND, known.reason, subject=tier)
        if decision.trouble and decision.trouble != known.said:
            self._world.journal.say(USELESS, f"{tier}: {decision.trouble}", subject=tier, level="warning")
        known.said = decision.trouble

    def _recalled(self, tier: str) -> _Tier:
        """A tier as the journal knows it, which an earlier runtime may have written."""
        recent = self._world.journal.recent
        last = next((one for one in reversed(recent) if one.kind == KIND and one.subject == tier), None)
        return _Tier(reason=last.text, decided_at=last.at) if last else _Tier()
