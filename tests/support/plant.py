"""Servers, a queue and a load in simulated time, to see what `controllers/autoscale` makes of a curve.

A fluid model: so many requests a second come, each server works on `limit` of them at once for `service_seconds` each,
what is over that waits. New servers serve after `start_seconds`. A database, when there is one, answers only so many a
second, and everything waits for it.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tenfold.controllers import autoscale
from tenfold.observation import demand

Curve = Callable[[float], float]

STEP_SECONDS = 0.05


@dataclass
class Plant:
    targets: demand.Targets
    curve: Curve
    limit: int = 20
    service_seconds: float = 0.1
    start_seconds: float = 3.0
    database_per_second: float = math.inf
    sample_seconds: float = 1.0
    noise: float = 0.0
    """The standard deviation of what comes in `STEP_SECONDS`, as a share of it; a second's is less than a quarter."""
    seed: int = 1
    count: int = 0
    serving: int = 0
    backlog: float = 0.0
    counts: list[tuple[float, int]] = field(default_factory=list)
    decisions: list[tuple[float, autoscale.Decision]] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def run(self, seconds: float, lies: Callable[[float, demand.Sample], demand.Sample | None] | None = None) -> None:
        """From now (0) on."""
        chance = random.Random(self.seed)
        self.count = self.serving = self.began_with = self.count or self.targets.least
        state, serves_at, sampled_at = autoscale.State(), 0.0, 0.0
        arrived = answered = 0.0
        now = 0.0
        while now < seconds:
            now += STEP_SECONDS
            if self.serving != self.count and now >= serves_at:
                self.serving = self.count
            noise = chance.gammavariate(self.noise**-2, self.noise**2) if self.noise else 1.0
            came = self.curve(now) * noise * STEP_SECONDS
            able = min(self.serving * self.limit / self.service_seconds, self.database_per_second) * STEP_SECONDS
            done = min(able, self.backlog + came)
            self.backlog += came - done
            arrived, answered = arrived + came, answered + done
            self.waits.append(self.backlog / (done / STEP_SECONDS) if done else 0.0)
            if now - sampled_at >= self.sample_seconds - 1e-9:
                sample = self._sample(now, now - sampled_at, arrived, answered)
                sampled_at, arrived, answered = now, 0.0, 0.0
                told = lies(now, sample) if lies else sample
                state, decision = autoscale.decide(state, told, self.targets, self.count, now)
                if decision.count != self.count:
                    self.decisions.append((now, decision))
                    self.serving = min(self.serving, decision.count)
                    self.count, serves_at = decision.count, now + self.start_seconds
                elif decision.trouble:
                    self.decisions.append((now, decision))
                self.counts.append((now, self.count))
        self.state = state

    def _sample(self, now: float, window: float, arrived: float, answered: float) -> demand.Sample:
        rate = answered / window
        is_bound = rate >= 0.99 * self.database_per_second
        room = self.serving * self.limit
        service = room / rate if is_bound and self.backlog else self.service_seconds
        in_flight = min(room, rate * service)
        return demand.Sample(
            at=now,
            serving=self.serving,
            arrivals=arrived / window,
            answers=rate,
            backlog=self.backlog,
            in_flight=in_flight,
            service_seconds=service,
            queue_seconds=self.backlog / rate if rate else None,
            cores=0.1,
            database_busy=in_flight if is_bound else 0.0,
        )

    @property
    def changes(self) -> list[tuple[float, int]]:
        """When the number became which."""
        found, last = [], self.began_with
        for at, count in self.counts:
            if count != last:
                found.append((at, count))
                last = count
        return found

    def between(self, begin: float, end: float) -> list[int]:
        """The numbers at that time."""
        return [count for at, count in self.counts if begin <= at <= end]


def turns(counts: Iterable[int]) -> int:
    """How often a number that rose falls, or one that fell rises."""
    steps = [after - before for before, after in itertools.pairwise(counts) if after != before]
    return sum(one * other < 0 for one, other in itertools.pairwise(steps))
