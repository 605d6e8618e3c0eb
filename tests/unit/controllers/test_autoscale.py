"""The controller on curves in simulated time: out fast, in slowly, nothing beyond what is needed, and no flapping."""

import dataclasses
import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import plant
from tenfold.controllers import autoscale
from tenfold.observation import demand

TARGETS = demand.Targets(least=2, most=12, concurrency=14.0, cpu_share=0.7, queue_seconds=0.05)
A_SERVER = 140.0
"""Requests a second that one server carries at its target."""


def run(curve: Callable[[float], float], seconds: float, **kinds: float) -> plant.Plant:
    made = plant.Plant(TARGETS, curve, **kinds)  # type: ignore[arg-type]  # numbers, as the plant's fields
    made.run(seconds)
    return made


@pytest.mark.parametrize("at", [20.0, 20.5, 20.95])
@pytest.mark.parametrize("before", [20.0, 40.0, 90.0, 140.0])
def test_tenfold_load_is_answered_within_three_seconds(before: float, at: float) -> None:
    found = run(lambda now: before if now < at else 10 * before, 120)

    needed = max(2, math.ceil(10 * before / A_SERVER))
    if needed > 2:
        assert 3.0 >= next(when for when, _ in found.changes) - at
    assert 10 * before / A_SERVER <= (1 + autoscale.TOLERANCE) * max(count for _, count in found.counts)
    assert 1.25 * needed >= max(count for _, count in found.counts)
    assert 0 == plant.turns(count for _, count in found.counts)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rate", [100.0, 270.0, 290.0, 430.0, 800.0])
def test_ten_minutes_of_noisy_steady_load_do_not_flap(rate: float, seed: int) -> None:
    needed = max(2, math.ceil(rate / A_SERVER))
    found = run(lambda _: rate, 600, noise=0.5, seed=seed, count=needed)

    assert 0 == plant.turns(count for _, count in found.counts)
    assert needed + 1 >= max(count for _, count in found.counts)
    assert 1 >= len(found.changes)


def test_a_ramp_is_followed_without_requests_that_wait() -> None:
    found = run(lambda now: 40 + 4 * min(now, 300), 400)

    assert 0 == plant.turns(count for _, count in found.counts)
    assert {9, 10} >= set(found.between(330, 400))
    assert 0.1 > max(found.waits)


@pytest.mark.parametrize("seconds", [20, 60])
def test_waves_shorter_than_the_window_keep_their_servers(seconds: float) -> None:
    found = run(lambda now: 500 + 300 * math.sin(2 * math.pi * now / seconds), 900, noise=0.2)

    assert 0 == plant.turns(found.between(120, 900))
    assert 7 >= max(count for _, count in found.counts)


def test_long_waves_are_followed_once_each_way() -> None:
    found = run(lambda now: 500 + 400 * math.sin(2 * math.pi * now / 600), 2400, noise=0.5)

    assert 2 * 4 >= plant.turns(count for _, count in found.counts)
    assert {6, 7, 8} >= {max(found.between(600 * wave, 600 * wave + 300)) for wave in range(4)}
    assert 2 == min(found.between(1000, 1300))


def test_a_sawtooth_keeps_what_its_teeth_need() -> None:
    found = run(lambda now: 40 + 8 * (now % 60), 900)

    assert 0 == plant.turns(found.between(120, 900))
    assert {4, 5} >= set(found.between(120, 900))


def test_a_spike_of_half_a_second_moves_nothing() -> None:
    found = run(lambda now: 600 if 30.2 < now < 30.7 else 40, 120)

    assert [] == found.changes


def test_silence_leads_back_to_the_least_but_not_at_once() -> None:
    found = run(lambda now: 1000 if now < 60 else 0, 300)

    assert 8 == max(found.between(30, 60))
    assert {8} == set(found.between(62, 110))
    assert 2 == found.counts[-1][1]
    assert 0 == plant.turns(found.between(60, 300))


def test_a_decision_says_why_in_numbers() -> None:
    found = run(lambda now: 40 if now < 20 else 600, 200)

    assert "60.0 at once, target 14 a server" == found.decisions[0][1].reason
    back = run(lambda now: 600 if now < 60 else 40, 200).decisions[-1][1]
    assert "2 have been enough for 60 s: 4.0 at once, target 14 a server" == back.reason


def test_servers_that_do_not_help_are_noticed_and_no_more_are_added() -> None:
    found = run(lambda now: 140 + 0.5 * now, 300, database_per_second=200.0, service_seconds=0.1)

    last = found.decisions[-1][1]
    assert "did not help" in last.trouble
    assert "wait for the database, so no more are added" in last.trouble
    assert 12 > found.counts[-1][1], "it went on adding servers"


def test_servers_are_added_again_once_it_helps() -> None:
    found = plant.Plant(TARGETS, lambda now: 140 + now, database_per_second=200.0)

    def repaired(now: float, sample: demand.Sample) -> demand.Sample:
        if now > 250:
            found.database_per_second = math.inf
        return sample

    found.run(600, repaired)
    assert 4 <= found.counts[-1][1]
    assert not found.decisions[-1][1].trouble
    assert found.state.stuck is None


LIES = st.sampled_from([math.nan, math.inf, -math.inf, -1.0, None, 1e300])


@given(st.lists(st.tuples(LIES, LIES, LIES, LIES), min_size=1, max_size=40), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_figures_that_cannot_be_are_counted_and_never_lead_out_of_bounds(
    told: list[tuple[float | None, ...]], count: int
) -> None:
    state = autoscale.State()
    for number, (arrivals, service, queue, cores) in enumerate(told):
        sample = demand.Sample(float(number), 2, arrivals=arrivals, service_seconds=service, queue_seconds=queue)
        sample = dataclasses.replace(sample, cores=cores, answers=arrivals)
        state, decision = autoscale.decide(state, sample, TARGETS, count, float(number))
        count = decision.count
        assert TARGETS.least <= count <= TARGETS.most
    assert state.ignored == sum(
        value is not None and not (math.isfinite(value) and value >= 0)
        for arrivals, service, queue, cores in told
        for value in (arrivals, service, queue, cores, arrivals)
    )


def test_lies_among_the_truth_change_nothing() -> None:
    lies = iter(range(100_000))

    def lying(_: float, sample: demand.Sample) -> demand.Sample | None:
        kind = next(lies) % 5
        if kind == 0:
            return None
        if kind == 1:
            return dataclasses.replace(sample, arrivals=math.nan, in_flight=-3.0, queue_seconds=math.inf)
        return sample

    found = plant.Plant(TARGETS, lambda now: 40 if now < 60 else 600)
    found.run(300, lying)
    assert 5 == found.counts[-1][1]
    assert 0 == plant.turns(count for _, count in found.counts)
    assert found.state.ignored > 100


def test_without_samples_nothing_moves() -> None:
    found = plant.Plant(TARGETS, lambda now: 600 if now < 100 else 0)
    found.run(600, lambda now, sample: sample if now < 100 else None)

    assert 5 == found.counts[-1][1]


def test_an_old_sample_says_nothing() -> None:
    old = demand.Sample(0.0, 2, arrivals=9000.0, service_seconds=0.1)
    state = autoscale.State()
    for now in (10.0, 11.0, 12.0):
        state, decision = autoscale.decide(state, old, TARGETS, 2, now)
        assert 2 == decision.count
    assert autoscale.State() == state


def test_the_largest_answer_wins() -> None:
    needs = demand.needs(
        demand.Sample(0.0, 2, arrivals=100.0, service_seconds=0.1, cores=3.5, bytes=1e6),
        dataclasses.replace(TARGETS, bytes=1e6),
    )

    assert {"concurrency": 10 / 14, "cpu": 5.0, "network": 1.0} == {one.signal: one.servers for one in needs}


def test_a_waiting_time_over_its_target_adds_one_at_a_time() -> None:
    targets = dataclasses.replace(TARGETS, concurrency=None, cpu_share=None, queue_seconds=None, latency_seconds=0.3)
    state, count, seen = autoscale.State(), 2, []
    for second in range(60):
        latency = 0.9 / count
        sample = demand.Sample(float(second), count, arrivals=9.0, answers=9.0, latency_seconds=latency)
        state, decision = autoscale.decide(state, sample, targets, count, float(second))
        if decision.count != count:
            count = decision.count
            seen.append((count, decision.reason))
    assert [(3, "p95 450 ms over target 300 ms")] == seen


def test_workers_follow_what_waits() -> None:
    targets = demand.Targets(least=1, most=6, depth=100.0, age_seconds=5.0)
    state, count = autoscale.State(), 1
    for second in range(4):
        sample = demand.Sample(float(second), count, depth=420.0, age_seconds=2.0)
        state, decision = autoscale.decide(state, sample, targets, count, float(second))
        count = decision.count
    assert 5 == count
    assert "420 messages wait, target 100 a server" == decision.load


def test_killed_servers_are_no_capacity() -> None:
    state, count = autoscale.State(), 3
    for second in range(12):
        sample = demand.Sample(float(second), 2, lost=1, arrivals=400.0, service_seconds=0.1)
        state, decision = autoscale.decide(state, sample, TARGETS, count, float(second))
        count = decision.count
    assert 4 == count
