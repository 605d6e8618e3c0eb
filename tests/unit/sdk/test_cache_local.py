"""What a process keeps itself: bounds, evictions by recorded traces, expiry, and honest sizes."""

import gc
import random
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from support import recorded_traces
from tenfold import position
from tenfold.sdk.cache import entries, eviction, expiry, local, values

AT = position.Position(0, 1, 1, 100)


def kept(key: str, value: Any = "x", dies_at: float = 1e9, *, codec: values.Codec = values.UNTYPED) -> local.Kept:
    entry = entries.Entry(codec.encode(value), AT, (1, 2), 0.0, dies_at, dies_at)
    return local.Kept(key, entry, codec, value, is_live=codec.is_fixed(value))


RATIOS = {
    "zipf 0.9": {"fifo": 32.4, "lru": 35.7, "lfu": 45.4, "s3fifo": 45.7},
    "a hot set that shifts 9 times": {"fifo": 32.0, "lru": 35.0, "lfu": 19.0, "s3fifo": 36.2},
}


@pytest.mark.parametrize("policy", eviction.POLICIES)
def test_an_eviction_has_what_its_policy_can_have(policy: str) -> None:
    found = {name: recorded_traces.hit_ratio(policy, trace) for name, trace in recorded_traces.ALL.items()}

    assert {name: pytest.approx(ratios[policy], abs=0.4) for name, ratios in RATIOS.items()} == {
        name: 100 * one for name, one in found.items()
    }


def test_lru_fifo_and_lfu_go_in_their_orders() -> None:
    def victims(policy: str) -> str:
        order = eviction.POLICIES[policy]()
        items = {key: recorded_traces.Item(key) for key in "abcd"}
        for item in items.values():
            order.add(item)
        for key in "aacb":
            items[key].uses += 1
            if order.touched is not None:
                order.touched(items[key])
        order.remove(items["d"])
        return "".join(order.victim().key for _ in range(3))

    assert {"fifo": "abc", "lru": "acb", "lfu": "bca"} == {one: victims(one) for one in ("fifo", "lru", "lfu")}


@pytest.mark.parametrize("policy", eviction.POLICIES)
def test_whatever_happens_the_bounds_hold_and_the_books_are_right(policy: str, chance: random.Random) -> None:
    made = local.Local(200_000, policy, most_entries=120)
    table = local.Table()
    clock = 0.0
    for _ in range(3000):
        clock += 0.01
        one = made.get(f"k{chance.randrange(300)}")
        action = chance.random()
        if one is not None and action < 0.3:
            made.hit(one)
        elif one is not None and action < 0.4:
            made.drop(one)
        elif one is not None and action < 0.6:
            made.alias(one, table, (one.key, chance.randrange(3)))
        else:
            key = f"k{chance.randrange(300)}"
            made.keep(kept(key, "x" * chance.randrange(2000), clock + chance.random() * 20), clock)
        if action > 0.95:
            made.sweep(clock, lambda: False)
            made.resize(
                chance.choice([50_000, 200_000]), chance.choice(list(eviction.POLICIES)), chance.choice([20, 120])
            )
        assert made.bytes <= made.most_bytes
        assert made.most_entries is not None
        assert made.count <= made.most_entries

    there = [one for shard in made._shards for one in shard.values()]
    assert made.count == len(there)
    assert made.bytes == sum(one.size + sum(size for *_, size in one.aliases) for one in there)
    assert set(table) == {arguments for one in there for _, arguments, _ in one.aliases}
    made.clear()
    assert (0, 0, 0) == (made.bytes, made.count, len(table))


def test_a_value_larger_than_the_cache_is_not_kept_and_pushes_nothing_out() -> None:
    made = local.Local(10_000, "lru")
    assert made.keep(kept("small"), 0.0)
    assert not made.keep(kept("large", "x" * 20_000), 0.0)
    assert made.get("small") is not None


@pytest.mark.parametrize("make", [lambda number: f"value {number}", lambda number: {"id": number, "name": "x" * 200}])
def test_what_is_counted_is_what_it_takes(make: Callable[[int], Any]) -> None:
    made, count = local.Local(2**30, "s3fifo"), 1000
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(count):
        at = position.Position(0, 1, 1, 10**9 + number)
        packed = values.UNTYPED.encode(make(number))
        now = time.time()
        entry = entries.Entry(packed, at, (number + 1000, number + 2000), now, now + 60.1, now + 90.1, 0.001)
        value = make(number)
        is_live = values.UNTYPED.is_fixed(value)
        made.keep(local.Kept(f"product:{number}", entry, values.UNTYPED, value, is_live=is_live), now)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    assert 0.85 < made.bytes / taken < 1.35


def test_what_has_died_is_swept_once_each_and_in_slices() -> None:
    made = local.Local(2**30, "fifo")
    for number in range(100):
        made.keep(kept(f"k{number}", dies_at=10.0 + number / 10), 0.0)
    assert made.sweep(9.0, lambda: False)
    assert 100 == made.count

    assert not made.sweep(30.0, lambda: True)
    assert 99 == made.count
    assert made.sweep(30.0, lambda: False)
    assert (0, 100) == (made.count, made.expirations)


def test_no_turn_of_the_loop_sweeps_for_longer_than_a_millisecond() -> None:
    """In processor time: what else this machine does is not ours to measure."""
    made = local.Local(2**31, "s3fifo")
    for number in range(6000):
        made.keep(kept(f"k{number}", dies_at=1.0), 0.0)
    longest = 0.0
    is_done = False
    gc.disable()
    while not is_done:
        began = time.thread_time()
        until = time.perf_counter() + local.SLICE_SECONDS
        is_done = made.sweep(100.0, lambda until=until: time.perf_counter() > until)  # type: ignore[misc]
        longest = max(longest, time.thread_time() - began)
    gc.enable()

    assert 0 == made.count
    assert longest < 0.001


class Mortal:
    """Something that dies."""

    bucket = (0.0, 0)


def test_nothing_is_due_before_it_dies_and_everything_soon_after(chance: random.Random) -> None:
    made, now = expiry.Expiry(), 1000.0
    dying: dict[Mortal, float] = {}
    for _ in range(1000):
        now += chance.choice([0.01, 0.01, 5.0, 400.0 * (chance.random() < 0.05)])
        while (one := made.due(now)) is not None:
            assert isinstance(one, Mortal)
            assert dying.pop(one) <= now
        life = chance.choice([0.5, 30.0, 3600.0, 86400.0])
        assert all(at + 86400 / 128 > now for at in dying.values() if at < now)
        born = Mortal()
        dying[born] = now + life * chance.random()
        made.add(born, now, dying[born])
        if chance.random() < 0.3:
            gone = chance.choice(list(dying))
            made.remove(gone)
            del dying[gone]
    while made.due(now + 200_000) is not None:
        dying.popitem()
    assert {} == dying
