"""How many servers of a tier there should be: out at once, in slowly, and not at all when it does not help. Pure.

Called by `runtime/autoscaling` with every sample; it keeps the `State` that is returned and hands it in again. Modelled
on Knative's KPA (a short window that panics, no scale-in meanwhile) and on Kubernetes' HPA (tolerance, the largest
answer of several, a stabilisation window for scale-in). Servers that start count as capacity from the decision on.
It never waits, never looks at a clock, and never asks for what the bounds forbid.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tenfold.observation import demand

STABLE_SECONDS = 10.0
"""What load that grows or ebbs away is averaged over."""

LEAST_SAMPLES = 3
"""What is averaged over fewer is chance."""

URGENT_SECONDS = 4.0
"""Two samples not further apart than this speak of the same moment."""

URGENT_TIMES = 2.0
"""So many times the capacity is too much to be averaged first. KPA: `panic-threshold-percentage`."""

STEP_TIMES = 1.5
"""So many times what was usual is a step, and is not averaged with what was before it."""

SAME = 0.6
"""Two samples of a step closer than this share are averaged; else the first has seen only its beginning."""

TOLERANCE = 0.1
"""By how much a target may be missed, either way, before anything is done. HPA: the same."""

STALE_SECONDS = 5.0
"""A sample that is older says nothing."""

TRIAL_SECONDS = 5.0
"""For how long new servers must have served before it is judged whether they helped."""

LEAST_GAIN = 0.25
"""What share of the capacity that was added must be seen in what is answered, else it did not help."""

LONGEST_TRIAL_SECONDS = 60.0
"""Servers that do not serve by then are not judged."""

DATABASE_SHARE = 0.5
"""When at least this share of what is in flight is at work in the database, the time waits for that."""

STUCK_SECONDS = 120.0
"""How long nothing is added after that, unless more is answered or less is needed before."""

MOST_IN_AT_ONCE = 0.5
"""At most this share of the servers goes at once. KPA: `max-scale-down-rate` 2."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Servers were added: do they help?"""

    at: float
    former: int
    count: int
    signal: str
    wait_seconds: float
    answers: float
    arrivals: float
    served_at: float | None = None
    """Since when all of them take work."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """More servers did not help."""

    until: float
    answers: float
    text: str


@dataclass(frozen=True, slots=True)
class Moment:
    """One sample and what it asked for."""

    sample: demand.Sample
    needs: tuple[demand.Need, ...]


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered from sample to sample. A new one, after a restart, knows nothing and holds."""

    moments: tuple[Moment, ...] = ()
    """Not older than the longest window."""
    asked: tuple[tuple[float, int], ...] = ()
    """When how many servers would have done, with room to spare: for scale-in."""
    trial: Trial | None = None
    stuck: Stuck | None = None
    ignored: int = 0
    """Figures so far that could not be."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How many there should be. `reason` says why, in numbers, when that is another number than before."""

    count: int
    reason: str = ""
    is_urgent: bool = False
    wanted: int = 0
    """How many the load asks for, whatever the bounds are."""
    trouble: str = ""
    """Why no more are added though they are asked for."""
    load: str = ""
    """The largest need, in numbers."""


def decide(
    state: State, sample: demand.Sample | None, targets: demand.Targets, count: int, now: float
) -> tuple[State, Decision]:
    """The number of servers, `count` by now. Without a sample, or with an old one: the same."""
    held = max(targets.least, min(targets.most, count))
    if sample is None or now - sample.at > STALE_SECONDS:
        return state, Decision(held, trouble=state.stuck.text if state.stuck else "")
    state = _remembered(state, sample, targets, now)
    capacity = max(1, held - sample.lost)
    need, is_urgent = _largest(state, capacity)
    state = _judged(state, need, capacity, now)
    wanted = math.ceil(need.servers - 1e-9) + sample.lost if need and _is_beyond(need, capacity) else 0
    count = max(held, min(targets.most, wanted))
    load = need.text if need else ""
    if count == held:
        fewer = _enough_for_long(state, targets, held, now) if sample.serving >= capacity and not wanted else held
        reason = f"{fewer} have been enough for {targets.scale_in_after_seconds:g} s: {load}" if fewer < held else ""
        trouble = state.stuck.text if state.stuck else ""
        return state, Decision(fewer, reason, wanted=wanted, trouble=trouble, load=load)
    assert need is not None
    if state.stuck is not None or _is_too_early(state, sample):
        trouble = state.stuck.text if state.stuck else ""
        return state, Decision(held, wanted=wanted, trouble=trouble, load=load)
    asked = (*state.asked, (now, count))  # a whole window passes before one of them goes
    state = replace(state, asked=asked, trial=_begun(state, need, held, count, now))
    return state, Decision(count, need.text, is_urgent, wanted, load=load)


def wants_a_look(state: State, count: int) -> bool:
    """Whether the newest sample asks for more than there is: the next one should come soon, since it takes two."""
    newest = state.moments[-1].needs if state.moments else ()
    return any(one.servers > (1 + TOLERANCE) * count for one in newest if one.adds_up)


# What is remembered


def _remembered(state: State, sample: demand.Sample, targets: demand.Targets, now: float) -> State:
    sample, bad = demand.clean(sample)
    moment = Moment(sample, demand.needs(sample, targets))
    kept = tuple(one for one in state.moments if now - one.sample.at <= STABLE_SECONDS)
    state = replace(state, moments=(*kept, moment), ignored=state.ignored + len(bad))
    asked = tuple(one for one in state.asked if now - one[0] <= targets.scale_in_after_seconds)
    if any(one.adds_up for one in moment.needs):
        asked = (*asked, (now, _enough(state, sample)))
    return replace(state, asked=asked)


def _enough(state: State, sample: demand.Sample) -> int:
    """As many as would do, with the tolerance to spare: after a step in, nothing is asked for at once again."""
    stable = max((need.servers for need in _means(state.moments)), default=0.0)
    newest = max((need.servers for need in state.moments[-1].needs if not need.adds_up), default=0.0)
    return math.ceil(max(stable / (1 - TOLERANCE), newest) - 1e-9) + sample.lost


def _means(moments: Sequence[Moment]) -> Iterable[demand.Need]:
    """Every signal that adds up, averaged; the text is the newest."""
    newest = {one.signal: one for moment in moments for one in moment.needs if one.adds_up}
    for signal, need in newest.items():
        seen = [one.servers for moment in moments for one in moment.needs if one.signal == signal]
        yield replace(need, servers=sum(seen) / len(seen))


# Out


def _largest(state: State, capacity: int) -> tuple[demand.Need | None, bool]:
    """The largest need that counts now, and whether it is one that cannot wait to be averaged."""
    urgent = _urgent(state.moments, capacity)
    found = [*_means(state.moments), *_lasting(state.moments)] if len(state.moments) >= LEAST_SAMPLES else []
    return urgent or max(found, key=lambda one: one.servers, default=None), urgent is not None


def _urgent(moments: Sequence[Moment], capacity: int) -> demand.Need | None:
    """The newest sample's largest need that is a step: it and the one before are beyond what there is, and it is far
    beyond, or both are far from what was before them.
    """
    if len(moments) < 2 or moments[-1].sample.at - moments[-2].sample.at > URGENT_SECONDS:
        return None
    before = {one.signal: one.servers for one in moments[-2].needs}
    usual = {one.signal: one.servers for one in _means(moments[:-2])}
    steps = []
    for need in moments[-1].needs:
        least = min(need.servers, before.get(need.signal, 0.0))
        is_new = need.adds_up and len(moments) > 2 and least > STEP_TIMES * usual.get(need.signal, math.inf)
        if least > (1 + TOLERANCE) * capacity and (need.servers > URGENT_TIMES * capacity or is_new):
            is_same = least > SAME * need.servers
            steps.append(replace(need, servers=(need.servers + before[need.signal]) / 2) if is_same else need)
    return max(steps, key=lambda one: one.servers, default=None)


def _lasting(moments: Sequence[Moment]) -> list[demand.Need]:
    """Waiting times that have been over their target for half the stable window, under the same servers."""
    newest = moments[-1]
    half = [one for one in moments if newest.sample.at - one.sample.at <= STABLE_SECONDS / 2]
    if newest.sample.at - moments[0].sample.at < STABLE_SECONDS / 2:
        return []
    serving = newest.sample.serving
    over = [
        {one.signal for one in moment.needs if one.servers > serving and moment.sample.serving == serving}
        for moment in half
    ]
    return [one for one in newest.needs if not one.adds_up and all(one.signal in each for each in over)]


def _is_beyond(need: demand.Need, capacity: int) -> bool:
    return need.servers > capacity * (1 + TOLERANCE) if need.adds_up else need.servers > capacity


def _is_too_early(state: State, sample: demand.Sample) -> bool:
    """Whether the servers added last have not shown yet whether they help; what came since may need more."""
    trial = state.trial
    return trial is not None and (sample.arrivals or 0.0) <= (1 + TOLERANCE) * trial.arrivals


# Whether it helps


def _begun(state: State, need: demand.Need, former: int, count: int, now: float) -> Trial:
    arrivals = state.moments[-1].sample.arrivals or 0.0
    answers = _answers(state.moments)
    if state.trial is not None:  # more came while it ran: what was added since then is judged together
        former, answers = state.trial.former, state.trial.answers
    return Trial(now, former, count, need.signal, need.wait_seconds, answers, arrivals)


def _judged(state: State, need: demand.Need | None, capacity: int, now: float) -> State:
    """The state after a look at whether what was added last helps."""
    is_short = need is not None and _is_beyond(need, capacity)
    stuck, trial = state.stuck, state.trial
    if stuck and (now > stuck.until or not is_short or _answers(state.moments) > (1 + LEAST_GAIN) * stuck.answers):
        stuck = None
    if trial and trial.served_at is None and state.moments[-1].sample.serving >= min(trial.count, capacity):
        trial = replace(trial, served_at=now)
    if trial and not trial.served_at and now - trial.at > LONGEST_TRIAL_SECONDS:
        trial = None
    if trial and trial.served_at is not None and now - trial.served_at >= TRIAL_SECONDS:
        since = [one for one in state.moments if one.sample.at > trial.served_at]
        if need is not None and is_short and not _helped(trial, need, since):
            stuck = Stuck(now + STUCK_SECONDS, _answers(since), _why(trial, since))
        trial = None
    return replace(state, stuck=stuck, trial=trial)


def _helped(trial: Trial, need: demand.Need, since: Sequence[Moment]) -> bool:
    if need.signal == trial.signal and not need.adds_up and need.wait_seconds < (1 - TOLERANCE) * trial.wait_seconds:
        return True
    return _answers(since) >= trial.answers * (1 + LEAST_GAIN * (trial.count / trial.former - 1))


def _why(trial: Trial, since: Sequence[Moment]) -> str:
    text = (
        f"{trial.former} -> {trial.count} servers did not help: {trial.answers:.0f} answers a second before, "
        f"{_answers(since):.0f} since"
    )
    in_flight = _mean(one.sample.in_flight for one in since)
    busy = _mean(one.sample.database_busy for one in since)
    if in_flight and busy is not None and busy >= DATABASE_SHARE * in_flight:
        return f"{text}; of {in_flight:.0f} at once {busy:.0f} wait for the database, so no more are added"
    return f"{text}; what they wait for is not the servers, so no more are added"


def _answers(moments: Iterable[Moment]) -> float:
    return _mean(one.sample.answers for one in moments) or 0.0


def _mean(values: Iterable[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return sum(known) / len(known) if known else None


# In


def _enough_for_long(state: State, targets: demand.Targets, held: int, now: float) -> int:
    """As many as would have done all through the window, not all fewer at once; `held` while nobody can say."""
    window = targets.scale_in_after_seconds
    is_covered = len(state.asked) > window / STALE_SECONDS and now - state.asked[0][0] >= 0.9 * window
    enough = max((count for _, count in state.asked), default=held)
    if not is_covered or enough >= held:
        return held
    return max(targets.least, enough, math.ceil(held * MOST_IN_AT_ONCE))
