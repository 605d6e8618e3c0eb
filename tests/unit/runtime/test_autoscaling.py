"""One iteration of autoscaling: what it samples, decides, records and says; and what it leaves alone."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from tenfold.controllers import autoscale
from tenfold.engines.haproxy import admin as haproxy
from tenfold.observation import load
from tenfold.runtime import autoscaling, backlog, events, signals, traffic
from tenfold.topology import load as loading
from tenfold.topology import tiers

pytestmark = pytest.mark.anyio

TOPOLOGY = loading.parse(
    '[service]\nname = "shop"\napp = "shop.web:app"\n[balancer]\n'
    "[web]\nservers = { min = 2, max = 6 }\nmax_requests = 20\n[database]\npool_size = 5\n"
)


class World:
    """A runtime with nothing below it: the sampler says what the test says."""

    def __init__(self) -> None:
        self.journal = events.Journal(None)
        self.topology: tiers.Topology = TOPOLOGY
        self.seats: Any = None
        self.sampler: Any = self
        self.said: Any = None
        self.is_free = True

    def may_scale(self, *, is_out: bool) -> bool:
        return self.is_free

    def decide(self, counts: Mapping[str, int]) -> None:
        self.topology = self.topology.decided(counts)

    async def scale(self) -> None:
        raise AssertionError("once only decides")

    async def sample(self, _: Any) -> None: ...


@pytest.fixture
def scaler(monkeypatch: pytest.MonkeyPatch) -> autoscaling.Autoscaler:
    async def nothing(*_: Any) -> None: ...

    world = World()
    made = autoscaling.Autoscaler(world)
    monkeypatch.setattr(made._queues, "look", nothing)
    monkeypatch.setattr(signals, "_wanted", lambda *_: ())
    monkeypatch.setattr(signals.Signals, "sample", _sample)
    return made


def _sample(_: signals.Signals, tier: str, places: Any, said: Any, waiting: backlog.Seen | None) -> Any:
    return said


def _of_rate(scaler: autoscaling.Autoscaler, at: float, rate: float) -> None:
    world: Any = scaler._world
    world.said = dataclasses.replace(SAMPLE, at=at, arrivals=rate, answers=rate)


SAMPLE = signals.demand.Sample(0.0, 2, arrivals=0.0, answers=0.0, service_seconds=0.1)


async def test_a_decision_is_an_event_and_a_reason(scaler: autoscaling.Autoscaler) -> None:
    found: dict[str, int] = {}
    for second, rate in enumerate((40.0, 40.0, 40.0, 600.0, 600.0)):
        _of_rate(scaler, float(second), rate)
        found = await scaler.once(float(second))

    said = [one.text for one in scaler._world.journal.recent if one.kind == "scaling"]
    assert {"web": 5} == found
    assert ["web 2 -> 5: 60.0 at once, target 14 a server"] == said
    assert said[0] == scaler.status()[0]["reason"]


async def test_another_change_goes_first_and_is_not_forgotten(scaler: autoscaling.Autoscaler) -> None:
    world: Any = scaler._world
    world.is_free = False
    for second in range(5):
        _of_rate(scaler, float(second), 600.0)
        assert {} == await scaler.once(float(second))
    world.is_free = True
    _of_rate(scaler, 5.0, 600.0)

    assert {"web": 5} == await scaler.once(5.0)


async def test_more_than_may_be_is_a_condition(scaler: autoscaling.Autoscaler) -> None:
    for second in range(4):
        _of_rate(scaler, float(second), 6000.0)
        scaler._world.decide(await scaler.once(float(second)))

    assert ["web needs 43 servers and may have 6: 600.0 at once, target 14 a server"] == [
        one.text for one in scaler.troubles()
    ]


async def test_balancers_refuse_early_only_once_all_that_may_be_serve(scaler: autoscaling.Autoscaler) -> None:
    world: Any = scaler._world
    assert {"web": False} == scaler.full, "nothing is known yet"
    for second in range(4):
        _of_rate(scaler, float(second), 6000.0)
        scaler._world.decide(await scaler.once(float(second)))
    assert (6, {"web": False}) == (world.topology.web.count, scaler.full), "they start"
    world.said = dataclasses.replace(SAMPLE, at=5.0, serving=6, arrivals=6000.0, answers=6000.0)
    await scaler.once(5.0)
    assert {"web": True} == scaler.full
    world.said = dataclasses.replace(world.said, at=6.0, serving=5)
    await scaler.once(6.0)
    assert {"web": False} == scaler.full, "one of them is to come back"


@pytest.mark.parametrize("lie", ["NaN", float("nan"), float("inf"), -5.0, None, [], 1e308])
@pytest.mark.parametrize("name", ["busy_seconds", "queued_seconds", "requests", "in_flight", "window_seconds"])
async def test_a_web_process_that_lies_is_not_believed_and_stops_nothing(name: str, lie: Any) -> None:
    """The whole way of its figures: what it answers, the sample, the decision."""
    said: dict[str, Any] = {**_answer(), name: lie}
    if name in said["ever"]:
        said["ever"] = {**said["ever"], name: lie}
    try:
        word = load.Worker.of(said)
    except (KeyError, TypeError, ValueError):
        return  # as the sampler does: it is left out
    targets = signals.targets("web", TOPOLOGY)
    state, count = autoscale.State(), 2
    honest = {("web-1", 7, 1): (0.0, load.Worker.of(_answer()))}
    before = signals._counted("web", _said(0.0, 0, honest), honest, ())
    for second in range(1, 8):
        words = {("web-1", 7, 1): (float(second), word)}
        told = _said(float(second), 40 * second, words)
        now = signals._counted("web", told, words, ())
        found = signals._of_web("web", told, [word], now, before)
        before = now
        sample = signals.demand.Sample(float(second), 2, **found)
        state, decision = autoscale.decide(state, sample, targets, count, float(second))
        count = decision.count
        assert 2 <= count <= 6


async def test_a_new_runtime_knows_the_last_reason_by_the_journal(scaler: autoscaling.Autoscaler) -> None:
    scaler._world.journal.say("scaling", "web 2 -> 4: because", subject="web")

    assert "web 2 -> 4: because" == scaler.status()[0]["reason"]


def test_rates_are_between_two_samples_and_what_waits_is_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    words = {("web-1", 7, pid): (10.0, _word(pid, requests=100 * pid, waiting=2)) for pid in (1, 2)}
    later = {("web-1", 7, pid): (12.0, _word(pid, requests=100 * pid + 30, waiting=3)) for pid in (1, 2)}
    before = signals._counted("web", _said(10.0, 500, words), words, ())
    said = _said(12.0, 620, later)
    now = signals._counted("web", said, later, ())

    found = signals._of_web("web", said, [word for _, word in later.values()], now, before)

    assert (60.0, 30.0, 10) == (found["arrivals"], found["answers"], found["backlog"])
    assert 0.25 == found["service_seconds"]


def test_a_balancer_that_began_anew_brings_no_negative_rate() -> None:
    before = signals._counted("web", _said(10.0, 500, {}), {}, ())
    said = _said(12.0, 3, {})

    found = signals._of_web("web", said, [], signals._counted("web", said, {}, ()), before)

    assert (0.0, None, None) == (found["arrivals"], found["answers"], found["service_seconds"])


def _answer() -> dict[str, Any]:
    """What a web process answers."""
    found = dataclasses.asdict(_word(1, requests=10, waiting=0))
    return {**found, "latencies": list(found["latencies"].items())}


def _word(pid: int, *, requests: int, waiting: int) -> load.Worker:
    return load.Worker(
        pid=pid,
        window_seconds=10.0,
        in_flight=5,
        waiting_for_primary=0,
        streams=0,
        max_requests=20,
        requests=40,
        answers_4xx=0,
        answers_5xx=0,
        shed=0,
        busy_seconds=10.0,
        queued_seconds=0.0,
        latencies={0.25: 40},
        ever=load.Ever(requests=requests),
        queue={},
        at_door=waiting,
    )


def _said(at: float, arrivals: int, words: Mapping[Any, Any]) -> traffic.Said:
    group = haproxy.Load(0, 4, 0, 0, 0, 0, 0, 0, 0, 0, arrivals=arrivals, bytes=0)
    return traffic.Said(at, {"balancer-1": haproxy.Traffic(group, {"web": group})}, words)
