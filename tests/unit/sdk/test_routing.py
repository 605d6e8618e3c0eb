"""Which copy may answer a read: routing, levels, lag and proof, on sightings handed in."""

import random
from typing import Any

import pytest

from tenfold import bindings, errors, position, request
from tenfold.sdk.db import connect, levels, nodes, pool, primary, reads, routing
from tenfold.sdk.db.nodes import Sighting


async def nobody(timeout: float) -> Any:
    raise AssertionError("no connection is opened here")


def shard(*names: str) -> nodes.Shard:
    made = nodes.Shard(0, epoch=1, poke=lambda: None)
    for name in names:
        where = bindings.DatabaseNode(name=name, host=name)
        made.nodes[name] = nodes.Node(where, 0, pool.Pool(nobody, 4))
    return made


def see(group: nodes.Shard, name: str, at: float, role: str, lsn: int, timeline: int = 1, epoch: int = 1) -> None:
    is_primary = role in ("primary", "fenced")
    sighting = Sighting(at, is_primary, accepts_writes=role == "primary", timeline=timeline, lsn=lsn, epoch=epoch)
    group.saw(group.nodes[name], sighting)


def names(found: Any) -> list[str]:
    return [node.name for node in found]


class Way:
    """`reads.Reads` of one shard at one level, without a Database around it."""

    def __init__(self, group: nodes.Shard, level: levels.Level | None = None) -> None:
        self.shards = primary.Shards(connect.Connector())
        self.shards.by_number[0] = group
        self.shards.is_started = True
        self.reads = reads.Reads(self.shards, 0, level)

    def ready(self, serving: request.Request | None = None) -> str | None:
        node = self.reads.ready(serving)
        return None if node is None else node.name


def session(wanted: position.Position | None = None) -> request.Request:
    made = request.Request(is_known=True)
    if wanted is not None:
        made.seen = made.seen.raised([wanted])
    return made


def test_of_two_primaries_the_newer_timeline_counts_even_if_it_is_fenced() -> None:
    group = shard("a", "b")
    see(group, "a", 1, "primary", 500, timeline=1)
    assert group.writable is group.nodes["a"]
    see(group, "b", 1, "fenced", 100, timeline=2)

    assert group.primary is group.nodes["b"]
    assert group.writable is None


def test_an_old_primary_is_not_believed_while_the_new_one_is_out_of_sight() -> None:
    group = shard("old", "new")
    see(group, "old", 1, "primary", 500, timeline=1)
    see(group, "new", 2, "primary", 100, timeline=2)
    group.doubt(group.nodes["new"], 3)
    see(group, "old", 4, "primary", 600, timeline=1)
    assert group.primary is None
    see(group, "new", 5, "primary", 100, timeline=2)

    assert group.primary is group.nodes["new"]


def test_a_database_that_was_made_anew_is_believed_after_a_while() -> None:
    group = shard("a")
    see(group, "a", 1, "primary", 500, timeline=7)
    see(group, "a", 20, "primary", 100, timeline=1)
    assert group.primary is None
    see(group, "a", 1 + nodes.TIMELINE_SECONDS + 1, "primary", 100, timeline=1)

    assert group.primary is group.nodes["a"]


def test_timelines_count_within_one_epoch_only() -> None:
    group = shard("old", "new")
    see(group, "old", 1, "primary", 500, timeline=7)
    see(group, "new", 2, "primary", 100, timeline=2, epoch=2)
    see(group, "old", 3, "primary", 600, timeline=8)

    assert group.primary is group.nodes["new"]
    assert not group.proves(group.nodes["old"], position.Position(0, 2, 2, 50)), "a copy of an older epoch proves it"
    assert group.proves(group.nodes["new"], position.Position(0, 1, 7, 9999))


def test_replicas_of_ones_own_region_come_first_and_then_its_primary() -> None:
    group = shard("home-1", "home-2", "far-1", "far-2")
    for name in ("home-1", "home-2", "far-1", "far-2"):
        node = group.nodes[name]
        node.where = bindings.DatabaseNode(name=name, host=name, region=name.split("-")[0])
        see(group, name, 1, "primary" if name == "home-1" else "replica", 500)

    assert ["home-2"] == names(group.readable)
    group.lost(group.nodes["home-2"], "gone", is_certain=True)
    assert () == group.readable, "the region's own primary is nearer than another region's replicas"
    assert not group.is_away


def test_a_far_region_reads_its_own_replicas_and_goes_across_when_it_has_none() -> None:
    group = shard("home-1", "home-2", "far-1", "far-2")
    group.region = "far"
    for name in ("home-1", "home-2", "far-1", "far-2"):
        node = group.nodes[name]
        node.where = bindings.DatabaseNode(name=name, host=name, region=name.split("-")[0])
        see(group, name, 1, "primary" if name == "home-1" else "replica", 500)

    assert ["far-1", "far-2"] == names(group.readable)
    assert group.is_away
    for name in ("far-1", "far-2"):
        group.lost(group.nodes[name], "gone", is_certain=True)
    assert ["home-2"] == names(group.readable)


def test_an_answer_to_a_question_older_than_the_doubt_counts_for_nothing() -> None:
    group = shard("a")
    see(group, "a", 1, "primary", 500)
    group.doubt(group.nodes["a"], 2)
    see(group, "a", 1.9, "primary", 500)
    assert group.primary is None
    see(group, "a", 2.1, "primary", 500)

    assert group.primary is group.nodes["a"]


def test_a_replica_that_lags_leaves_the_reads_and_returns() -> None:
    group = shard("a", "b", "c")
    for at in range(30):
        see(group, "a", at, "primary", 100 + at)
        see(group, "b", at, "standby", 100 + at)
        see(group, "c", at, "standby", 100 + min(at, 10))
    lagging = names(group.readable)
    see(group, "c", 30, "standby", 129)

    assert ["b"] == lagging
    assert ["b", "c"] == names(group.readable)


def test_without_a_primary_any_replica_is_better_than_none() -> None:
    group = shard("a", "b")
    for at in range(30):
        see(group, "a", at, "primary", 100 + at)
    see(group, "b", 30, "standby", 100)
    group.lost(group.nodes["a"], "gone", is_certain=True)

    assert ["b"] == names(group.readable)


def test_lag_is_told_by_what_the_primary_was_asked_not_by_when_it_wrote() -> None:
    """An idle primary: its position stands still, and a replica at it reflects the newest answer."""
    group = shard("a", "b")
    see(group, "a", 1, "primary", 100)
    see(group, "b", 2, "standby", 100)
    see(group, "a", 50, "primary", 100)

    assert 50 == group.nodes["b"].reflects_at


def test_a_replica_of_another_timeline_reflects_nothing() -> None:
    group = shard("a", "b")
    see(group, "a", 1, "primary", 100, timeline=2)
    see(group, "b", 2, "standby", 900, timeline=1)

    assert float("-inf") == group.nodes["b"].reflects_at
    assert () == group.readable


def test_freshness_must_be_proved_by_what_was_seen() -> None:
    group = shard("a", "b")
    see(group, "a", 0, "primary", 50)
    see(group, "a", 1, "primary", 100)
    see(group, "b", 1, "standby", 99)
    wanted = position.Position(0, 1, 1, 100)

    assert Way(group).ready(session(wanted)) is None
    see(group, "b", 2, "standby", 100)
    assert "b" == Way(group).ready(session(wanted))
    group.doubt(group.nodes["b"], 3)
    assert "a" == Way(group).ready(session(wanted)), "only the primary is left, and is always fresh"


def test_a_node_that_does_not_say_its_timeline_proves_nothing() -> None:
    group = shard("a", "b")
    see(group, "b", 1, "standby", 10**9, timeline=0)

    assert not group.proves(group.nodes["b"], position.Position(0, 1, 1, 1))


def test_a_request_stays_on_its_copy_and_moves_only_to_the_primary() -> None:
    group = shard("a", "b", "c")
    for name, role in (("a", "primary"), ("b", "standby"), ("c", "standby")):
        see(group, name, 1, role, 100)
    serving = request.Request()
    way = Way(group, levels.EVENTUAL)

    first = way.ready(serving)
    assert {first} == {way.ready(serving) for _ in range(50)}
    assert first is not None
    group.doubt(group.nodes[first], 2)

    assert way.ready(serving) is None, "the other replica may be older: the wait for the primary decides"
    group.lost(group.nodes["a"], "gone", is_certain=True)
    assert way.ready(serving) in {"b", "c"} - {first}


def test_a_bound_is_kept_to_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loop:
        def time(self) -> float:
            return 10.0

    monkeypatch.setattr("asyncio.get_running_loop", Loop)
    group = shard("a", "b")
    see(group, "a", 9.8, "primary", 100)
    see(group, "b", 9.9, "standby", 100)

    assert "b" == Way(group, levels.bounded(0.3)).ready()
    assert Way(group, levels.bounded(0.1)).ready() is None


def test_an_unknown_client_reads_at_the_level_of_the_bindings() -> None:
    group = shard("a", "b")
    see(group, "a", 1, "primary", 100)
    see(group, "b", 1, "standby", 100)
    way = Way(group)
    way.shards.unknown_level = levels.PRIMARY

    assert "a" == way.ready(request.Request())
    assert "b" == way.ready(session())


def test_the_less_busy_of_two_replicas_is_taken() -> None:
    group = shard("a", "b")
    busy, idle = group.nodes.values()
    busy.pool._opening = 3

    assert {idle} == {routing.lightest([busy, idle]) for _ in range(20)}


def test_load_spreads_over_many_replicas() -> None:
    random.seed(1)
    group = shard(*"abcdef")
    counts = {name: 0 for name in "abcdef"}
    for _ in range(600):
        chosen = routing.lightest(list(group.nodes.values()))
        assert chosen is not None
        counts[chosen.name] += 1

    assert all(60 < count < 140 for count in counts.values()), counts


@pytest.mark.parametrize(
    ("written", "seconds", "expected"),
    [
        ("primary", None, levels.PRIMARY),
        ("session", None, levels.SESSION),
        ("eventual", None, levels.EVENTUAL),
        ("bounded", 0.2, levels.bounded(0.2)),
        ("bounded(0.2)", None, levels.bounded(0.2)),
        ("bounded(2s)", None, levels.bounded(2)),
        (levels.EVENTUAL, None, levels.EVENTUAL),
    ],
)
def test_a_level_may_be_written_as_a_word(written: Any, seconds: float | None, expected: levels.Level) -> None:
    assert expected == levels.parse(written, seconds)


@pytest.mark.parametrize(("written", "seconds"), [("bounded", None), ("primary", 1.0), ("strong", None), ("", None)])
def test_another_word_says_which_there_are(written: str, seconds: float | None) -> None:
    with pytest.raises(errors.MisuseError, match=r'"primary", "session", "eventual"'):
        levels.parse(written, seconds)


def test_without_a_primary_an_eventual_read_takes_any_copy_unless_its_value_is_stamped() -> None:
    group = shard("old", "new")
    see(group, "old", 1, "replica", 100)
    see(group, "new", 1, "replica", 300)
    way = Way(group, levels.EVENTUAL)
    serving = session(position.Position(0, 1, 1, 200))
    serving.pinned[0] = "gone"

    assert {"old", "new"} == {way.ready(serving) for _ in range(50)}
    serving.is_stamped = True
    assert {"new"} == {way.ready(serving) for _ in range(50)}
