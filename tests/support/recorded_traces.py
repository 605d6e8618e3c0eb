"""Traces of keys that were asked for, always the same ones, and how often an eviction has them."""

import bisect
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tenfold.sdk.cache import eviction

KEYS, ASKED, ROOM = 20_000, 50_000, 400


@dataclass(eq=False, slots=True)
class Item:
    """What is kept, reduced to what an eviction looks at."""

    key: str
    size: int = 1
    uses: int = 0
    level: int = 0
    before: Any = None
    after: Any = None


def zipf(shifts: int = 0) -> list[str]:
    """Keys by Zipf's law with exponent 0.9. With shifts the popular ones are others after each part of the trace."""
    chance = random.Random(42)
    weights = list(itertools.accumulate(1 / (rank + 1) ** 0.9 for rank in range(KEYS)))
    part = ASKED // (shifts + 1)
    return [
        f"k{(bisect.bisect(weights, chance.random() * weights[-1]) + number // part * 997) % KEYS}"
        for number in range(ASKED)
    ]


ALL = {"zipf 0.9": zipf(), "a hot set that shifts 9 times": zipf(9)}


def hit_ratio(policy: str, trace: list[str], room: int = ROOM) -> float:
    """The part of the trace that was there when it was asked for."""
    return sum(replayed(policy, trace, room)) / len(trace)


def replayed(policy: str, trace: list[str], room: int) -> Iterator[bool]:
    """For each key of the trace whether it was there. The room is never exceeded."""
    order = eviction.POLICIES[policy]()
    kept: dict[str, Item] = {}
    for key in trace:
        found = kept.get(key)
        yield found is not None
        if found is not None:
            found.uses += 1
            if order.touched is not None:
                order.touched(found)
            continue
        while len(kept) >= room:
            del kept[order.victim().key]
        kept[key] = Item(key)
        order.add(kept[key])
