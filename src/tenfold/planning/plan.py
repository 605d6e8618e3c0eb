"""The plan: the ordered steps from what is there to what is wanted, as a value.

Made before anything happens, printed, then carried out by `runtime/apply`. It remembers nothing: after an
interruption at any step, planning again from a new snapshot gives the rest; planning for the former topology undoes.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tenfold.observation import snapshot as snapshots
from tenfold.planning import (
    carrying,
    database,
    effects,
    homing,
    leaving,
    naming,
    regions,
    releases,
    resizing,
    serving,
    steps,
    telling,
)
from tenfold.planning.situation import Situation
from tenfold.topology import tiers

RULES = (
    *(regions.connect, regions.reconnect),
    homing.move,
    *(
        *database.RULES,
        homing.follow,
        *carrying.RULES,
        *serving.RULES,
        *naming.RULES,
        *carrying.EMPTYING,
        regions.disconnect,
        *leaving.RULES,
    ),
    *resizing.LAST,
)
"""The first rule that finds work gives the next step: start before stop, data before code, code before requests."""

MOST_STEPS = 500
"""More than any service needs; a plan that does not end is a mistake in the rules."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordered steps, and what the plan leaves alone."""

    steps: tuple[steps.Step, ...]
    notes: tuple[str, ...] = ()
    """What is wanted and cannot be done now, each with what a person can do about it."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.steps

    def lines(self) -> tuple[str, ...]:
        """The plan as a person reads it: per step a title, then its reason, risk and undo, indented."""
        lines = [line for number, step in enumerate(self.steps, start=1) for line in _lines(number, step)]
        return (*lines, *(f"left alone: {note}" for note in self.notes))

    def as_json(self) -> dict[str, Any]:
        """The plan as `--json` prints it; the form is stable."""
        return {"steps": [_as_json(step) for step in self.steps], "notes": list(self.notes)}


def make(
    topology: tiers.Topology,
    snapshot: snapshots.Snapshot,
    revisions: Mapping[steps.Target, str] | None = None,
    released: releases.Wanted = releases.NOTHING,
) -> Plan:
    """The steps from `snapshot` to `topology`, its web servers with the releases of `released`.

    `revisions` tells, by server and process, the revision that its settings have now; of a process that it does not
    name, the revision is not compared. Raises BadInput when a server would have to change its address.
    """
    views = regions.views(topology, snapshot, revisions or {}, released)
    made: list[steps.Step] = []
    while found := _next_step(views):
        name, step = found
        made.append(step)
        assert len(made) <= MOST_STEPS, f"a plan without end: {made[-1].title} comes again and again"
        views = _after(step, views, name)
    return Plan(tuple(made), _notes(views))


def _next_step(views: regions.Views) -> tuple[str, steps.Step] | None:
    """The next step, and the region that it is for: each rule is asked of the home region first, then of the others.

    What the app is told is looked at the other way round: all regions know the last thing before home is told the next.
    """
    seen = [regions.seen(views, name) for name in regions.staying(views)]
    looked = ((one, rule) for rule in RULES for one in (reversed(seen) if rule is database.publish else seen))
    steps_found = ((one.region, step) for one, rule in looked if (step := rule(one)))
    leaving = naming.before_departure(views) or telling.before_departure(views) or regions.next_departure(views)
    return leaving or next(steps_found, None)


def _after(step: steps.Step, views: regions.Views, name: str) -> regions.Views:
    if isinstance(step, steps.PublishBindings):
        views = regions.after_telling(views, step, name)
    if isinstance(step, steps.MoveHome):
        views = {**views, step.source: homing.moved(views[step.source])}
        views = telling.after_loss(views, step.source) if step.is_lost else views
    return {**views, name: effects.after(step, regions.seen(views, name))}


def _notes(views: regions.Views) -> tuple[str, ...]:
    """Why the situation after the last step is not what the topology asks for."""
    seen = [regions.seen(views, name) for name in regions.staying(views)]
    return tuple(
        note
        for one in seen
        for note in (*_notes_on_killed(one), *(_notes_on_data(one) if one.is_home else ()), *_notes_on_sizes(one))
    )


def _notes_on_killed(last: Situation) -> list[str]:
    needed = (*(one.name for one in last.wanted.servers), *last.needed_caches, *last.needed_queues)
    killed = [name for name in dict.fromkeys(needed) if last.is_killed(name)]
    return [f"{name} was killed and stays off; start it with: tenfold server start {name}" for name in killed]


def _notes_on_data(last: Situation) -> list[str]:
    notes = []
    if last.primary is None:
        notes.append(_note_without_primary(last))
    elif not last.has_settled:
        notes.append(f"the database stays on {last.primary.server}: {', '.join(last.homes)} cannot take it now")
    return notes


def _notes_on_sizes(last: Situation) -> list[str]:
    reason = resizing.waiting(last)
    return [reason] if reason else []


def _note_without_primary(last: Situation) -> str:
    if last.holder is None:
        return f"there is no database yet: {', '.join(last.homes)} cannot take it now"
    if last.manager_of(last.holder) == "patroni":
        return "what else there is to do depends on which database becomes the primary; Patroni chooses it"
    return (
        f"the data is on {last.holder.server}, which is off; start it with: tenfold server start {last.holder.server}"
    )


def _lines(number: int, step: steps.Step) -> tuple[str, ...]:
    return (
        f"{number:>3}. {step.title}",
        f"     reason: {step.reason}",
        f"     risk:   {step.risk}",
        f"     undo:   {step.undo}",
    )


def _as_json(step: steps.Step) -> dict[str, Any]:
    return {"kind": step.kind, "title": step.title, "risk": step.risk, "undo": step.undo, **asdict(step)}
