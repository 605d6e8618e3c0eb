"""The floors: which entries pass, what a table knows, and that no order of events lets a stale one through."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import modelled_log
from tenfold import errors, position
from tenfold.sdk.cache import channel, delivery, entries, table
from tenfold.sdk.cache.parts import Verdict

SWITCHED = position.History(((1, 500),))
"""Timeline 1 was left at 500."""


def at(lsn: int, timeline: int = 1, epoch: int = 1) -> position.Position:
    return position.Position(0, epoch, timeline, lsn)


def entry(stamp: position.Position | None, *slots: int) -> entries.Entry:
    return entries.Entry(b"", stamp, slots or (1, 2), 0, 1, 1)


def known(lsn: int = 100, timeline: int = 1, *, is_replica: bool = False) -> table.Table:
    """A table that has read everything up to there."""
    made = table.Table()
    made.learn([], at(lsn, timeline), is_replica=is_replica, since=None)
    made.trust()
    return made


def test_an_entry_passes_only_above_every_floor_of_its_slots() -> None:
    floors = known()
    floors.raise_to(at(200), [2])

    assert [False, False, True] == [floors.allows(entry(at(lsn)), None) for lsn in (199, 200, 201)]
    assert floors.allows(entry(at(150), 1, 3), None)


def test_a_floor_is_never_lowered() -> None:
    floors = known()
    floors.raise_to(at(200), [2])
    before = floors.version
    floors.raise_to(at(150), [2])

    assert before == floors.version
    assert not floors.allows(entry(at(200)), None)


def test_without_a_stamp_an_entry_passes_while_its_slots_have_no_floor() -> None:
    floors = known()
    assert floors.allows(entry(None), None)
    assert Verdict.OLDER is floors.judge(entry(None, 1), at(1))

    floors.raise_to(at(1), [2])

    assert Verdict.STALE is floors.judge(entry(None), None)


def test_nobody_is_given_anything_before_everything_was_read_or_while_trust_is_lost() -> None:
    floors = table.Table()
    assert Verdict.UNTRUSTED is floors.judge(entry(at(10**9)), None)
    floors = known()
    floors.distrust()
    assert Verdict.UNTRUSTED is floors.judge(entry(at(10**9)), None)


def test_every_change_of_what_may_be_given_raises_the_version() -> None:
    floors = table.Table()
    seen = [floors.version]
    for change in (
        lambda: floors.learn([], at(100), is_replica=False, since=None),
        floors.trust,
        lambda: floors.raise_to(at(200), [2]),
        floors.distrust,
        floors.trust,
        lambda: floors.raise_to(at(300, timeline=2), [3]),
    ):
        change()
        seen.append(floors.version)

    assert sorted(set(seen)) == seen


def test_a_session_waits_until_the_table_is_complete_and_others_do_not() -> None:
    floors = known(100)
    tagged = entry(at(50))

    assert Verdict.FRESH is floors.judge(tagged, None)
    assert Verdict.FRESH is floors.judge(tagged, at(99))
    assert Verdict.BEHIND is floors.judge(tagged, at(100)), "a primary may hide what is flushed exactly there"
    floors.learn([], at(100), is_replica=True, since=floors.since)
    assert Verdict.FRESH is floors.judge(tagged, at(100)), "a replica shows all that it has replayed"
    assert Verdict.BEHIND is floors.judge(tagged, at(101))


def test_without_tags_a_value_must_be_newer_than_what_the_session_wrote() -> None:
    floors = known()

    assert [Verdict.OLDER, Verdict.OLDER, Verdict.FRESH] == [
        floors.judge(entry(at(lsn), 1), at(200)) for lsn in (199, 200, 201)
    ]


def test_a_row_without_a_floor_counts_as_now_and_is_raised_again() -> None:
    floors = known()
    floors.learn([table.Row(2, None, None)], at(300), is_replica=True, since=floors.since)
    assert [False, True] == [floors.allows(entry(at(lsn)), None) for lsn in (300, 301)]

    assert 300 == floors.since
    floors.learn([table.Row(2, 1, 350)], at(400), is_replica=True, since=floors.since)

    assert [False, True] == [floors.allows(entry(at(lsn)), None) for lsn in (350, 351)]


def test_what_was_deleted_is_stale_for_whoever_starts_later() -> None:
    floors = table.Table()
    floors.learn([table.Row(-1, 1, 80), table.Row(5, 1, 90)], at(100), is_replica=False, since=None)
    floors.trust()

    assert [False, True] == [floors.allows(entry(at(lsn)), None) for lsn in (80, 81)]


def test_after_a_failover_nothing_is_given_until_everything_was_read_anew() -> None:
    floors = known(600)
    floors.history = SWITCHED
    assert floors.enter(1, 2)

    assert (False, None, False) == (floors.is_trusted, floors.since, floors.is_complete(at(1)))
    assert not floors.learn([], at(590), is_replica=True, since=None), "that node has not gone over"
    assert floors.learn([], at(510, timeline=2), is_replica=False, since=floors.since)
    floors.trust()
    assert [True, True, False] == [floors.allows(entry(at(lsn)), None) for lsn in (400, 500, 501)]
    assert floors.allows(entry(at(505, timeline=2)), None)
    assert floors.is_complete(at(10_000)), "what was beyond the switch point is lost, or it is before it"


def test_a_floor_beyond_the_point_where_its_timeline_was_left_is_one_at_that_point() -> None:
    floors = known(510, timeline=2)
    floors.history = SWITCHED
    floors.raise_to(at(900), [2])

    assert [False, True] == [floors.allows(entry(at(lsn, timeline=2)), None) for lsn in (500, 501)]


def test_of_an_older_epoch_nothing_is_given_and_of_a_newer_one_only_what_is_surely_newer() -> None:
    floors = known(100)
    assert floors.learn([], at(50, epoch=2), is_replica=False, since=None)
    floors.trust()

    assert not floors.allows(entry(at(10**9)), None)
    assert [False, True] == [floors.allows(entry(at(lsn, epoch=2)), None) for lsn in (50, 51)]
    assert not floors.allows(entry(at(10**9, epoch=3)), None)


def test_an_entry_of_another_shard_is_not_compared() -> None:
    assert not known().allows(entry(position.Position(1, 1, 1, 10**9)), None)


def test_tags_and_keys_have_slots_of_their_own_that_no_process_disagrees_about() -> None:
    floors = table.Table()

    assert (7650, 47807, 63326) == floors.slots_of("product:1", ["product:1", "ünïcode"])
    slots = {table.slot_of_tag(f"product:{number}") for number in range(10_000)}
    assert 9_000 < len(slots), "10,000 tags in 65,536 slots: 7 % share one by chance"


@given(st.lists(st.integers(0, table.SLOTS - 1), min_size=1, max_size=9000), st.integers(1, 2**60))
@settings(max_examples=20, deadline=None)
def test_what_the_channel_is_told_is_what_it_tells(slots: list[int], lsn: int) -> None:
    said = channel.encode(at(lsn), slots)
    told = [channel.decode(one.encode()) for one in said]

    assert all(len(one) < 7999 for one in said)
    assert {at(lsn)} == {floor for floor, _ in told}
    assert slots == [slot for _, part in told for slot in part]


@pytest.mark.parametrize("said", ["", "x", "0.1.1.A", "0.1.1.A !!", "0.1.1.A QQ==", "a.b.c.d AAAA", "0.1.1.A \u00fc"])
def test_what_nobody_has_said_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        channel.decode(said)


@pytest.mark.parametrize("wrong", [{"tags": "product:1"}, {"keys": "product:1"}, {"tags": [1]}, {"keys": [None]}])
def test_a_text_in_the_place_of_a_list_is_a_mistake(wrong: dict[str, object]) -> None:
    with pytest.raises(errors.MisuseError, match="texts in a list expected"):
        delivery.slots_of(**{"tags": (), "keys": (), **wrong})  # type: ignore[arg-type]


Event = tuple[str, int]

EVENTS = (
    ["begin", "end", "replay", "stamp", "load", "session"] * 3
    + ["deliver", "push", "read primary", "read replica"]
    + ["fail over"]
)


def story(chance: random.Random) -> list[Event]:
    """Anything in any order: two slots, and of what went before mostly what was last."""
    return [(chance.choice(EVENTS), int(chance.expovariate(0.5)) % 8) for _ in range(60)]


def stale_ones(
    events: list[Event], floors: table.Table, early: bool = False, only_at_the_end: bool = False
) -> list[entries.Entry]:
    """What a process would have given away that lacks an acknowledged write, at some moment of such a story.

    It hears of some floors by its channel, of others only by reading, on either node, in the middle of it all.
    """
    log = modelled_log.Log()
    stamps: list[tuple[bool, position.Position, int]] = []
    floors.learn([], log.at(is_replica=False), is_replica=False, since=None)
    floors.trust()
    found: list[entries.Entry] = []
    for what, number in events:
        happen(log, stamps, floors, what, number, early)
        found += [] if only_at_the_end else given_away(log, floors)
    return found + given_away(log, floors)


def happen(
    log: modelled_log.Log,
    stamps: list[tuple[bool, position.Position, int]],
    floors: table.Table,
    what: str,
    number: int,
    early: bool,
) -> None:
    is_replica = bool(number % 2)
    if what == "begin":
        log.begin(slot=number % 2)
    elif what == "replay":
        log.replay(by=5 * number)
    elif what == "stamp":
        stamps.append((is_replica, log.at(is_replica=is_replica), log.timeline))
    elif what == "load" and stamps:
        on_replica, stamp, timeline = stamps.pop(number % len(stamps))
        if timeline == log.timeline:  # who read while the nodes changed has lost its connection
            log.load(stamp, number // 2 % 2, is_replica=on_replica)
    elif what == "fail over" and number < 2:
        log.fail_over()
    elif what.startswith("read"):
        read(log, floors, is_replica=what == "read replica")
    elif log.writes:
        happen_to(log.writes[-1 - number % len(log.writes)], log, floors, what, early)


def happen_to(write: modelled_log.Write, log: modelled_log.Log, floors: table.Table, what: str, early: bool) -> None:
    if what == "end":
        log.end(write)
    elif what == "deliver":
        log.deliver(write)
    elif write.floor is not None and what == "push":
        floors.history = log.history
        floors.raise_to(replace(write.floor, lsn=write.record - 1) if early else write.floor, [write.slot])
    elif write.floor is not None and what == "session":
        has_come = position.reached(log.at(is_replica=True), write.floor, log.history)
        read(log, floors, is_replica=has_come and write.slot == 1)


def read(log: modelled_log.Log, floors: table.Table, *, is_replica: bool) -> None:
    """The position first, then the rows. (A write in between would only show more.)"""
    at_first = log.at(is_replica=is_replica)
    floors.history = log.history
    floors.enter(at_first.epoch, at_first.timeline)
    since = floors.since
    if floors.learn(log.rows(since, is_replica=is_replica), at_first, is_replica=is_replica, since=since):
        floors.trust()


def given_away(log: modelled_log.Log, floors: table.Table) -> list[entries.Entry]:
    """Entries that a session would get which has come to a write that they do not reflect."""
    acknowledged = [one for one in log.writes if one.floor is not None and not one.is_lost]
    return [
        made
        for made, reflects in log.made
        for write in acknowledged
        if write.slot == made.slots[0] and write not in reflects and floors.allows(made, write.floor)
    ]


def test_no_story_lets_a_session_have_what_it_has_made_stale(chance: random.Random) -> None:
    for number in range(500):
        events = story(chance)
        assert [] == stale_ones(events, table.Table()), f"story {number}: {events}"


SYNC_WAIT: list[Event] = [("begin", 0), ("stamp", 0), ("load", 0), ("end", 0), ("push", 0), ("replay", 7)]
"""A COMMIT is flushed and waits; somebody stamps and loads the old value; the COMMIT returns, at the same position."""


class EqualPasses(table.Table):
    """The rule with one character less."""

    def raise_to(self, floor: position.Position, slots: object) -> None:
        super().raise_to(replace(floor, lsn=floor.lsn - 1), slots)  # type: ignore[arg-type]

    def is_complete(self, wanted: position.Position) -> bool:
        return True


class Complete(table.Table):
    """A table that was pushed everything that is in this story, and so need not read."""

    def is_complete(self, wanted: position.Position) -> bool:
        return True


@pytest.mark.parametrize(
    ("make", "early", "expected"),
    [(Complete, False, 0), (EqualPasses, False, 1), (Complete, True, 1)],
    ids=["the rule", "equal passes", "the floor is taken before the commit returns"],
)
def test_while_a_commit_waits_only_the_exact_rule_is_safe(
    make: Callable[[], table.Table], early: bool, expected: int
) -> None:
    assert expected == len(stale_ones(SYNC_WAIT, make(), early, only_at_the_end=True))
